//! What is left to the ordinary path goes to the fallback of its destination, and its answers come from the
//! destination.

use super::harness::{
    Harness, Outcome, Place, V4, V6,
    Verdict::{Redirect, Unspec},
    ip,
};
use super::packet::{ACK, Packet, SYN, UDP, answer, sum, tcp, udp};

/// The fallbacks are the service addresses.
pub(super) const ASKED: [(&str, &str); 2] = [("169.254.20.10", V4), ("fd00:20::a", V6)];

/// A dead resolver, two addresses with a fallback, and pod a.
fn dead() -> (Harness, Place) {
    let mut harness = Harness::new();
    for (address, to) in ASKED {
        harness.fall_back(address, to);
    }
    harness.close_sockets();
    let pod = harness.pod('a');
    (harness, pod)
}

fn asking(packet: Packet, v4: bool) -> Packet {
    let (address, _) = ASKED[usize::from(!v4)];
    packet.with(|p| p.destination = ip(address))
}

/// The sums of the IPv4 header, if it is one, and of addresses and transport header: a right checksum stays right if
/// they stay the same.
fn sums(packet: &[u8]) -> (u16, u16) {
    if packet[12] == 0x08 {
        (sum(&packet[14..34]), sum(&packet[26..]))
    } else {
        (0, sum(&packet[22..]))
    }
}

/// What came out must be this packet, but for its checksums, which must be as right as those of what went in.
#[track_caller]
fn assert_readdressed(outcome: &Outcome, sent: &Packet, expected: &Packet, what: &str) {
    assert_eq!(outcome.verdict, Unspec, "{what}: {outcome:?}");
    let without_checksums = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let transport = if bytes[12] == 0x08 {
            bytes[24..26].fill(0);
            34
        } else {
            54
        };
        let at = transport + if sent.protocol == UDP { 6 } else { 16 };
        bytes[at..at + 2].fill(0);
        bytes
    };
    assert_eq!(
        without_checksums(&outcome.packet),
        without_checksums(&expected.bytes()),
        "{what}"
    );
    assert_eq!(sums(&outcome.packet), sums(&sent.bytes()), "{what}");
}

fn queries(pod: Place) -> Vec<(&'static str, Packet, &'static str)> {
    let mut all = Vec::new();
    for (v4, to) in [(true, V4), (false, V6)] {
        let query = asking(udp(pod, v4), v4);
        all.push(("whole checksum", query.clone().with_whole_checksum(), to));
        all.push(("checksum to be made", query.with_partial_checksum(), to));
        all.push(("TCP", asking(tcp(pod, v4), v4), to));
    }
    all
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let (mut harness, pod) = dead();
    assert_diverted_and_back(&mut harness, pod);
}

/// Somebody has taken away the pins of an agent that is dead: the array of the stages is empty.
#[test]
fn a_first_stage_that_is_alone_diverts() {
    let (mut harness, pod) = dead();
    harness.unlink_stages();
    assert_diverted_and_back(&mut harness, pod);
}

#[track_caller]
fn assert_diverted_and_back(harness: &mut Harness, pod: Place) {
    for (what, query, to) in queries(pod) {
        let outcome = harness.sent_by_pod(pod, &query);
        let diverted = query.clone().with(|p| p.destination = ip(to));
        assert_readdressed(&outcome, &query, &diverted, what);
        assert_eq!(outcome.counted.get("diverted"), Some(&1));
        let reply = answer(&diverted).with(|p| {
            p.flags = SYN | ACK;
            p.payload.extend([0; 16]);
        });
        let outcome = harness.sent_to_pod(pod, &reply);
        let expected = reply.clone().with(|p| p.source = query.destination);
        assert_readdressed(&outcome, &reply, &expected, what);
        assert_eq!(outcome.counted.get("diverted_back"), Some(&1));
    }
}

/// A checksum of zero says that there is none.
#[test]
fn no_checksum_stays_none() {
    let (mut harness, pod) = dead();
    let query = asking(udp(pod, true), true);
    let outcome = harness.sent_by_pod(pod, &query);
    assert_eq!(outcome.packet[40..42], [0, 0]);
    let reply = answer(&query.with(|p| p.destination = ip(V4)));
    let outcome = harness.sent_to_pod(pod, &reply);
    assert_eq!(outcome.packet[26..30], [169, 254, 20, 10]);
    assert_eq!(outcome.packet[40..42], [0, 0]);
}

#[test]
fn other_answers_are_left() {
    let (mut harness, pod) = dead();
    for (what, query, to) in queries(pod) {
        harness.sent_by_pod(pod, &query);
        let reply = answer(&query.with(|p| p.destination = ip(to)));
        let other = harness.pod('b');
        let mut rows = vec![
            (other, "another pod's interface", reply.clone()),
            (pod, "another port", reply.clone().with(|p| p.ports[1] += 1)),
            (pod, "not port 53", reply.clone().with(|p| p.ports[0] = 54)),
            (
                pod,
                "a fragment",
                reply.clone().with(|p| p.fragment = 0x2000),
            ),
            (
                pod,
                "cut",
                reply
                    .clone()
                    .with(|p| p.cut_at = Some(if to == V4 { 52 } else { 56 })),
            ),
        ];
        if reply.source.is_ipv6() {
            // IPv6 has no such field.
            rows.remove(3);
        }
        if reply.protocol == UDP {
            rows.push((pod, "another ID", reply.clone().with(|p| p.payload[1] ^= 1)));
            rows.push((pod, "no ID", reply.clone().with(|p| p.payload.truncate(1))));
        }
        for (place, row, reply) in rows {
            let outcome = harness.sent_to_pod(place, &reply);
            assert_eq!(outcome.verdict, Unspec, "{what}: {row}");
            assert_eq!(outcome.packet, reply.bytes(), "{what}: {row}");
        }
        assert_ne!(harness.sent_to_pod(pod, &reply).packet, reply.bytes());
    }
}

/// Who asks the fallback itself, from the same port, is answered by it.
#[test]
fn the_last_one_asked_answers() {
    let (mut harness, pod) = dead();
    for (what, query, to) in queries(pod) {
        let itself = query.clone().with(|p| p.destination = ip(to));
        let reply = answer(&itself);
        harness.sent_by_pod(pod, &query);
        assert_eq!(harness.sent_by_pod(pod, &itself).packet, itself.bytes());
        assert_eq!(
            harness.sent_to_pod(pod, &reply).packet,
            reply.bytes(),
            "{what}"
        );
        harness.sent_by_pod(pod, &query);
        assert_ne!(
            harness.sent_to_pod(pod, &reply).packet,
            reply.bytes(),
            "{what}"
        );
    }
}

/// The same for a connection to a fallback that is not intercepted.
#[test]
fn a_connection_of_its_own_is_not_taken_for_a_diverted_one() {
    let (mut harness, pod) = dead();
    harness.fall_back(ASKED[0].0, "10.96.0.77");
    let query = asking(tcp(pod, true), true);
    let itself = query.clone().with(|p| p.destination = ip("10.96.0.77"));
    let reply = answer(&itself);
    harness.sent_by_pod(pod, &query);
    assert_ne!(harness.sent_to_pod(pod, &reply).packet, reply.bytes());
    let outcome = harness.sent_by_pod(pod, &itself);
    assert_eq!((outcome.verdict, outcome.counted.len()), (Unspec, 0));
    assert_eq!(harness.sent_to_pod(pod, &reply).packet, reply.bytes());
}

/// A connection goes on where it was opened; a query goes to the resolver as soon as it is there.
#[test]
fn when_the_resolver_is_back() {
    let (mut harness, pod) = dead();
    for (what, query, to) in queries(pod) {
        harness.sent_by_pod(pod, &query);
        harness.listen_at(&[query.destination]);
        let late = query.clone().with(|p| p.flags = ACK);
        let outcome = harness.sent_by_pod(pod, &late);
        if query.protocol == UDP {
            assert_eq!(outcome.verdict, Redirect, "{what}");
        } else {
            let diverted = late.clone().with(|p| p.destination = ip(to));
            assert_readdressed(&outcome, &late, &diverted, what);
        }
        let outcome = harness.sent_by_pod(pod, &query);
        assert_eq!(
            outcome.verdict, Redirect,
            "{what}: what is new is the resolver's"
        );
        harness.close_sockets();
    }
}
