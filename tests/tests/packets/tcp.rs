//! A TCP segment is taken if it opens a connection or the resolver has that connection; what was
//! opened on the ordinary path stays there.

use std::time::Duration;

use super::harness::{
    Harness, Place, V4, V6,
    Verdict::{Redirect, Unspec},
};
use super::packet::{ACK, FIN, Packet, RST, SYN, tcp, udp};

#[test]
fn segments_of_unknown_connections_are_left() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    for v4 in [true, false] {
        for (name, flags) in [
            ("ACK", ACK),
            ("FIN", FIN | ACK),
            ("RST", RST),
            ("SYN-ACK", SYN | ACK),
            ("none", 0),
            ("SYN-RST", SYN | RST),
        ] {
            let packet = tcp(pod, v4).with(|p| p.flags = flags);
            let outcome = harness.sent_by_pod(pod, &packet);
            assert_eq!(outcome.verdict, Unspec, "{name}");
            assert_eq!(
                outcome.counted.get("ordinary_no_socket_tcp"),
                Some(&1),
                "{name}"
            );
        }
    }
}

#[test]
fn segments_of_the_resolvers_connections_are_taken() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    for (v4, to) in [(true, V4), (false, V6)] {
        let port = harness.connect(to);
        for (name, flags) in [
            ("ACK", ACK),
            ("FIN", FIN | ACK),
            ("RST", RST),
            ("SYN again", SYN),
        ] {
            let packet = tcp(pod, v4).with(|p| {
                p.flags = flags;
                p.ports[0] = port;
            });
            assert_eq!(
                harness.sent_by_pod(pod, &packet).verdict,
                Redirect,
                "{name}"
            );
        }
        let other_port = tcp(pod, v4).with(|p| {
            p.flags = ACK;
            p.ports[0] = port ^ 1;
        });
        assert_eq!(
            harness.sent_by_pod(pod, &other_port).verdict,
            Unspec,
            "another connection"
        );
    }
}

/// The resolver closes an idle connection; the client learns it from the resolver, not from the ordinary
/// path, where the segment would belong to nobody and leave an entry in conntrack.
#[test]
fn segments_of_a_connection_that_is_gone_still_go_to_the_resolver() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    for v4 in [true, false] {
        assert_eq!(harness.sent_by_pod(pod, &tcp(pod, v4)).verdict, Redirect);
        let late = tcp(pod, v4).with(|p| p.flags = ACK);
        assert_eq!(harness.sent_by_pod(pod, &late).verdict, Redirect);
        let other = late.clone().with(|p| p.ports[0] += 1);
        assert_eq!(
            harness.sent_by_pod(pod, &other).verdict,
            Unspec,
            "a connection from before"
        );
    }
    harness.close_sockets();
    for v4 in [true, false] {
        let late = tcp(pod, v4).with(|p| p.flags = ACK);
        assert_eq!(
            harness.sent_by_pod(pod, &late).verdict,
            Unspec,
            "nobody is there"
        );
    }
}

#[test]
fn an_agent_that_is_about_to_end_gets_nothing_new() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    let port = harness.connect(V4);
    let ack = |from| {
        tcp(pod, true).with(|p| {
            p.flags = ACK;
            p.ports[0] = from;
        })
    };
    // A connection that the resolver has closed already, from the port that is used again below.
    assert_eq!(harness.sent_by_pod(pod, &tcp(pod, true)).verdict, Redirect);
    harness.set_closing();
    assert_eq!(
        harness.sent_by_pod(pod, &ack(port)).verdict,
        Redirect,
        "what is open goes on"
    );
    assert_eq!(
        harness.sent_by_pod(pod, &udp(pod, true)).verdict,
        Unspec,
        "a query"
    );
    for (name, packet) in [("a SYN", tcp(pod, true)), ("what follows it", ack(40_000))] {
        assert_eq!(harness.sent_by_pod(pod, &packet).verdict, Unspec, "{name}");
    }
}

/// Each listener has a heartbeat of its own, and so has each UDP socket: one that hangs is passed by alone.
#[test]
fn what_hangs_is_passed_by_alone() {
    let mut harness = Harness::patient(Duration::from_secs(1));
    let pod = harness.pod('a');
    let kinds = [
        ("ordinary_wedged_udp", udp as fn(Place, bool) -> Packet),
        ("ordinary_wedged_tcp", tcp),
    ];
    let all: Vec<_> = [true, false]
        .into_iter()
        .flat_map(|v4| kinds.map(|(counter, packet)| (counter, packet(pod, v4))))
        .collect();
    for (hung, (counter, _)) in all.iter().enumerate() {
        // A nanosecond after the machine's start; 0 would be never.
        harness.beat(hung, 1);
        for (number, (_, packet)) in all.iter().enumerate() {
            let outcome = harness.sent_by_pod(pod, packet);
            if number == hung {
                assert_eq!(outcome.verdict, Unspec, "{hung}");
                assert_eq!(outcome.counted.get(counter), Some(&1), "{hung}");
            } else {
                assert_eq!(outcome.verdict, Redirect, "{number} while {hung} hangs");
            }
        }
        harness.beat(hung, u64::MAX / 2);
    }
}
