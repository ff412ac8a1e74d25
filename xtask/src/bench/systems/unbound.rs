//! Unbound on the node.

use std::fs;

use anyhow::{Context, Result};
use dns_cache_tests::{Process, node_local};

use super::{Setting, Started, System, coredns_of, lab, on_link_local, version};
use crate::programs::find;

pub(super) const SYSTEM: System = System {
    key: "unbound",
    title: "Unbound",
    short: "Unbound",
    about: "Unbound on the node, 2 threads with so-reuseport, at 169.254.20.10 with NodeLocalDNS's NOTRACK rules; CoreDNS is asked over UDP",
    resolves: true,
    programs: false,
    only: None,
    start,
};

const CONFIGURATION: &str = include_str!("unbound.conf");

fn start(_setting: &Setting) -> Result<Started> {
    let lab = lab();
    node_local::prepare(lab.node(), &[node_local::IP.into()]);
    let dir = lab.scope().dir();
    let text = CONFIGURATION
        .replace("@DIR@", &dir.display().to_string())
        .replace("@LISTEN@", &node_local::IP.to_string())
        .replace("@FORWARD@", &coredns_of(&lab)?.ip().to_string());
    let path = dir.join("unbound.conf");
    fs::write(&path, text).context("writing Unbound's configuration")?;
    let binary = find("unbound").context("unbound is not there")?;
    let process = Process::start(
        lab.node().netns(),
        "unbound",
        &binary,
        ["-d".as_ref(), "-c".as_ref(), path.as_os_str()],
    );
    Ok(on_link_local(lab, process, version(&binary, "-V")))
}
