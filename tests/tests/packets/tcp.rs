//! A TCP segment is taken if it opens a connection or the resolver has that connection; what was
//! opened on the ordinary path stays there.

use super::harness::{
    Harness, V4, V6,
    Verdict::{Ok, Redirect},
};
use super::packet::{ACK, FIN, RST, SYN, tcp};

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
            assert_eq!(outcome.verdict, Ok, "{name}");
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
            Ok,
            "another connection"
        );
    }
}
