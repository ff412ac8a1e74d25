//! What is not plain UDP or TCP with sound lengths goes its ordinary way, untouched.

use super::harness::{
    Harness, Row,
    Verdict::{Redirect, Unspec},
    check,
};
use super::packet::{tcp, udp};

const TO_UDP: &[&str] = &["to_resolver_udp"];
const TO_TCP: &[&str] = &["to_resolver_tcp"];
const UNPARSED: &[&str] = &["ordinary_unparsed"];

#[test]
fn plain_packets_are_taken() {
    let pod = Harness::new().pod('a');
    check(vec![
        ("UDP, IPv4", udp(pod, true), Redirect, TO_UDP),
        ("UDP, IPv6", udp(pod, false), Redirect, TO_UDP),
        ("SYN, IPv4", tcp(pod, true), Redirect, TO_TCP),
        ("SYN, IPv6", tcp(pod, false), Redirect, TO_TCP),
        (
            "don't fragment",
            udp(pod, true).with(|p| p.fragment = 0x4000),
            Redirect,
            TO_UDP,
        ),
        (
            "Ethernet padding",
            udp(pod, true).with(|p| p.padding = 20),
            Redirect,
            TO_UDP,
        ),
        (
            "empty datagram",
            udp(pod, true).with(|p| p.payload.clear()),
            Redirect,
            TO_UDP,
        ),
        (
            "empty datagram, IPv6",
            udp(pod, false).with(|p| p.payload.clear()),
            Redirect,
            TO_UDP,
        ),
        (
            "TCP options",
            tcp(pod, true).with(|p| {
                p.data_offset = Some(0x60);
                p.payload = vec![1; 4];
            }),
            Redirect,
            TO_TCP,
        ),
    ]);
}

#[test]
fn fragments_and_options_are_left() {
    let pod = Harness::new().pod('a');
    let row = |name, packet| -> Row { (name, packet, Unspec, UNPARSED) };
    check(vec![
        row(
            "first fragment",
            udp(pod, true).with(|p| p.fragment = 0x2000),
        ),
        row(
            "later fragment",
            udp(pod, true).with(|p| p.fragment = 0x0010),
        ),
        row(
            "last fragment",
            udp(pod, true).with(|p| p.fragment = 0x1fff),
        ),
        row(
            "IPv4 option",
            udp(pod, true).with(|p| p.options = vec![1, 1, 1, 0]),
        ),
        row(
            "IPv6 fragment header",
            udp(pod, false).with(|p| p.extension = Some(44)),
        ),
        row(
            "IPv6 hop-by-hop",
            udp(pod, false).with(|p| p.extension = Some(0)),
        ),
        row(
            "IPv6 destination options",
            udp(pod, false).with(|p| p.extension = Some(60)),
        ),
        row("ICMP", udp(pod, true).with(|p| p.protocol = 1)),
        row("SCTP", udp(pod, true).with(|p| p.protocol = 132)),
    ]);
}

#[test]
fn broken_lengths_are_left() {
    let pod = Harness::new().pod('a');
    let row = |name, packet| -> Row { (name, packet, Unspec, UNPARSED) };
    check(vec![
        row(
            "IHL too small",
            udp(pod, true).with(|p| p.version_ihl = Some(0x44)),
        ),
        row(
            "version 5",
            udp(pod, true).with(|p| p.version_ihl = Some(0x55)),
        ),
        row(
            "version 4 under IPv6's type",
            udp(pod, false).with(|p| p.version_ihl = Some(0x40)),
        ),
        row(
            "total length beyond the frame",
            udp(pod, true).with(|p| p.ip_len = Some(1000)),
        ),
        row(
            "total length 0",
            udp(pod, true).with(|p| p.ip_len = Some(0)),
        ),
        row(
            "total length shorter than the header",
            udp(pod, true).with(|p| p.ip_len = Some(19)),
        ),
        row(
            "no room for UDP",
            udp(pod, true).with(|p| p.ip_len = Some(27)),
        ),
        row(
            "payload length beyond the frame",
            udp(pod, false).with(|p| p.ip_len = Some(1000)),
        ),
        row(
            "payload length 0",
            udp(pod, false).with(|p| p.ip_len = Some(0)),
        ),
        row(
            "UDP length below its header",
            udp(pod, true).with(|p| p.udp_len = Some(7)),
        ),
        row(
            "UDP length beyond IP's",
            udp(pod, true).with(|p| p.udp_len = Some(500)),
        ),
        row(
            "UDP length 0",
            udp(pod, false).with(|p| p.udp_len = Some(0)),
        ),
        row(
            "TCP header shorter than 20",
            tcp(pod, true).with(|p| p.data_offset = Some(0x40)),
        ),
        row(
            "TCP header beyond IP's length",
            tcp(pod, true).with(|p| p.data_offset = Some(0xf0)),
        ),
        row(
            "TCP cut inside its header",
            tcp(pod, true).with(|p| p.ip_len = Some(39)),
        ),
    ]);
}

#[test]
fn other_frames_are_left() {
    let pod = Harness::new().pod('a');
    let row = |name, packet| -> Row { (name, packet, Unspec, &[]) };
    check(vec![
        row("ARP", udp(pod, true).with(|p| p.ethertype = Some(0x0806))),
        row("VLAN tag", udp(pod, true).with(|p| p.vlan = true)),
        row("MPLS", udp(pod, true).with(|p| p.ethertype = Some(0x8847))),
    ]);
}

/// Packets are hostile: whatever the bytes are, a verdict comes, and only the ordinary path or the
/// resolver sees them.
#[test]
fn every_cut_of_a_packet_gets_a_verdict() {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    for packet in [
        udp(pod, true),
        udp(pod, false),
        tcp(pod, true),
        tcp(pod, false),
    ] {
        let whole = packet.bytes();
        // The kernel takes no test packet that is shorter than its type's IP header.
        let shortest = if packet.source.is_ipv4() { 34 } else { 54 };
        for len in shortest..whole.len() {
            let outcome = harness.run("pod_ingress", pod.ifindex, &whole[..len]);
            assert_eq!(outcome.verdict, Unspec, "cut at {len}");
            assert_eq!(outcome.packet, whole[..len]);
        }
    }
}
