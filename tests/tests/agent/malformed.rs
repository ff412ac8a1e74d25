//! Messages that are none: FORMERR, NOTIMP or silence, and the agent lives on.

use std::time::Duration;

use dns_cache_tests::wire::{Message, flag, frame, rtype};
use dns_cache_tests::{Client, Family, Flavour, OrPanic, Query, Transport};

use crate::{WEB, assert_web, lab_with_agent};

/// What it is, and its bytes.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let good = Query::new(WEB, rtype::A).to_bytes();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let header = good[..12].to_vec();
    let question = |labels: &[u8]| [header.as_slice(), labels, &[0, 1, 0, 1]].concat();
    vec![
        ("one byte", vec![0]),
        ("half a header", good[..7].to_vec()),
        ("a header and no question", header.clone()),
        ("half a name", good[..20].to_vec()),
        ("no type", good[..good.len() - 4].to_vec()),
        ("half a class", good[..good.len() - 1].to_vec()),
        ("no questions by its count", with(&|b| b[5] = 0)),
        ("two questions by its count", with(&|b| b[5] = 2)),
        ("65535 questions", with(&|b| b[4..6].fill(0xff))),
        ("answers by its count", with(&|b| b[7] = 1)),
        ("65535 additional records", with(&|b| b[10..12].fill(0xff))),
        ("opcode UPDATE", with(&|b| b[2] = 5 << 3)),
        ("opcode 15", with(&|b| b[2] = 15 << 3)),
        ("a pointer to itself", question(&[0xc0, 12])),
        ("pointers in a circle", question(&[0xc0, 14, 0xc0, 12])),
        ("a pointer behind the end", question(&[0xff, 0xff])),
        ("a pointer into the header", question(&[0xc0, 0])),
        (
            "a label of the reserved kind 0x40",
            question(&[0x41, b'a', 0]),
        ),
        (
            "a label of the reserved kind 0x80",
            question(&[0x81, b'a', 0]),
        ),
        ("a name of 320 octets", question(&[[63; 64]; 5].concat())),
        ("an OPT that is torn", {
            let mut bytes = Query::new(WEB, rtype::A).edns(1232).to_bytes();
            bytes.truncate(bytes.len() - 3);
            bytes
        }),
        ("an OPT whose length lies", {
            let mut bytes = Query::new(WEB, rtype::A).edns(1232).to_bytes();
            let end = bytes.len();
            bytes[end - 1] = 200;
            bytes
        }),
        ("two OPTs", {
            let mut bytes = Query::new(WEB, rtype::A).edns(1232).to_bytes();
            bytes.extend([0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]);
            bytes[11] = 2;
            bytes
        }),
    ]
}

/// A whole message with an error, or nothing.
fn check(what: &str, answer: Option<&[u8]>) {
    let Some(bytes) = answer else { return };
    let rcode = bytes.get(3).map(|byte| byte & 0xf);
    assert!(
        matches!(rcode, Some(1 | 4 | 5)),
        "{what} was answered with {bytes:02x?}"
    );
    assert!(bytes[2] & 0x80 != 0, "{what} was answered with a query");
    assert!(
        bytes.len() <= 512,
        "{what} was answered with {} bytes",
        bytes.len()
    );
}

fn hasty(client: &Client) -> Client {
    client.clone().timeout(Duration::from_millis(150))
}

#[test]
fn malformed_queries_harm_nobody() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        for (what, bytes) in messages() {
            for transport in [Transport::Connected, Transport::Tcp] {
                let answer = hasty(&client).exchange(transport, &bytes).ok();
                check(what, answer.as_ref().map(|(bytes, _)| bytes.as_slice()));
            }
            assert_web(&client, Transport::Connected);
        }
        assert_web(&client, Transport::Tcp);
    }
    assert!(agent.process().exit_status().is_none());
    lab.node().conntrack().assert_no_pod_dns();
}

/// Answering an answer would let two servers talk to each other for ever.
#[test]
fn responses_are_not_answered() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let response = Query::new(WEB, rtype::A)
        .flags(flag::QR | flag::RD)
        .to_bytes();
    let client = lab.pod(0).client(Family::V4);
    assert!(
        hasty(&client)
            .exchange(Transport::Connected, &response)
            .is_err()
    );
}

/// Lengths on TCP: nought, torn, and a message that comes byte by byte.
#[test]
fn odd_tcp_streams_harm_nobody() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V6);
    let query = Query::new(WEB, rtype::A).to_bytes();
    for bytes in [
        vec![0, 0],
        vec![0],
        vec![0xff, 0xff, 1, 2, 3],
        vec![0; 4096],
    ] {
        let mut session = hasty(&client).tcp().or_panic("connecting");
        // The other side may have closed it in the middle, and rightly.
        let _ = session.send_raw(&bytes);
        let _ = session.receive();
        assert_web(&client, Transport::Tcp);
    }
    let mut session = client.tcp().or_panic("connecting");
    for byte in frame(&query) {
        session.send_raw(&[byte]).or_panic("sending a byte");
    }
    let answer = session.receive().or_panic("a query that came byte by byte");
    assert_eq!(
        Message::read(&answer).or_panic("no message").data(),
        [crate::WEB_A]
    );
}
