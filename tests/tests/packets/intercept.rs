//! Only port 53 of the intercepted addresses is taken, and only while the resolver is there.

use super::harness::{
    Harness,
    Verdict::{Redirect, Unspec},
    check, ip,
};
use super::packet::{tcp, udp};

#[test]
fn other_ports_and_addresses_are_left() {
    let pod = Harness::new().pod('a');
    check(vec![
        (
            "port 5353",
            udp(pod, true).with(|p| p.ports[1] = 5353),
            Unspec,
            &[],
        ),
        (
            "port 0x3500, 53 in the other byte order",
            udp(pod, true).with(|p| p.ports[1] = 0x3500),
            Unspec,
            &[],
        ),
        (
            "source port 53 only",
            udp(pod, true).with(|p| p.ports = [53, 40000]),
            Unspec,
            &[],
        ),
        (
            "port 853",
            tcp(pod, true).with(|p| p.ports[1] = 853),
            Unspec,
            &[],
        ),
        (
            "another service",
            udp(pod, true).with(|p| p.destination = ip("10.96.0.11")),
            Unspec,
            &[],
        ),
        (
            "another service, IPv6",
            udp(pod, false).with(|p| p.destination = ip("fd00:10:96::b")),
            Unspec,
            &[],
        ),
        (
            "fragment to another service",
            udp(pod, true).with(|p| {
                p.destination = ip("10.96.0.11");
                p.fragment = 0x2000
            }),
            Unspec,
            &[],
        ),
    ]);
}

#[test]
fn without_a_socket_the_ordinary_path_is_taken() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    let rows = [
        (udp(pod, true), "ordinary_no_socket_udp"),
        (udp(pod, false), "ordinary_no_socket_udp"),
        (tcp(pod, true), "ordinary_no_socket_tcp"),
        (tcp(pod, false), "ordinary_no_socket_tcp"),
    ];
    for (packet, _) in &rows {
        assert_eq!(
            harness.sent_by_pod(pod, packet).verdict,
            Redirect,
            "the resolver is there"
        );
    }
    harness.close_sockets();
    for (packet, counter) in &rows {
        let outcome = harness.sent_by_pod(pod, packet);
        assert_eq!(outcome.verdict, Unspec, "the very next packet");
        assert_eq!(outcome.packet, packet.bytes());
        assert_eq!(outcome.counted.get(counter), Some(&1), "{outcome:?}");
    }
    harness.listen();
    for (packet, _) in &rows {
        assert_eq!(
            harness.sent_by_pod(pod, packet).verdict,
            Redirect,
            "the resolver is back"
        );
    }
}

#[test]
fn without_a_resolver_the_ordinary_path_is_taken() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    harness.clear_resolver();
    assert_eq!(harness.sent_by_pod(pod, &udp(pod, true)).verdict, Unspec);
    assert_eq!(harness.sent_by_pod(pod, &tcp(pod, false)).verdict, Unspec);
}
