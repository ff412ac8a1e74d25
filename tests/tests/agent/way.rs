//! No packet of a pod's DNS reaches netfilter while the agent lives.

use std::time::Duration;

use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::EXPECTED;
use dns_cache_tests::{AgentConfig, Family, Flavour, Lab, OrPanic, Query, Transport};

use crate::{WEB, assert_web, attach_modes, fresh, lab_with_agent};

fn no_query_reaches_conntrack(flavour: Flavour) {
    let lab = Lab::builder().flavour(flavour).start();
    let before = lab.node().snapshot();
    let agent = lab.agent(&AgentConfig::default());
    let conntrack = lab.node().conntrack();
    let events = conntrack.events();
    let counters = agent.counters();
    let mut queries = 0;
    for family in Family::BOTH {
        for pod in lab.pods() {
            let client = pod.client(family);
            for expected in EXPECTED {
                for transport in Transport::ALL {
                    // The client checks that the answer comes from where it sent the query to.
                    let reply = client.ask(transport, &expected.query());
                    let what = format_args!("{} over {transport:?} {family:?}", expected.name);
                    expected.check(&reply.or_panic(what).message);
                    queries += 1;
                }
            }
        }
    }
    assert!(
        counters.resolved(&agent.counters()) >= queries,
        "the resolver has not seen all"
    );

    // Nobody knows the answer any more: whatever the pods hear, netfilter hears nothing.
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    for (number, family) in Family::BOTH.into_iter().enumerate() {
        let hasty = lab
            .pod(0)
            .client(family)
            .timeout(Duration::from_millis(300));
        for (index, transport) in Transport::ALL.into_iter().enumerate() {
            let name = fresh((number * 10 + index) as u16);
            if let Ok(reply) = hasty.ask(transport, &Query::new(&name, rtype::A)) {
                assert_eq!(
                    reply.message.rcode(),
                    2,
                    "SERVFAIL or silence, not {}",
                    reply.message
                );
            }
        }
    }
    conntrack.assert_no_pod_dns();
    assert_eq!(events.pod_dns(), [], "conntrack saw pods' DNS");
    before.rules().assert_same(&lab.node().snapshot().rules());
}

#[test]
fn no_query_reaches_conntrack_routed() {
    no_query_reaches_conntrack(Flavour::Routed);
}

#[test]
fn no_query_reaches_conntrack_bridged() {
    no_query_reaches_conntrack(Flavour::Bridged);
}

/// The same watcher sees the same lookups where no program is attached.
#[test]
fn control_interfaces_that_are_not_ours_reach_conntrack() {
    let lab = Lab::builder().start();
    let config = AgentConfig {
        interfaces: vec!["none*".to_owned()],
        ..AgentConfig::default()
    };
    let _agent = dns_cache_tests::Agent::start(
        lab.node(),
        &config,
        &[lab.dns().endpoints()[0].dns(Family::V4)],
        &[],
    );
    let events = lab.node().conntrack().events();
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(family), transport);
        }
    }
    assert_eq!(lab.node().conntrack().pod_dns().len(), 6);
    assert!(events.pod_dns().len() >= 6);
}

/// INCIDENTS.md, 2: A and AAAA at once from one socket, with a table too small for the ordinary way.
#[test]
fn parallel_a_and_aaaa_leave_conntrack_alone() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let conntrack = lab.node().conntrack();
    let before = conntrack.statistics();
    let client = lab.pod(0).client(Family::V4);
    for _ in 0..200 {
        let socket = client.udp(true).or_panic("opening a socket");
        let questions = [Query::new(WEB, rtype::A), Query::new(WEB, rtype::AAAA)];
        std::thread::scope(|scope| {
            for question in &questions {
                scope.spawn(|| socket.send(&question.to_bytes()).or_panic("sending"));
            }
        });
        for _ in 0..2 {
            socket.receive().or_panic("one of two answers");
        }
    }
    let after = conntrack.statistics();
    for name in ["insert_failed", "drop", "clash_resolve"] {
        assert_eq!(after.get(name), before.get(name), "{name} has moved");
    }
    conntrack.assert_no_pod_dns();
}

/// Every attach mode brings the packets the same way.
#[test]
fn every_way_to_attach_serves() {
    for attach in attach_modes() {
        let lab = Lab::builder().start();
        let agent = lab.agent(&AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        });
        for family in Family::BOTH {
            for transport in Transport::ALL {
                assert_web(&lab.pod(0).client(family), transport);
            }
        }
        lab.node().conntrack().assert_no_pod_dns();
        let status = agent.status().or_panic("asking for the status");
        assert!(
            status.to_string().contains(attach),
            "the status does not say {attach}: {status}"
        );
    }
}
