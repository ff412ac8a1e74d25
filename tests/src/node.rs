//! The node: forwarding, kube-proxy's rules, conntrack, and a link to the outside.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::addresses::{Family, GATEWAY, NODE, OUTSIDE, Pair};
use crate::conntrack::Conntrack;
use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::patience::{LONG, slowness};
use crate::pod::Flavour;
use crate::rules;
use crate::scope::Scope;
use crate::snapshot::Snapshot;

/// The bridge of a node whose pods hang on one.
pub const BRIDGE: &str = "cni0";

/// The node's namespace.
#[derive(Debug)]
pub struct Node {
    netns: Arc<Netns>,
    outside: Arc<Netns>,
    flavour: Flavour,
}

impl Node {
    /// A node without pods and rules, with a link to the outside.
    #[must_use]
    pub(crate) fn new(scope: &Arc<Scope>, flavour: Flavour) -> Self {
        mount_bpffs(scope);
        let netns = Arc::new(Netns::new(scope, "node"));
        let outside = Arc::new(Netns::new(scope, "outside"));
        netns.run(|| {
            for (path, value) in [
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
            ] {
                crate::netns::sysctl(path, value);
            }
        });
        netns.ip(&format!(
            "link add up0 type veth peer name eth0 netns {outside}\n\
             addr add {}/24 dev up0\naddr add {}/64 dev up0 nodad\nlink set up0 up\n",
            NODE.v4,
            NODE.v6,
            outside = outside.name(),
        ));
        outside.ip(&format!(
            "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via {}\nroute add default via {}\n",
            OUTSIDE.v4, OUTSIDE.v6, NODE.v4, NODE.v6,
        ));
        netns.ip(&format!(
            "route add default via {}\nroute add default via {}\n",
            OUTSIDE.v4, OUTSIDE.v6
        ));
        if flavour == Flavour::Bridged {
            netns.ip(&format!(
                "link add {BRIDGE} address 0a:58:0a:f4:00:01 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
                 addr add {}/24 dev {BRIDGE}\naddr add {}/64 dev {BRIDGE} nodad\nlink set {BRIDGE} up\n",
                GATEWAY.v4, GATEWAY.v6,
            ));
        }
        Self {
            netns,
            outside,
            flavour,
        }
    }

    /// Its namespace.
    #[must_use]
    pub const fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// The namespace on the other end of its uplink.
    #[must_use]
    pub const fn outside(&self) -> &Arc<Netns> {
        &self.outside
    }

    /// How its pods are connected.
    #[must_use]
    pub const fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Loads kube-proxy's rules for these endpoints of kube-dns, in place of what was loaded.
    pub fn load_rules(&self, endpoints: &[Pair]) {
        for family in Family::BOTH {
            self.restore(family, &rules::kube_proxy(family, endpoints));
        }
    }

    /// Takes the rules away, as in the moment of kube-proxy's restart.
    pub fn remove_rules(&self) {
        for family in Family::BOTH {
            self.restore(family, rules::NONE);
        }
    }

    /// Takes kube-proxy's rules away; what the CNI masquerades it still does.
    pub fn remove_service_rules(&self) {
        for family in Family::BOTH {
            self.restore(family, &rules::without_services(family));
        }
    }

    /// What is in the node now that an agent could have changed.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    /// Panics with the differences if the node does not come to look like this again. The kernel takes
    /// namespaces, and the veths in them, apart in the background, one after the other for the whole machine: what is left
    /// over stays for good, so there is time.
    #[track_caller]
    pub fn assert_comes_back_to(&self, earlier: &Snapshot) {
        let end = Instant::now() + LONG * slowness();
        loop {
            let now = self.snapshot();
            if now == *earlier || Instant::now() > end {
                return earlier.assert_same(&now);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The node's conntrack table.
    #[must_use]
    pub fn conntrack(&self) -> Conntrack {
        Conntrack::new(Arc::clone(&self.netns))
    }

    /// The numbers and names of its interfaces.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        let text = self.netns.succeed(Command::new("ip").args(["-o", "link"]));
        text.lines()
            .filter_map(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned()))
            .collect()
    }

    fn restore(&self, family: Family, text: &str) {
        let program = match family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        self.netns.feed(&mut Command::new(program), text);
    }
}

/// A BPF file system of the lab's own: labs do not see each other's pins, and a dead one's go with it.
fn mount_bpffs(scope: &Scope) {
    let path = scope.dir().join("bpf");
    fs::create_dir(&path).or_panic(format_args!("making {}", path.display()));
    mount(
        Some("bpf"),
        &path,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .or_panic(format_args!(
        "mounting a BPF file system at {}",
        path.display()
    ));
}
