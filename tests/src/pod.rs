//! A pod: a namespace on a veth pair.

use std::net::IpAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use crate::addresses::{CLUSTER_IP, Family, GATEWAY, Pair};
use crate::client::Client;
use crate::ip::veth_name;
use crate::netns::Netns;
use crate::node::{BRIDGE, Node};
use crate::or_panic::OrPanic;

/// How pods are connected to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// As the CNI plugin ptp does it: the gateway's address on every veth, a /32 and a /128 route a pod.
    Routed,
    /// As the CNI plugin bridge does it: veths enslaved to `cni0`, which has the gateway's address.
    Bridged,
}

impl Flavour {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Routed, Self::Bridged];
}

/// A pod. Dropping it removes it.
#[derive(Debug)]
pub struct Pod {
    netns: Arc<Netns>,
    node: Arc<Netns>,
    flavour: Flavour,
    veth: String,
    addresses: Pair,
    appeared: Instant,
}

impl Pod {
    /// A pod with these addresses on the node; its namespace is `dnsc-<id>-<name>`.
    #[must_use]
    pub(crate) fn new(node: &Node, name: &str, addresses: Pair, flavour: Flavour) -> Self {
        let netns = Arc::new(Netns::new(node.netns().scope(), name));
        let veth = veth_name();
        node.netns().ip(&format!(
            "link add {veth} type veth peer name eth0 netns {}\n",
            netns.name()
        ));
        let appeared = Instant::now();
        let pod = Self {
            netns,
            node: Arc::clone(node.netns()),
            flavour,
            veth,
            addresses,
            appeared,
        };
        pod.node.ip(&pod.host_side());
        pod.netns.ip(&pod.pod_side());
        pod.netns.write_resolv_conf(&resolv_conf());
        pod
    }

    /// Its namespace.
    #[must_use]
    pub const fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// The name of its veth in the node.
    #[must_use]
    pub fn veth(&self) -> &str {
        &self.veth
    }

    /// Its addresses.
    #[must_use]
    pub const fn addresses(&self) -> Pair {
        self.addresses
    }

    /// Its address of this family.
    #[must_use]
    pub const fn address(&self, family: Family) -> IpAddr {
        self.addresses.of(family)
    }

    /// When its veth had appeared in the node.
    #[must_use]
    pub const fn appeared(&self) -> Instant {
        self.appeared
    }

    /// A DNS client in it that asks the ClusterIP.
    #[must_use]
    pub fn client(&self, family: Family) -> Client {
        Client::new(Arc::clone(&self.netns), CLUSTER_IP.dns(family))
    }

    /// Runs a command in it, with the pod's `/etc/resolv.conf`, as `ip netns exec` does.
    #[must_use]
    pub fn exec(&self, command: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", self.netns.name()])
            .args(command)
            .output()
            .or_panic("running ip netns exec")
    }

    /// Gives it other addresses, as if it were another pod on the same veth.
    pub fn readdress(&mut self, addresses: Pair) {
        if self.flavour == Flavour::Routed {
            let Pair { v4, v6 } = self.addresses;
            self.node.ip(&format!(
                "route del {v4}/32 dev {veth}\nroute del {v6}/128 dev {veth}\n",
                veth = self.veth
            ));
        }
        self.netns.ip("addr flush dev eth0 scope global\n");
        self.addresses = addresses;
        if self.flavour == Flavour::Routed {
            self.node.ip(&self.host_routes());
        }
        self.netns.ip(&self.pod_side());
    }

    /// Takes its interface down, and sets it up again as the runtime had done.
    pub fn interrupt(&mut self) {
        self.netns.ip("link set eth0 down\n");
        self.readdress(self.addresses);
    }

    /// Drops every packet at it: silence, no RST, no ICMP.
    pub fn black_hole(&self) {
        self.firewall("-I");
    }

    /// Ends the silence.
    pub fn reachable(&self) {
        self.firewall("-D");
    }

    fn firewall(&self, action: &str) {
        for program in ["iptables", "ip6tables"] {
            for chain in ["INPUT", "OUTPUT"] {
                let rule = [action, chain, "-j", "DROP"];
                self.netns.succeed(Command::new(program).args(rule));
            }
        }
    }

    /// Gives it more addresses beside its own ones, which stay what it sends from unless told otherwise.
    pub fn add_addresses(&self, Pair { v4, v6 }: Pair) {
        if self.flavour == Flavour::Routed {
            self.node.ip(&format!(
                "route add {v4}/32 dev {veth}\nroute add {v6}/128 dev {veth}\n",
                veth = self.veth
            ));
        }
        // A deprecated address is nobody's choice.
        self.netns.ip(&format!(
            "addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad preferred_lft 0\n"
        ));
    }

    /// Puts back what goes with an interface that is down: routes, and addresses of IPv6.
    pub fn reconnect(&self) {
        self.node.ip(&self.host_side());
        self.netns.ip(&self.pod_side());
    }

    /// Takes its veth away at once, as the runtime does; its namespace goes with the value.
    pub fn remove(self) {}

    fn host_side(&self) -> String {
        let veth = &self.veth;
        match self.flavour {
            Flavour::Routed => {
                let Pair { v4, v6 } = GATEWAY;
                format!(
                    "addr replace {v4}/32 dev {veth}\naddr replace {v6}/128 dev {veth} nodad\nlink set {veth} up\n{}",
                    self.host_routes()
                )
            }
            Flavour::Bridged => format!("link set {veth} master {BRIDGE} up\n"),
        }
    }

    fn host_routes(&self) -> String {
        let (Pair { v4, v6 }, veth) = (self.addresses, &self.veth);
        format!("route replace {v4}/32 dev {veth}\nroute replace {v6}/128 dev {veth}\n")
    }

    fn pod_side(&self) -> String {
        let Pair { v4, v6 } = self.addresses;
        let Pair {
            v4: gateway4,
            v6: gateway6,
        } = GATEWAY;
        let (prefix4, prefix6, on_link) = match self.flavour {
            Flavour::Routed => (
                32,
                128,
                format!(
                    "route replace {gateway4} dev eth0 scope link\nroute replace {gateway6} dev eth0\n"
                ),
            ),
            Flavour::Bridged => (24, 64, String::new()),
        };
        format!(
            "addr replace {v4}/{prefix4} dev eth0\naddr replace {v6}/{prefix6} dev eth0 nodad\nlink set eth0 up\n{on_link}\
             route replace default via {gateway4}\nroute replace default via {gateway6}\n"
        )
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // A socket that is still open keeps the namespace, but not the veth.
        // No panic here: this also runs while one unwinds.
        let _ = Command::new("ip")
            .args(["-n", self.node.name(), "link", "del", &self.veth])
            .output();
    }
}

/// What the kubelet writes into a pod of the namespace `default`.
fn resolv_conf() -> String {
    let Pair { v4, v6 } = CLUSTER_IP;
    format!(
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver {v4}\nnameserver {v6}\noptions ndots:5\n"
    )
}
