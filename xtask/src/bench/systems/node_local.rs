//! NodeLocalDNS: CoreDNS under its Corefile. (node-cache itself is no Go module to install; the engine is the same.)

use std::fs;

use anyhow::{Context, Result};
use dns_cache_tests::{Process, addresses::CLUSTER_IP, addresses::OUTSIDE, tools};

use super::{Setting, Started, System, coredns_version, lab, link_local, on_link_local};

pub(super) const SYSTEM: System = System {
    key: "node-local-dns",
    title: "NodeLocalDNS (CoreDNS)",
    about: "CoreDNS on the node under NodeLocalDNS's Corefile, at 169.254.20.10 with its NOTRACK rules; the cluster's zones are forwarded over TCP to the ClusterIP",
    start,
};

fn start(_setting: &Setting) -> Result<Started> {
    let lab = lab();
    link_local::prepare(lab.node());
    let path = lab.scope().dir().join("Corefile.node-local");
    fs::write(&path, corefile()).context("writing the Corefile")?;
    let binary = tools::binary("coredns");
    let process = Process::start(
        lab.node().netns(),
        "node-local-dns",
        &binary,
        ["-conf".as_ref(), path.as_os_str()],
    );
    Ok(on_link_local(lab, process, coredns_version()))
}

/// kubernetes/cluster/addons/dns/nodelocaldns/nodelocaldns.yaml, its variables filled in.
fn corefile() -> String {
    let (local, cluster) = (link_local::IP, CLUSTER_IP.v4);
    let zone = |zone: &str, cache: &str| {
        format!(
            "{zone}:53 {{\n    errors\n    {cache}\n    reload\n    loop\n    bind {local}\n    \
             forward . {cluster} {{\n        force_tcp\n    }}\n    prometheus :9253\n{}}}\n",
            if zone == "cluster.local" {
                format!("    health {local}:8080\n")
            } else {
                String::new()
            }
        )
    };
    let cluster_cache = "cache {\n        success 9984 30\n        denial 9984 5\n    }";
    format!(
        "{}{}{}.:53 {{\n    errors\n    cache 30\n    reload\n    loop\n    bind {local}\n    forward . {}\n    prometheus :9253\n}}\n",
        zone("cluster.local", cluster_cache),
        zone("in-addr.arpa", "cache 30"),
        zone("ip6.arpa", "cache 30"),
        OUTSIDE.v4
    )
}
