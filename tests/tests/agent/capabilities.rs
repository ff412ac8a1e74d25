//! What the kernel can do is found out at the start, and what it lacks is replaced or said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use dns_cache_tests::procfs::linux;
use dns_cache_tests::{Agent, AgentConfig, Family, Lab, OrPanic, Transport, tools};

use crate::assert_web;

/// Commands of bpf(2) (linux/bpf.h).
const PROG_LOAD: u32 = 5;
const PROG_QUERY: u32 = 16;

/// The agent as on a kernel whose bpf(2) does not know a command.
pub(crate) fn without(lab: &Lab, command: u32) -> PathBuf {
    let path = lab.scope().dir().join(format!("without-{command}"));
    let text = format!(
        "#!/bin/sh\nexec {} {command} {} \"$@\"\n",
        tools::binary("client-without").display(),
        tools::agent().display()
    );
    let written = fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
    written.or_panic("writing a script");
    path
}

/// What the status says the kernel lacks, by name.
fn lacks(agent: &Agent) -> Vec<String> {
    let status = agent.status().or_panic("asking for the status");
    let lacks = status["datapath"]["lacks"].as_array().cloned();
    lacks
        .or_panic("no list of what is lacking")
        .iter()
        .filter_map(|lack| Some(lack["what"].as_str()?.to_owned()))
        .collect()
}

/// The way to attach that the status names.
fn mechanism(agent: &Agent) -> String {
    let status = agent.status().or_panic("asking for the status");
    status["datapath"]["mechanism"]
        .as_str()
        .or_panic("no mechanism")
        .to_owned()
}

/// Told from the kernel's version: what was found by trying is what the kernel has.
#[test]
fn the_kernel_is_probed_at_start() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default());
    let mut expected = Vec::new();
    if linux() < (6, 6) {
        expected.push("TCX");
    }
    if linux() < (5, 11) {
        expected.push("eBPF memory counted by cgroup");
    }
    if linux() < (5, 14) {
        expected.push("SO_NETNS_COOKIE");
    }
    assert_eq!(lacks(&agent), expected);
    assert_eq!(
        mechanism(&agent),
        if linux() < (6, 6) { "clsact" } else { "tcx" }
    );
    let line = match expected.as_slice() {
        [] => "this kernel has all that is used".to_owned(),
        [first, ..] => format!("this kernel lacks {first} (Linux "),
    };
    assert_eq!(agent.log().matches(&line).count(), 1, "{}", agent.log());
}

#[test]
fn without_tcx_filters_are_used() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig {
        binary: Some(without(&lab, PROG_QUERY)),
        ..AgentConfig::default()
    });
    assert_eq!(lacks(&agent)[0], "TCX");
    assert_eq!(mechanism(&agent), "clsact");
    for transport in Transport::ALL {
        assert_web(&lab.pod(0).client(Family::V6), transport);
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// It says what the kernel lacks, and the node is as it was.
#[test]
fn a_kernel_that_is_too_old_is_left_alone() {
    for (command, attach, lacking) in [
        (
            PROG_LOAD,
            "auto",
            "which lacks bpf_redirect_peer (Linux 5.10)",
        ),
        (PROG_QUERY, "tcx", "which lacks TCX (Linux 6.6)"),
    ] {
        let lab = Lab::builder().start();
        for (pod, family) in lab.pods().iter().zip(Family::BOTH) {
            assert_web(&pod.client(family), Transport::Tcp);
        }
        let before = lab.node().snapshot();
        let state = lab.scope().dir().join("state");
        let mut agent = Command::new(without(&lab, command));
        agent
            .args([
                "run",
                "--listen",
                "10.96.0.10",
                "--cluster-upstreams",
                "192.0.2.1",
            ])
            .args(["--attach", attach, "--state-dir"])
            .arg(&state)
            .arg("--bpffs")
            .arg(lab.scope().dir().join("bpf/dns-cache"));
        let output = lab.node().netns().output(&mut agent);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(lacking), "{said}");
        lab.node().assert_comes_back_to(&before);
        assert!(!state.exists(), "nothing was made");
        assert_web(&lab.pod(0).client(Family::V4), Transport::Tcp);
    }
}
