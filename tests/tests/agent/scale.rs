//! Many interfaces at once.

use std::time::Instant;

use dns_cache_tests::patience::LONG;
use dns_cache_tests::turn::Turn;
use dns_cache_tests::{AgentConfig, Family, Flavour, Lab, Transport, Veths};

use crate::{assert_web, lab_with_agent};

/// The promise is a second, which `cargo xtask bench` measures of a release build; a machine that is busy with other
/// tests takes longer.
#[test]
fn a_thousand_interfaces_are_attached_at_the_start() {
    const COUNT: usize = 1_000;
    let _alone = Turn::alone();
    // With TCX alone each takes as long as the kernel's grace period.
    for attach in ["auto", "clsact"] {
        let lab = Lab::builder().start();
        let veths = Veths::new(lab.node(), COUNT);
        let config = AgentConfig {
            attach: attach.to_owned(),
            log_level: "info".to_owned(),
            ..AgentConfig::default()
        };
        // The second one finds the first one's programs there.
        for found in ["nothing", "an earlier agent's"] {
            let start = Instant::now();
            let agent = lab.agent_on(&config, &veths.names());
            let took = start.elapsed();
            println!(
                "{attach}, {found} there: {COUNT} interfaces, {took:?} from the agent's start on"
            );
            assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
            assert!(took < LONG, "{attach}: {took:?}");
            agent.kill9();
        }
    }
}

/// More events than the socket's buffer holds, while nobody reads them: what they said is read anew.
#[test]
fn lost_events_are_made_up_for() {
    let _alone = Turn::alone();
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    agent.pause();
    for _ in 0..4 {
        drop(Veths::new(lab.node(), 1_000));
    }
    let pod = lab.add_pod();
    agent.resume();
    agent.wait_for(&[pod.veth()], LONG);
    let log = agent.log();
    assert!(log.contains("netlink overrun"), "none was lost:\n{log}");
    for transport in Transport::ALL {
        assert_web(&pod.client(Family::V6), transport);
    }
}
