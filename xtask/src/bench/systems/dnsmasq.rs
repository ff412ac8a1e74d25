//! dnsmasq on the node.

use anyhow::{Context, Result};
use dns_cache_tests::{Process, node_local};

use super::{Setting, Started, System, coredns_of, lab, on_link_local, version};
use crate::programs::find;

pub(super) const SYSTEM: System = System {
    key: "dnsmasq",
    title: "dnsmasq",
    short: "dnsmasq",
    about: "dnsmasq on the node with 10,000 entries, at 169.254.20.10 with NodeLocalDNS's NOTRACK rules; CoreDNS is asked over UDP",
    resolves: true,
    programs: false,
    only: None,
    start,
};

fn start(_setting: &Setting) -> Result<Started> {
    let lab = lab();
    node_local::prepare(lab.node(), &[node_local::IP.into()]);
    let binary = find("dnsmasq").context("dnsmasq is not there")?;
    let arguments = [
        "--keep-in-foreground".to_owned(),
        // The machine's own configuration is not meant.
        "--conf-file=/dev/null".to_owned(),
        "--pid-file".to_owned(),
        "--user=root".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        format!("--listen-address={}", node_local::IP),
        format!("--server={}", coredns_of(&lab)?.ip()),
        "--cache-size=10000".to_owned(),
        "--dns-forward-max=10000".to_owned(),
        "--log-facility=-".to_owned(),
    ];
    let process = Process::start(lab.node().netns(), "dnsmasq", &binary, arguments);
    Ok(on_link_local(lab, process, version(&binary, "--version")))
}
