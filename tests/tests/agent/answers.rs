//! The answers are CoreDNS's, from the cache too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dns_cache_tests::wire::{Record, flag, frame, rtype};
use dns_cache_tests::zones::{TYPES_WITH_ANSWERS, TYPES_WITHOUT};
use dns_cache_tests::{Client, Family, Flavour, Message, OrPanic, Query, Transport};

use crate::{WEB, assert_web, fresh, lab_with_agent};

fn ask(client: &Client, transport: Transport, query: &Query) -> Message {
    client
        .ask(transport, query)
        .or_panic(format_args!("{} type {}", query.name, query.rtype))
        .message
}

fn sorted(records: &[Record]) -> Vec<String> {
    let mut texts: Vec<_> = records
        .iter()
        .map(|r| format!("{} {}", r.owner, r.type_and_data()))
        .collect();
    texts.sort();
    texts
}

#[test]
fn every_type_is_answered_as_coredns_does() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let coredns = Client::new(
        Arc::clone(lab.pod(0).netns()),
        lab.dns().endpoints()[0].dns(Family::V4),
    );
    for (name, rtype) in TYPES_WITH_ANSWERS.into_iter().chain(TYPES_WITHOUT) {
        let query = Query::new(&format!("{name}.types.svc.cluster.local"), rtype);
        let theirs = ask(&coredns, Transport::Tcp, &query);
        // The first is from upstream, the others from the cache.
        for round in 0..3 {
            let ours = ask(&client, Transport::Tcp, &query);
            assert_eq!(
                ours.rcode(),
                theirs.rcode(),
                "{name} {rtype}, round {round}"
            );
            assert_eq!(
                sorted(&ours.answers),
                sorted(&theirs.answers),
                "{name} {rtype}, round {round}"
            );
            assert_eq!(
                sorted(&ours.authorities),
                sorted(&theirs.authorities),
                "{name} {rtype}, round {round}"
            );
            assert!(ours.opt.is_none(), "{name}: OPT without being asked for");
        }
    }
}

#[test]
fn negative_answers_carry_the_soa() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V6);
    for (name, rcode) in [
        ("nowhere.default.svc.cluster.local", 3),
        ("v4only.default.svc.cluster.local", 0),
    ] {
        for _ in 0..3 {
            let message = client.lookup(name, rtype::AAAA);
            assert_eq!(
                (message.rcode(), message.answers.len()),
                (rcode, 0),
                "{name}"
            );
            let soa = message
                .authorities
                .iter()
                .find(|r| r.rtype == rtype::SOA)
                .or_panic("no SOA");
            assert_eq!(soa.owner, "cluster.local");
            assert!(
                (1..=5).contains(&soa.ttl),
                "the SOA's TTL is {} (RFC 2308: 5 at most)",
                soa.ttl
            );
        }
    }
}

#[test]
fn ttl_counts_down_and_is_never_nought() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let ttl = |name: &str| {
        client
            .lookup(&format!("{name}.types.svc.cluster.local"), rtype::A)
            .answers[0]
            .ttl
    };
    let first = ttl("ttl5");
    assert!((4..=5).contains(&first), "{first}");
    thread::sleep(Duration::from_millis(2100));
    let later = ttl("ttl5");
    assert!(
        (1..=first - 2).contains(&later),
        "{later} two seconds after {first}"
    );
    // Over the end of an entry: the last second is a miss.
    for _ in 0..50 {
        let ttl = ttl("ttl2");
        assert!((1..=2).contains(&ttl), "{ttl}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn large_ttls_are_capped() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for name in ["ttl-large", "ttl-max"] {
        for _ in 0..2 {
            let message = lab
                .pod(0)
                .client(Family::V4)
                .lookup(&format!("{name}.types.svc.cluster.local"), rtype::A);
            let ttl = message.answers[0].ttl;
            assert!(
                (20..=30).contains(&ttl),
                "{name}: {ttl}, where 30 seconds are the cluster zone's cap"
            );
        }
    }
}

/// The client compares the question's bytes: a cached answer must not bring another's case along.
#[test]
fn question_keeps_its_case() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        for name in [
            "wEb.DeFaUlT.sVc.ClUsTeR.LoCaL",
            "WEB.DEFAULT.SVC.CLUSTER.LOCAL",
            "web.default.svc.cluster.local",
        ] {
            for transport in Transport::ALL {
                assert_eq!(
                    ask(&client, transport, &Query::new(name, rtype::A)).data(),
                    [crate::WEB_A]
                );
            }
        }
    }
}

#[test]
fn header_bits_are_the_querys() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    for flags in [
        0,
        flag::RD,
        flag::CD,
        flag::RD | flag::CD,
        flag::RD | flag::AD,
    ] {
        for _ in 0..2 {
            let message = ask(
                &client,
                Transport::Connected,
                &Query::new(WEB, rtype::A).flags(flags),
            );
            assert_eq!(
                message.flags & (flag::RD | flag::CD),
                flags & (flag::RD | flag::CD),
                "asked with {flags:#06x}"
            );
            assert_eq!(message.flags & 0x7800, 0, "opcode");
            assert!(!message.has(flag::TC));
            assert!(!message.has(flag::AD), "nothing was validated");
        }
    }
}

#[test]
fn pipelined_queries_are_all_answered() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for family in Family::BOTH {
        let mut session = lab.pod(0).client(family).tcp().or_panic("connecting");
        let queries: Vec<_> = (0..60)
            .map(|n| Query::new(&fresh(n), rtype::AAAA).id(n))
            .collect();
        let bytes: Vec<_> = queries.iter().flat_map(|q| frame(&q.to_bytes())).collect();
        // In two segments that part a message, and its length, in the middle.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        session.send_raw(first).or_panic("sending");
        session.send_raw(second).or_panic("sending");
        let mut open = vec![true; queries.len()];
        for _ in &queries {
            let answer = session.receive().or_panic("an answer is missing");
            let message = Message::read(&answer).or_panic("an answer that is no message");
            let id = usize::from(message.id);
            assert!(
                std::mem::replace(&mut open[id], false),
                "{id} was answered twice"
            );
            assert_eq!(message.question, queries[id].question());
            assert_eq!(message.answers.len(), 1);
        }
    }
}

/// RFC 7766, 6.2.1.1: what is ready does not wait for what is not.
#[test]
fn pipelined_answer_overtakes_a_slow_one() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    assert_web(&client, Transport::Tcp);
    for replica in lab.dns().replicas() {
        replica.pause();
    }
    let mut session = client.tcp().or_panic("connecting");
    session
        .send(&Query::new(&fresh(1), rtype::A).id(1).to_bytes())
        .or_panic("sending");
    session
        .send(&Query::new(WEB, rtype::A).id(2).to_bytes())
        .or_panic("sending");
    let first =
        Message::read(&session.receive().or_panic("the cached name")).or_panic("no message");
    assert_eq!(first.id, 2, "{first}");
    for replica in lab.dns().replicas() {
        replica.resume();
    }
    let second = Message::read(&session.receive().or_panic("the other")).or_panic("no message");
    assert_eq!((second.id, second.rcode()), (1, 0));
}

/// A set of addresses that always came in one order would send every client to the first of them.
#[test]
fn every_address_comes_first_about_equally_often() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let mut first = BTreeMap::new();
    const LOOKUPS: u32 = 900;
    for _ in 0..LOOKUPS {
        // As a stub resolver does: each A with an AAAA.
        let message = client.lookup("db.default.svc.cluster.local", rtype::A);
        assert_eq!(message.answers.len(), 3);
        *first.entry(message.answers[0].data.clone()).or_insert(0) += 1;
        let _ = client.lookup("db.default.svc.cluster.local", rtype::AAAA);
    }
    assert_eq!(first.len(), 3);
    // A third of them, give or take seven standard deviations.
    let deviation = f64::from(LOOKUPS * 2 / 9).sqrt() * 7.0;
    for count in first.into_values() {
        assert!(
            (f64::from(count) - f64::from(LOOKUPS / 3)).abs() < deviation,
            "{count} of {LOOKUPS}"
        );
    }
}
