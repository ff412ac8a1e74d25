//! An upstream that answers what was not asked.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use dns_cache_tests::wire::{flag, frame, name_to_wire, read_frame, rtype};
use dns_cache_tests::{AgentConfig, Family, Lab, OrPanic, Transport, Upstream};

use crate::assert_web;

const LIE: [u8; 4] = [6, 6, 6, 6];
const TRUTH: [u8; 4] = [10, 96, 10, 10];

const OTHER: &str = "other.default.svc.cluster.local";

/// Answers every query three times: with another ID, to [`OTHER`], and rightly; to `OTHER` itself only rightly.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let query = read_frame(&mut stream)?;
        let name = query[12..].iter().position(|byte| *byte == 0).unwrap_or(0);
        let question = query[12..12 + name + 5].to_vec();
        let other = [
            name_to_wire("other.default.svc.cluster.local"),
            vec![0, 1, 0, 1],
        ]
        .concat();
        let id = u16::from_be_bytes([query[0], query[1]]);
        for (id, question, data) in [
            (id ^ 0x5555, &question, LIE),
            (id, &other, LIE),
            (id, &question, TRUTH),
        ] {
            if data == LIE && query[12..].starts_with(&other) {
                continue;
            }
            stream.write_all(&frame(&response(id, question, data)))?;
        }
    }
}

fn response(id: u16, question: &[u8], data: [u8; 4]) -> Vec<u8> {
    let flags = flag::QR | flag::RD | flag::AA;
    let header = [id, flags, 1, 1, 0, 0]
        .into_iter()
        .flat_map(u16::to_be_bytes);
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4];
    header
        .chain(question.iter().copied())
        .chain(record)
        .chain(data)
        .collect()
}

#[test]
fn response_that_does_not_match_is_dropped_and_counted() {
    let lab = Lab::builder().upstream(Upstream::Embedded).start();
    let address: SocketAddr = lab.pod(1).addresses().dns(Family::V4);
    let listener = lab.pod(1).netns().run(|| TcpListener::bind(address));
    let listener = listener.or_panic("binding the liar");
    // The threads end with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    let agent = lab.agent(&AgentConfig {
        upstreams: vec![address],
        ..AgentConfig::default()
    });
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(family), transport);
        }
    }
    // The other question has not come into the cache by its lie.
    let other = lab.pod(0).client(Family::V4);
    let other = other.lookup(OTHER, rtype::A);
    assert_eq!(other.data(), ["A 10.96.10.10"]);
    let status = agent.status().or_panic("asking for the status");
    let upstreams = status.pointer("/resolver/upstreams");
    let upstreams = upstreams.and_then(|list| list.as_array());
    let unmatched = upstreams
        .into_iter()
        .flatten()
        .filter_map(|u| u["unmatched"].as_u64());
    assert!(
        unmatched.sum::<u64>() >= 2,
        "nothing was counted: {status:#}"
    );
}
