//! What a cluster has without a cache on the node.

use anyhow::Result;

use super::{Kept, Setting, Started, System, cluster_ip, coredns_version, lab};

pub(super) const SYSTEM: System = System {
    key: "coredns-kube-proxy",
    title: "CoreDNS by kube-proxy",
    short: "CoreDNS",
    about: "CoreDNS in a pod, reached at the ClusterIP by kube-proxy's iptables rules (DNAT, conntrack); the zone is a file in its memory",
    resolves: true,
    programs: false,
    only: None,
    start,
};

fn start(_setting: &Setting) -> Result<Started> {
    let lab = lab();
    let processes = lab.dns().replicas().iter().filter_map(|r| r.pid());
    Ok(Started {
        server: cluster_ip(),
        processes: processes.collect(),
        programs: None,
        version: coredns_version(),
        kept: Kept::Nothing,
        lab,
    })
}
