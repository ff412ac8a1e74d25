//! The link-local address of a node's DNS cache, and the rules that keep conntrack away from it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use dns_cache_tests::Node;

/// Where NodeLocalDNS listens.
pub(super) const IP: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
pub(super) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(IP, 53);

/// Gives the node the address and NodeLocalDNS's rules. Every server there gets them: without, it would be
/// slower.
pub(super) fn prepare(node: &Node) {
    // NodeLocalDNS makes a dummy interface for it, which not every kernel has; the way in is the same.
    node.netns().ip(&format!("addr add {IP}/32 dev lo\n"));
    let mut restore = Command::new("iptables-restore");
    node.netns().feed(restore.arg("--noflush"), &rules());
}

/// As node-cache installs them (cmd/node-cache/app/cache_app.go).
fn rules() -> String {
    let both = |rule: &dyn Fn(&str) -> String| rule("udp") + &rule("tcp");
    let raw_in =
        both(&|p| format!("-A PREROUTING -d {IP}/32 -p {p} -m {p} --dport 53 -j NOTRACK\n"));
    let raw_out = both(&|p| {
        format!(
            "-A OUTPUT -s {IP}/32 -p {p} -m {p} --sport 53 -j NOTRACK\n\
             -A OUTPUT -d {IP}/32 -p {p} -m {p} --dport 53 -j NOTRACK\n"
        )
    });
    let accept_in = both(&|p| format!("-A INPUT -d {IP}/32 -p {p} -m {p} --dport 53 -j ACCEPT\n"));
    let accept_out =
        both(&|p| format!("-A OUTPUT -s {IP}/32 -p {p} -m {p} --sport 53 -j ACCEPT\n"));
    format!("*raw\n{raw_in}{raw_out}COMMIT\n*filter\n{accept_in}{accept_out}COMMIT\n")
}
