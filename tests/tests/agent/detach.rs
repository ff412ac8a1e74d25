//! `dns-cache detach` leaves the node as it was before the agent.

use dns_cache_tests::{Agent, AgentConfig, Family, Flavour, Lab, Transport};

use crate::assert_web;

fn detach_leaves_nothing(flavour: Flavour, attach: &str, end: impl Fn(&Agent)) {
    let lab = Lab::builder().flavour(flavour).start();
    // Neighbours and counters settle with the first lookups.
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Tcp);
    }
    let before = lab.node().snapshot();
    let agent = lab.agent(&AgentConfig {
        attach: attach.to_owned(),
        ..AgentConfig::default()
    });
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(family), transport);
        }
    }
    end(&agent);
    agent.detach();
    lab.node().assert_comes_back_to(&before);
    assert!(agent.status().is_err());
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(family), transport);
        }
    }
    assert!(
        !lab.node().conntrack().pod_dns().is_empty(),
        "the ordinary way is back"
    );
    // Once more is no mistake.
    agent.detach();
}

#[test]
fn detach_after_stop_routed() {
    detach_leaves_nothing(Flavour::Routed, "auto", Agent::stop);
}

#[test]
fn detach_after_stop_bridged() {
    detach_leaves_nothing(Flavour::Bridged, "auto", Agent::stop);
}

#[test]
fn detach_after_sigkill_tcx() {
    detach_leaves_nothing(Flavour::Routed, "tcx", Agent::kill9);
}

#[test]
fn detach_after_sigkill_clsact() {
    detach_leaves_nothing(Flavour::Routed, "clsact", Agent::kill9);
}
