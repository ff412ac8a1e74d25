//! What the resolver's namespace sends reaches the client's pod or nobody; never the node's stack.

use super::harness::{
    Harness,
    Verdict::{Redirect, Shot, Unspec},
    ip,
};
use super::packet::{ACK, SYN, answer, tcp, udp};

#[test]
fn replies_go_to_the_pod_that_asked() {
    let mut harness = Harness::new();
    let (a, b) = (harness.pod('a'), harness.pod('b'));
    for pod in [a, b] {
        for v4 in [true, false] {
            for query in [udp(pod, v4), tcp(pod, v4)] {
                assert_eq!(harness.sent_by_pod(pod, &query).verdict, Redirect);
                let reply = answer(&query).with(|p| p.flags = SYN | ACK);
                let outcome = harness.sent_by_resolver(&reply);
                assert_eq!(outcome.verdict, Redirect, "{outcome:?}");
                assert_eq!(outcome.packet[..6], pod.mac, "to the pod");
                assert_eq!(
                    outcome.packet[6..12],
                    pod.gateway,
                    "from the address that it sent to"
                );
                assert_eq!(
                    outcome.packet[12..],
                    reply.bytes()[12..],
                    "untouched behind"
                );
                assert_eq!(outcome.counted.get("replies"), Some(&1));
            }
        }
    }
}

#[test]
fn a_reply_to_nobody_is_dropped() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    let outcome = harness.sent_by_resolver(&answer(&udp(a, true)));
    assert_eq!(outcome.verdict, Shot);
    assert_eq!(outcome.counted.get("replies_unknown_client"), Some(&1));
}

#[test]
fn a_reply_to_a_pod_that_is_gone_is_dropped() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    assert_eq!(harness.sent_by_pod(a, &udp(a, true)).verdict, Redirect);
    harness.forget_interface(a.ifindex);
    assert_eq!(
        harness.sent_by_resolver(&answer(&udp(a, true))).verdict,
        Shot
    );
}

#[test]
fn last_replies_from_an_address_that_was_left_are_delivered() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    for v4 in [true, false] {
        let query = udp(a, v4);
        assert_eq!(harness.sent_by_pod(a, &query).verdict, Redirect);
        harness.leave(&query.destination.to_string());
        assert_eq!(harness.sent_by_pod(a, &query).verdict, Unspec);
        let outcome = harness.sent_by_resolver(&answer(&query));
        assert_eq!(outcome.verdict, Redirect, "{outcome:?}");
    }
}

#[test]
fn nothing_else_leaves_the_resolvers_namespace() {
    let mut harness = Harness::new();
    let a = harness.pod('a');
    assert_eq!(harness.sent_by_pod(a, &udp(a, true)).verdict, Redirect);
    let reply = answer(&udp(a, true));
    for (name, packet) in [
        (
            "another source port",
            reply.clone().with(|p| p.ports[0] = 54),
        ),
        (
            "another source",
            reply.clone().with(|p| p.source = ip("10.96.0.99")),
        ),
        ("a fragment", reply.clone().with(|p| p.fragment = 0x2000)),
        ("ICMP", reply.clone().with(|p| p.protocol = 1)),
        ("ARP", reply.with(|p| p.ethertype = Some(0x0806))),
        (
            "neighbour solicitation",
            answer(&udp(a, false)).with(|p| p.protocol = 58),
        ),
    ] {
        let outcome = harness.sent_by_resolver(&packet);
        assert_eq!(outcome.verdict, Shot, "{name}");
        assert_eq!(outcome.counted.get("resolver_other"), Some(&1), "{name}");
    }
}
