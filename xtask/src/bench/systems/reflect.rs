//! The limit: a tc program that sends the query back.

use anyhow::Result;
use dns_cache_tests::{Lab, Pod, Process, Upstream};

use super::{Kept, PODS, Setting, Started, System, cluster_ip, version};

pub(super) const SYSTEM: System = System {
    key: "reflect",
    title: "tc program that bounces",
    short: "bounce",
    about: "the limit of this machine and this client: a tc program on the pod's veth that swaps addresses, sets the QR bit and sends the query back; it resolves nothing",
    resolves: false,
    programs: true,
    only: None,
    start,
};

fn start(setting: &Setting) -> Result<Started> {
    let lab = Lab::builder()
        .pods(PODS)
        .replicas(0)
        .upstream(Upstream::Embedded)
        .start();
    let veths = lab.pods().iter().map(Pod::veth);
    let interfaces = veths.flat_map(|veth| ["--interface", veth]);
    let process = Process::start(
        lab.node().netns(),
        "reflect",
        &setting.agent,
        std::iter::once("reflect").chain(interfaces),
    );
    Ok(Started {
        server: cluster_ip(),
        // It sleeps: what answers is the kernel.
        processes: Vec::new(),
        programs: Some(process.pid()),
        version: version(&setting.agent, "--version"),
        kept: Kept::Process(process),
        lab,
    })
}
