//! Many interfaces at once.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dns_cache_tests::{AgentConfig, Family, Flavour, Lab, Netns, Transport};

use crate::{assert_web, lab_with_agent};

/// Makes so many veths in the node, with their other ends elsewhere; their names. All go with the result.
fn veths(lab: &Lab, count: usize) -> (Netns, Vec<String>) {
    let elsewhere = Netns::new(lab.scope(), "many");
    // Never twice: what goes is gone some time later.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.fetch_add(count, Relaxed);
    let names: Vec<_> = (first..first + count)
        .map(|number| format!("veth{number:07}"))
        .collect();
    let mut batch = String::new();
    for name in &names {
        let _ = writeln!(
            batch,
            "link add {name} type veth peer name {name} netns {}\nlink set {name} up",
            elsewhere.name()
        );
    }
    lab.node().netns().ip(&batch);
    (elsewhere, names)
}

/// The promise is a second, which the figure that is printed shows of a release build; a machine that is busy with other
/// tests takes longer.
#[test]
fn a_thousand_interfaces_are_attached_at_the_start() {
    const COUNT: usize = 1_000;
    // With TCX alone each takes as long as the kernel's grace period.
    for attach in ["auto", "clsact"] {
        let lab = Lab::builder().start();
        let (_elsewhere, names) = veths(&lab, COUNT);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let config = AgentConfig {
            attach: attach.to_owned(),
            log_level: "info".to_owned(),
            ..AgentConfig::default()
        };
        // The second one finds the first one's programs there.
        for found in ["nothing", "an earlier agent's"] {
            let start = Instant::now();
            let agent = lab.agent_on(&config, &names);
            let took = start.elapsed();
            println!(
                "{attach}, {found} there: {COUNT} interfaces, {took:?} from the agent's start on"
            );
            assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
            assert!(took < Duration::from_secs(12), "{attach}: {took:?}");
            agent.kill9();
        }
    }
}

/// More events than the socket's buffer holds, while nobody reads them: what they said is read anew.
#[test]
fn lost_events_are_made_up_for() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    agent.pause();
    for _ in 0..4 {
        drop(veths(&lab, 1_000));
    }
    let pod = lab.add_pod();
    agent.resume();
    agent.wait_for(&[pod.veth()], Duration::from_secs(20));
    let log = agent.log();
    assert!(log.contains("netlink overrun"), "none was lost:\n{log}");
    for transport in Transport::ALL {
        assert_web(&pod.client(Family::V6), transport);
    }
}
