//! What the node sends into the resolver's link: its own processes' queries, and the ordinary path's answers to them.

use dns_cache_common::maps::{STAND_IN_V4, STAND_IN_V6};

use super::fallback::ASKED;
use super::harness::{
    Harness, Place, RESOLVER_MAC, V4, V6,
    Verdict::{Redirect, Shot, Unspec},
    ip,
};
use super::packet::{Packet, answer, tcp, udp};

/// The node itself, as seen on that link.
const NODE: Place = Place {
    ifindex: 0,
    v4: "192.0.2.1",
    v6: "2001:db8:53::1",
    mac: [2, 0, 0, 0, 2, 1],
    gateway: RESOLVER_MAC,
};

fn harness() -> Harness {
    let mut harness = Harness::new();
    for (address, to) in ASKED {
        harness.fall_back(address, to);
    }
    harness.listen_at(&ASKED.map(|(address, _)| ip(address)));
    harness
}

/// Queries to the addresses with a route, and who is asked in their place while the resolver is away.
fn queries() -> Vec<(Packet, &'static str)> {
    let mut all = Vec::new();
    for (v4, to) in [(true, V4), (false, V6)] {
        let (address, _) = ASKED[usize::from(!v4)];
        for packet in [udp(NODE, v4).with_whole_checksum(), tcp(NODE, v4)] {
            all.push((packet.with(|p| p.destination = ip(address)), to));
        }
    }
    all
}

#[test]
fn its_own_queries_and_their_answers_pass() {
    let mut harness = harness();
    for (query, _) in queries() {
        let reply = answer(&query);
        let outcome = harness.sent_by_resolver(&reply);
        assert_eq!(outcome.verdict, Shot, "nobody has asked: {outcome:?}");
        let outcome = harness.sent_by_node(&query);
        assert_eq!(outcome.verdict, Unspec, "{outcome:?}");
        assert_eq!(outcome.packet, query.bytes());
        assert_eq!(outcome.counted.get("from_host"), Some(&1));
        let outcome = harness.sent_by_resolver(&reply);
        assert_eq!(outcome.verdict, Unspec, "{outcome:?}");
        assert_eq!(outcome.packet, reply.bytes());
    }
}

#[test]
fn nothing_else_passes() {
    let mut harness = harness();
    let pod = harness.pod('a');
    for (query, _) in queries() {
        let mut rows = vec![
            ("another port", query.clone().with(|p| p.ports[1] = 54)),
            ("an answer", answer(&query)),
            ("another protocol", query.clone().with(|p| p.protocol = 1)),
        ];
        if query.source.is_ipv4() {
            let elsewhere = query.clone().with(|p| p.destination = ip("10.96.0.99"));
            rows.push(("another address", elsewhere));
            rows.push(("a fragment", query.clone().with(|p| p.fragment = 0x2000)));
        }
        let rows = rows.iter();
        let mut outcomes: Vec<_> = rows
            .map(|(what, packet)| (*what, harness.sent_by_node(packet)))
            .collect();
        let forwarded = harness.forwarded_by_node(pod, &query);
        outcomes.extend(forwarded.map(|outcome| ("forwarded", outcome)));
        for (what, outcome) in outcomes {
            assert_eq!(outcome.verdict, Shot, "{what}: {outcome:?}");
            assert_eq!(outcome.counted.get("host_other"), Some(&1), "{what}");
        }
    }
}

/// They go to the fallback from an address that stands for the node, and the answer gets back both ends.
#[test]
fn the_ordinary_servers_answer_in_the_resolvers_place() {
    let mut harness = harness();
    harness.close_sockets();
    let router = harness.pod('b');
    for (query, to) in queries() {
        let stand_in = match query.source.is_ipv4() {
            true => STAND_IN_V4.into(),
            false => STAND_IN_V6.into(),
        };
        let diverted = query.clone().with(|p| {
            p.source = stand_in;
            p.destination = ip(to);
        });
        let outcome = harness.sent_by_node(&query);
        assert_eq!(outcome.verdict, Redirect, "back into the node: {outcome:?}");
        assert_eq!(outcome.counted.get("diverted"), Some(&1));
        assert_eq!(ends(&outcome.packet), ends(&diverted.bytes()));
        let reply = answer(&diverted);
        let Some(outcome) = harness.forwarded_by_node(router, &reply) else {
            continue;
        };
        assert_eq!(outcome.verdict, Redirect, "back into the node: {outcome:?}");
        assert_eq!(outcome.counted.get("diverted_back"), Some(&1));
        assert_eq!(ends(&outcome.packet), ends(&answer(&query).bytes()));
    }
}

/// Both addresses, and both ports.
fn ends(packet: &[u8]) -> &[u8] {
    match packet[12] {
        0x08 => &packet[26..38],
        _ => &packet[22..58],
    }
}
