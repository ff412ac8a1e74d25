//! The limit: a tc program that sends the query back.

use anyhow::Result;
use dns_cache_tests::{Lab, Process, Upstream};

use super::{Setting, Started, System, cluster_ip, version};

pub(super) const SYSTEM: System = System {
    key: "reflect",
    title: "tc program that bounces",
    about: "the limit of this machine and this client: a tc program on the pod's veth that swaps addresses, sets the QR bit and sends the query back; it resolves nothing",
    start,
};

fn start(setting: &Setting) -> Result<Started> {
    let lab = Lab::builder()
        .pods(1)
        .replicas(0)
        .upstream(Upstream::Embedded)
        .start();
    let process = Process::start(
        lab.node().netns(),
        "reflect",
        &setting.agent,
        ["reflect", "--interface", lab.pod(0).veth()],
    );
    Ok(Started {
        server: cluster_ip(),
        // It sleeps: what answers is the kernel.
        processes: Vec::new(),
        programs: Some(process.pid()),
        version: version(&setting.agent, "--version"),
        kept: Some(Box::new(process)),
        lab,
    })
}
