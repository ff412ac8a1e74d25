//! A pod that writes another's address into its packets gains nothing, and harms nobody.

use std::time::Duration;

use dns_cache_tests::addresses::CLUSTER_IP;
use dns_cache_tests::raw::Datagram;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Client, Family, Flavour, Lab, OrPanic, Pod, Query, Transport};

use crate::{WEB, assert_web, lab_with_agent};

const PORT: u16 = 45_353;

fn forge(attacker: &Pod, victim: &Pod, family: Family, query: &Query) {
    let datagram = Datagram {
        source: victim.addresses().socket(family, PORT),
        destination: CLUSTER_IP.dns(family),
        payload: query.to_bytes(),
    };
    datagram.send(attacker.netns());
}

/// For what shall come.
const PATIENCE: Duration = Duration::from_secs(3);

/// Without much patience, for what shall not come.
fn listener(pod: &Pod, family: Family) -> Client {
    pod.client(family)
        .source_port(PORT)
        .timeout(Duration::from_millis(400))
}

/// What the attack does on the ordinary way: the victim is sent an answer that it never asked for.
#[test]
fn control_forged_query_is_answered_to_the_victim_without_the_agent() {
    for flavour in Flavour::BOTH {
        let lab = Lab::builder().flavour(flavour).start();
        for family in Family::BOTH {
            assert_web(&lab.pod(1).client(family), Transport::Connected);
            let socket = listener(lab.pod(1), family)
                .timeout(PATIENCE)
                .udp(false)
                .or_panic("opening a socket");
            forge(lab.pod(0), lab.pod(1), family, &Query::new(WEB, rtype::A));
            assert!(socket.receive().is_ok(), "{flavour:?} {family:?}");
        }
    }
}

fn forged_source_gains_nothing(flavour: Flavour, victim_known: bool) {
    let (lab, _agent) = lab_with_agent(flavour);
    let (attacker, victim) = (lab.pod(0), lab.pod(1));
    for family in Family::BOTH {
        if victim_known {
            assert_web(&victim.client(family), Transport::Connected);
        }
        let mut theirs = listener(victim, family)
            .udp(false)
            .or_panic("opening a socket");
        let own = listener(attacker, family)
            .udp(false)
            .or_panic("opening a socket");
        for _ in 0..3 {
            forge(attacker, victim, family, &Query::new(WEB, rtype::A));
        }
        let got = std::iter::from_fn(|| theirs.receive().ok()).count();
        assert_eq!(
            got, 0,
            "answers to the attacker's queries that the victim got ({family:?})"
        );
        assert!(
            own.receive().is_err(),
            "the attacker got an answer to another's address ({family:?})"
        );

        // Nor does it draw the victim's own answers to the attacker afterwards.
        let query = Query::new(WEB, rtype::AAAA);
        theirs.set_timeout(PATIENCE);
        let reply = theirs.ask(&query);
        assert!(reply.is_ok(), "the victim's own lookup: {reply:?}");
        assert!(
            own.receive().is_err(),
            "the attacker got the victim's answer ({family:?})"
        );
        for pod in [attacker, victim] {
            for transport in Transport::ALL {
                assert_web(&pod.client(family), transport);
            }
        }
    }
}

#[test]
fn forged_source_of_a_known_pod_routed() {
    forged_source_gains_nothing(Flavour::Routed, true);
}

#[test]
fn forged_source_of_a_known_pod_bridged() {
    forged_source_gains_nothing(Flavour::Bridged, true);
}

#[test]
fn forged_source_of_a_pod_that_never_asked_routed() {
    forged_source_gains_nothing(Flavour::Routed, false);
}

#[test]
fn forged_source_of_a_pod_that_never_asked_bridged() {
    forged_source_gains_nothing(Flavour::Bridged, false);
}

/// While a stream of forged packets comes in, the victim's lookups are answered to the victim.
#[test]
fn victim_keeps_its_answers_under_a_stream_of_forgeries() {
    for flavour in Flavour::BOTH {
        let (lab, _agent) = lab_with_agent(flavour);
        let (attacker, victim) = (lab.pod(0), lab.pod(1));
        for family in Family::BOTH {
            for round in 0..30 {
                forge(
                    attacker,
                    victim,
                    family,
                    &Query::new(WEB, rtype::A).id(round),
                );
                assert_web(&victim.client(family), Transport::Unconnected);
            }
        }
    }
}
