//! Others on the node: their programs go on running behind ours, and there is one agent.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Pod, Query, Transport};

use crate::{WEB, assert_web, lab_with_agent};

/// Whether a query to the first replica's own address, which is not intercepted, is answered.
fn asks_the_replica(lab: &Lab, pod: &Pod) -> bool {
    let client = pod
        .client(Family::V4)
        .server(lab.dns().endpoints()[0].dns(Family::V4))
        .timeout(Duration::from_millis(500));
    client
        .ask(Transport::Connected, &Query::new(WEB, rtype::A))
        .is_ok()
}

/// A filter that drops what reaches it, as a CNI's policy might: a packet that we leave alone must reach it.
#[test]
fn programs_behind_ours_still_run() {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::builder().start();
        let pod = lab.pod(0);
        assert!(asks_the_replica(&lab, pod));
        let mut qdisc = Command::new("tc");
        lab.node()
            .netns()
            .succeed(qdisc.args(["qdisc", "add", "dev", pod.veth(), "clsact"]));
        let mut filter = Command::new("tc");
        filter.args([
            "filter",
            "add",
            "dev",
            pod.veth(),
            "ingress",
            "protocol",
            "ip",
            "prio",
            "10",
        ]);
        // One instruction: return TC_ACT_SHOT.
        lab.node()
            .netns()
            .succeed(filter.args(["bpf", "da", "bytecode", "1,6 0 0 2,"]));
        assert!(!asks_the_replica(&lab, pod), "the filter drops");
        let agent = lab.agent(&AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        });
        assert!(
            !asks_the_replica(&lab, pod),
            "it still drops behind our program ({attach})"
        );
        assert_web(&pod.client(Family::V4), Transport::Connected);
        agent.stop();
        assert!(
            !asks_the_replica(&lab, pod),
            "and after our agent's end ({attach})"
        );
        agent.detach();
        assert!(
            !asks_the_replica(&lab, pod),
            "the filter and its qdisc outlive a detach ({attach})"
        );
    }
}

/// Our clsact filters on a pod's interface.
fn filters(lab: &Lab, pod: &Pod) -> Vec<String> {
    let mut command = Command::new("tc");
    command.args(["filter", "show", "dev", pod.veth(), "ingress"]);
    let text = lab.node().netns().succeed(&mut command);
    let ours = text.lines().filter(|line| line.contains("pod_ingress"));
    ours.map(str::to_owned).collect()
}

/// The pin of a TCX link on a pod's interface.
fn pin(lab: &Lab, pod: &Pod, agent: &Agent) -> PathBuf {
    let mut command = Command::new("ip");
    command.args(["-oneline", "link", "show", "dev", pod.veth()]);
    let text = lab.node().netns().succeed(&mut command);
    let ifindex = text.split(':').next().or_panic("reading ip's output");
    agent.bpffs().join("links").join(ifindex)
}

/// What an agent in one mode left is not there beside what the next one attaches in the other.
#[test]
fn a_change_of_mode_leaves_nothing_behind() {
    let lab = Lab::builder().start();
    for (attach, expected) in [("clsact", 1), ("tcx", 0), ("clsact", 1)] {
        let agent = lab.agent(&AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        });
        assert_web(&lab.pod(0).client(Family::V6), Transport::Connected);
        let found = filters(&lab, lab.pod(0));
        assert_eq!(found.len(), expected, "{attach}: {found:?}");
        agent.stop();
    }
}

/// A pod that a new configuration leaves out is on the ordinary way, not on an earlier agent's.
#[test]
fn an_interface_that_is_left_out_is_let_go() {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::builder().start();
        let config = AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        };
        let first = lab.agent(&config);
        let left = || {
            let pinned = pin(&lab, lab.pod(1), &first).exists();
            usize::from(pinned) + filters(&lab, lab.pod(1)).len()
        };
        assert_eq!(left(), 1, "{attach}");
        first.kill9();
        assert_eq!(left(), 1, "a killed agent leaves its program ({attach})");
        let config = AgentConfig {
            interfaces: vec!["veth*".to_owned(), format!("!{}", lab.pod(1).veth())],
            ..config
        };
        let agent = lab.agent_on(&config, &[lab.pod(0).veth()]);
        assert_eq!(left(), 0, "the next one takes it away ({attach})");
        let before = agent.counters();
        for transport in Transport::ALL {
            assert_web(&lab.pod(1).client(Family::V4), transport);
        }
        assert_eq!(before.resolved(&agent.counters()), 0, "{attach}");
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
        assert_eq!(before.resolved(&agent.counters()), 1, "{attach}");
    }
}

#[test]
fn a_second_agent_is_refused_and_harms_nobody() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let other = agent.state_dir().with_file_name("other");
    let bpffs = other.with_file_name("other-bpf");
    let (state_dir, bpffs) = (other.display().to_string(), bpffs.display().to_string());
    for command in [
        &[
            "run",
            "--listen",
            "10.96.0.10",
            "--cluster-upstreams",
            "192.0.2.1",
        ][..],
        &["detach"],
    ] {
        let mut program = Command::new(dns_cache_tests::tools::agent());
        program
            .args(command)
            .args(["--state-dir", &state_dir, "--bpffs", &bpffs]);
        let output = lab.node().netns().output(&mut program);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{command:?}");
        assert!(said.contains("another agent runs"), "{command:?}: {said}");
        let before = agent.counters();
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(Family::V4), transport);
        }
        let after = agent.counters();
        assert!(before.resolved(&after) + before.answered(&after) >= 3);
    }
}
