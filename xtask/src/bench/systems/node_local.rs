//! NodeLocalDNS, as the lab has it.

use anyhow::Result;
use dns_cache_tests::addresses::{CLUSTER_IP, OUTSIDE};
use dns_cache_tests::node_local::{self, NodeLocalDns};

use super::{Setting, Started, System, coredns_version, lab, on_link_local};

pub(super) const SYSTEM: System = System {
    key: "node-local-dns",
    title: "NodeLocalDNS (CoreDNS)",
    short: "NodeLocalDNS",
    about: "CoreDNS on the node under NodeLocalDNS's Corefile, at 169.254.20.10 with its NOTRACK rules; the cluster's zones are forwarded over TCP to the ClusterIP",
    resolves: true,
    programs: false,
    only: None,
    start,
};

fn start(_setting: &Setting) -> Result<Started> {
    let lab = lab();
    let bind = [node_local::IP.into()];
    node_local::prepare(lab.node(), &bind);
    let [cluster, outside] = [CLUSTER_IP.v4, OUTSIDE.v4].map(|ip| ip.to_string());
    let server = NodeLocalDns::start(lab.node(), &bind, &cluster, &outside);
    Ok(on_link_local(lab, server.into_process(), coredns_version()))
}
