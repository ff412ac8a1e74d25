//! The packet around the message: addresses, lengths and checksums, as a receiver checks them.

use super::super::harness::{Harness, Place, Verdict::Redirect};
use super::super::packet::{Packet, answer, sum, udp};
use super::message::{Opt, Query};
use super::{SIZE, put_addresses};

const ETHERNET: usize = 14;
const DONT_FRAGMENT: u16 = 0x4000;

/// The message in the reply to `query`, after everything around it was checked.
pub(super) fn message(query: &Packet, frame: &[u8]) -> Vec<u8> {
    let ip_len = if query.source.is_ipv4() { 20 } else { 40 };
    let udp = &frame[ETHERNET + ip_len..];
    let reply = answer(query).with(|p| {
        p.macs = [query.macs[1], query.macs[0]];
        p.fragment = DONT_FRAGMENT;
        p.checksum = u16::from_be_bytes([udp[6], udp[7]]);
        p.payload = udp[8..].to_vec();
        p.padding = 0;
    });
    let mut expected = reply.bytes();
    if query.source.is_ipv4() {
        let header = &mut expected[ETHERNET..ETHERNET + ip_len];
        // An atomic datagram's identification, and the checksum.
        header[4..6].fill(0);
        let checksum = !sum(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(sum(header), 0xffff);
    }
    assert_eq!(frame, expected, "headers");
    if query.checksum == query.pseudo_sum() {
        assert_eq!(reply.checksum, reply.pseudo_sum(), "still to be made");
    } else {
        assert_ne!(reply.checksum, 0, "none");
        assert_eq!(reply.whole_sum(), 0xffff, "whole");
    }
    reply.payload
}

/// Queries of both families and all forms of checksum.
fn forms(pod: Place, payload: &[u8]) -> Vec<(&'static str, Packet)> {
    let query = |v4| udp(pod, v4).with(|p| p.payload = payload.to_vec());
    vec![
        ("IPv4, none", query(true)),
        ("IPv4, partial", query(true).with_partial_checksum()),
        ("IPv4, whole", query(true).with_whole_checksum()),
        ("IPv6, partial", query(false).with_partial_checksum()),
        ("IPv6, whole", query(false).with_whole_checksum()),
    ]
}

/// Replies of even and odd lengths, shorter and longer than their query, in one to three of the sum's parts.
#[test]
fn receivers_find_every_header_and_checksum_right() {
    let mut harness = Harness::with_cache(SIZE);
    let pods = ['a', 'c'].map(|name| harness.pod(name));
    for count in [1, 2, 30, 31, 33, 66, 70] {
        put_addresses(&harness, count, 300);
        for (pod, padding) in [(pods[0], 0), (pods[0], 9), (pods[1], 0)] {
            for data in [0, 1, 300] {
                let ask = Query::new(super::NAME, 1).with(|q| {
                    q.opt = Some(Opt {
                        options: vec![(12, vec![0; data])],
                        ..Opt::of_size(1232)
                    });
                });
                for (form, query) in forms(pod, &ask.bytes()) {
                    let query = query.with(|p| p.padding = padding);
                    let outcome = harness.sent_by_pod(pod, &query);
                    assert_eq!(
                        outcome.counted.get("cache_hits_noerror"),
                        Some(&1),
                        "{form}"
                    );
                    let message = message(&query, &outcome.packet);
                    assert_eq!(message.len(), 12 + 17 + 16 * usize::from(count) + 11);
                }
            }
        }
    }
}

/// Nothing that the query's sender wrote into its IP header passes into ours.
#[test]
fn the_ip_header_is_ours() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    put_addresses(&harness, 2, 300);
    for query in [udp(pod, true), udp(pod, false).with_partial_checksum()] {
        let mut bytes = query.bytes();
        if query.source.is_ipv4() {
            // TOS, identification, TTL.
            (bytes[15], bytes[18], bytes[22]) = (0xff, 7, 1);
        } else {
            // Traffic class, flow label, hop limit.
            (bytes[14], bytes[16], bytes[21]) = (0x6f, 0xff, 1);
        }
        let outcome = harness.run("pod_ingress", pod.ifindex, &bytes);
        assert_eq!(outcome.verdict, Redirect);
        message(&query, &outcome.packet);
    }
}

/// The program does not guess: of a checksum that is right in both forms it cannot tell which one is meant.
#[test]
fn a_checksum_of_both_forms_goes_to_the_resolver() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    put_addresses(&harness, 2, 300);
    for v4 in [true, false] {
        let of_id = |id| {
            let ask = Query::new(super::NAME, 1).with(|q| q.id = id);
            udp(pod, v4)
                .with(|p| p.payload = ask.bytes())
                .with_partial_checksum()
        };
        let query = (0..=u16::MAX)
            .map(of_id)
            .find(Packet::checksum_is_ambiguous)
            .unwrap();
        let outcome = harness.sent_by_pod(pod, &query);
        assert_eq!(outcome.counted.get("cache_bypasses_packet"), Some(&1));
        super::oracle::untouched(&query, &outcome);
        let other = query.with(|p| p.payload[1] ^= 1).with_partial_checksum();
        let outcome = harness.sent_by_pod(pod, &other);
        assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
        message(&other, &outcome.packet);
    }
}
