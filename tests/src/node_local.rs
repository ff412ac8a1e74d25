//! NodeLocalDNS: CoreDNS under its Corefile, behind its rules. (node-cache itself is no Go module to install; the engine
//! is the same.)

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::coredns;
use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::process::Process;
use crate::tools;

/// Where it listens.
pub const IP: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// The same with DNS's port.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(IP, 53);

/// Gives the node these addresses and NodeLocalDNS's rules.
pub fn prepare(node: &Node, addresses: &[IpAddr]) {
    for address in addresses {
        // NodeLocalDNS makes a dummy interface for it, which not every kernel has; the way in is the same.
        let host = host(*address);
        node.netns().ip(&format!("addr add {host} dev lo\n"));
        restore(node, *address, &rules(&host));
    }
}

/// Takes addresses and rules away, as it does when it is told to end.
pub fn remove(node: &Node, addresses: &[IpAddr]) {
    for address in addresses {
        let host = host(*address);
        node.netns().ip(&format!("addr del {host} dev lo\n"));
        restore(node, *address, &rules(&host).replace("-A ", "-D "));
    }
}

/// The network that is this address alone.
fn host(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}

fn restore(node: &Node, address: IpAddr, rules: &str) {
    let mut restore = Command::new(match address {
        IpAddr::V4(_) => "iptables-restore",
        IpAddr::V6(_) => "ip6tables-restore",
    });
    node.netns().feed(restore.arg("--noflush"), rules);
}

/// A running NodeLocalDNS.
#[derive(Debug)]
pub struct NodeLocalDns {
    process: Process,
    corefile: PathBuf,
}

impl NodeLocalDns {
    /// Starts it at addresses that the node has. `cluster` is what its own Service for CoreDNS leads to, `outside` who is
    /// asked for everything else.
    #[must_use]
    pub fn start(node: &Node, bind: &[IpAddr], cluster: &str, outside: &str) -> Self {
        let dir = node.netns().scope().dir();
        let corefile = dir.join("Corefile.node-local");
        fs::write(&corefile, text(bind, cluster, outside)).or_panic("writing the Corefile");
        let binary = tools::binary("coredns");
        let args = ["-conf".as_ref(), corefile.as_os_str()];
        let process = Process::start(node.netns(), "node-local-dns", &binary, args);
        Self { process, corefile }
    }

    /// Its Corefile.
    #[must_use]
    pub fn corefile(&self) -> &Path {
        &self.corefile
    }

    /// How many queries it was asked since its start.
    #[must_use]
    pub fn requests(&self, node: &Node) -> u64 {
        coredns::requests_at(node.netns(), 9253)
    }

    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// The process, for who needs no more.
    #[must_use]
    pub fn into_process(self) -> Process {
        self.process
    }
}

/// As node-cache installs them (cmd/node-cache/app/cache_app.go).
fn rules(ip: &str) -> String {
    let both = |rule: &dyn Fn(&str) -> String| rule("udp") + &rule("tcp");
    let raw_in = both(&|p| format!("-A PREROUTING -d {ip} -p {p} -m {p} --dport 53 -j NOTRACK\n"));
    let raw_out = both(&|p| {
        format!(
            "-A OUTPUT -s {ip} -p {p} -m {p} --sport 53 -j NOTRACK\n\
             -A OUTPUT -d {ip} -p {p} -m {p} --dport 53 -j NOTRACK\n"
        )
    });
    let accept_in = both(&|p| format!("-A INPUT -d {ip} -p {p} -m {p} --dport 53 -j ACCEPT\n"));
    let accept_out = both(&|p| format!("-A OUTPUT -s {ip} -p {p} -m {p} --sport 53 -j ACCEPT\n"));
    format!("*raw\n{raw_in}{raw_out}COMMIT\n*filter\n{accept_in}{accept_out}COMMIT\n")
}

/// kubernetes/cluster/addons/dns/nodelocaldns/nodelocaldns.yaml, its variables filled in.
fn text(bind: &[IpAddr], cluster: &str, outside: &str) -> String {
    let addresses: Vec<_> = bind.iter().map(ToString::to_string).collect();
    let bind = addresses.join(" ");
    let mut text = String::new();
    let cluster_cache = "cache {\n        success 9984 30\n        denial 9984 5\n    }";
    for (zone, cache) in [
        ("cluster.local", cluster_cache),
        ("in-addr.arpa", "cache 30"),
        ("ip6.arpa", "cache 30"),
    ] {
        let _ = write!(
            text,
            "{zone}:53 {{\n    errors\n    {cache}\n    reload\n    loop\n    bind {bind}\n    \
             forward . {cluster} {{\n        force_tcp\n    }}\n    prometheus :9253\n"
        );
        if zone == "cluster.local" {
            let _ = writeln!(text, "    health {IP}:8080");
        }
        text += "}\n";
    }
    let _ = write!(
        text,
        ".:53 {{\n    errors\n    cache 30\n    reload\n    loop\n    bind {bind}\n    forward . {outside}\n    prometheus :9253\n}}\n"
    );
    text
}
