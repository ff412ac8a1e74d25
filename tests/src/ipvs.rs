//! kube-proxy's IPVS mode for the kube-dns service: service addresses on a dummy device, real servers by masquerading.
//!
//! Takes a kernel with IPVS and dummy devices.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use crate::addresses::{CLUSTER_IP, Family, Pair};
use crate::node::Node;

/// The device that makes the service addresses the node's own, by kube-proxy's name.
const DEVICE: &str = "kube-ipvs0";

/// IPVS in place of the rules that kube-proxy makes otherwise.
#[derive(Debug)]
pub struct Ipvs<'a> {
    node: &'a Node,
}

impl<'a> Ipvs<'a> {
    /// Takes the node's rules away, and lets IPVS lead the service's addresses to these endpoints.
    #[must_use]
    pub fn of(node: &'a Node, endpoints: &[Pair]) -> Self {
        node.remove_rules();
        let netns = node.netns();
        // Debian's kernel has it as a module; built in, there is nothing to load.
        let _ = Command::new("modprobe").arg("ip_vs_rr").output();
        let Pair { v4, v6 } = CLUSTER_IP;
        netns.ip(&format!(
            "link add {DEVICE} type dummy\naddr add {v4}/32 dev {DEVICE}\naddr add {v6}/128 dev {DEVICE} nodad\n"
        ));
        // As kube-proxy sets it, so that netfilter tracks what IPVS translates.
        netns.sysctl("net/ipv4/vs/conntrack", "1");
        let mut rules = String::new();
        for family in Family::BOTH {
            let service = CLUSTER_IP.dns(family);
            for protocol in ["-u", "-t"] {
                let _ = writeln!(rules, "-A {protocol} {service} -s rr");
                for endpoint in endpoints {
                    let server = endpoint.dns(family);
                    let _ = writeln!(rules, "-a {protocol} {service} -r {server} -m");
                }
            }
        }
        netns.feed(Command::new("ipvsadm").arg("--restore"), &rules);
        Self { node }
    }

    /// Its table of connections and UDP exchanges: protocol and client of each.
    #[must_use]
    pub fn connections(&self) -> BTreeSet<String> {
        let mut list = Command::new("ipvsadm");
        list.args(["--list", "--connection", "--numeric"]);
        let text = self.node.netns().succeed(&mut list);
        text.lines()
            .filter_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                let [protocol @ ("UDP" | "TCP"), _, _, client, ..] = fields.as_slice() else {
                    return None;
                };
                Some(format!("{protocol} {client}"))
            })
            .collect()
    }
}
