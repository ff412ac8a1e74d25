//! An upstream with every fault that a TCP server can have, beside real CoreDNS: no lookup fails.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::patience::LONG;
use dns_cache_tests::wire::{frame, read_frame, rtype};
use dns_cache_tests::{AgentConfig, Family, Lab, OrPanic, Query, Transport};
use nix::sys::socket::{setsockopt, sockopt::Linger};

/// What a server does with the answer that it should give.
type Fault = fn(&mut TcpStream, &[u8], Vec<u8>) -> std::io::Result<()>;

/// The name of each, what it does, and whether it is a failure; if not, nothing but answers may be counted.
const FAULTS: [(&str, Fault, bool); 9] = [
    ("one-byte segments", one_byte_segments, false),
    ("slow answers", slow, false),
    ("closed in the middle of a message", cut, true),
    ("reset", reset, true),
    ("another ID", another_id, true),
    ("another question", another_question, true),
    ("a compression loop", compression_loop, true),
    ("records that are not there", missing_records, true),
    ("a giant message of nothing", giant, true),
];

fn one_byte_segments(stream: &mut TcpStream, _: &[u8], answer: Vec<u8>) -> std::io::Result<()> {
    frame(&answer)
        .iter()
        .try_for_each(|byte| stream.write_all(&[*byte]))
}

fn slow(stream: &mut TcpStream, _: &[u8], answer: Vec<u8>) -> std::io::Result<()> {
    thread::sleep(Duration::from_millis(100));
    stream.write_all(&frame(&answer))
}

fn cut(stream: &mut TcpStream, _: &[u8], answer: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&frame(&answer)[..20])?;
    stream.shutdown(Shutdown::Both)
}

fn reset(stream: &mut TcpStream, _: &[u8], _: Vec<u8>) -> std::io::Result<()> {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, Linger, &at_once)?;
    Err(std::io::ErrorKind::ConnectionReset.into())
}

fn another_id(stream: &mut TcpStream, _: &[u8], mut answer: Vec<u8>) -> std::io::Result<()> {
    answer[0] ^= 0x55;
    stream.write_all(&frame(&answer))
}

fn another_question(stream: &mut TcpStream, _: &[u8], mut answer: Vec<u8>) -> std::io::Result<()> {
    answer[13] ^= 1;
    stream.write_all(&frame(&answer))
}

fn compression_loop(stream: &mut TcpStream, query: &[u8], _: Vec<u8>) -> std::io::Result<()> {
    let owner = u16::try_from(query.len()).unwrap_or(u16::MAX) | 0xc000;
    let record = [
        &owner.to_be_bytes()[..],
        &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 6, 6, 6, 6],
    ]
    .concat();
    stream.write_all(&frame(&response(query, 1, &record)))
}

fn missing_records(stream: &mut TcpStream, query: &[u8], _: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&frame(&response(query, 9, &[])))
}

fn giant(stream: &mut TcpStream, query: &[u8], _: Vec<u8>) -> std::io::Result<()> {
    let zeros = vec![0; 65_535 - query.len()];
    stream.write_all(&frame(&response(query, u16::MAX, &zeros)))
}

/// The question without its OPT record, as a response with so many answers.
fn response(question: &[u8], answers: u16, records: &[u8]) -> Vec<u8> {
    let mut message = [question, records].concat();
    message[2] |= 0x84;
    message[6..8].copy_from_slice(&answers.to_be_bytes());
    message[8..12].fill(0);
    message
}

fn serve(mut stream: TcpStream, fault: Fault) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let query = read_frame(&mut stream)?;
        let name = query[12..].iter().position(|byte| *byte == 0).unwrap_or(0);
        let question = &query[..12 + name + 5];
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 97, 0, 1];
        fault(&mut stream, question, response(question, 1, &record))?;
    }
}

/// A server with a fault in the second pod.
fn start(lab: &Lab, fault: Fault) -> SocketAddr {
    let address = lab.pod(1).addresses().dns(Family::V4);
    let listener = lab.pod(1).netns().run(|| TcpListener::bind(address));
    let listener = listener.or_panic("binding the faulty server");
    // The threads end with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, fault));
        }
    });
    address
}

#[test]
fn faults_of_one_server_cost_no_lookup() {
    for (what, fault, counted) in FAULTS {
        let lab = Lab::builder().start();
        let faulty = start(&lab, fault);
        let coredns = lab.dns().endpoints()[0].dns(Family::V4);
        let agent = lab.agent(&AgentConfig {
            upstreams: vec![faulty, coredns],
            ..AgentConfig::default()
        });
        let client = lab.pod(0).client(Family::V4);
        let client = client.timeout(Duration::from_secs(5));
        for number in 0..20 {
            let name = format!("n{number}.wild.types.svc.cluster.local");
            let reply = client.ask(Transport::Connected, &Query::new(&name, rtype::A));
            let reply = reply.or_panic(format_args!("{what}: {name}"));
            assert_eq!(reply.message.answers.len(), 1, "{what}: {name}");
            assert_ne!(reply.message.data(), ["A 6.6.6.6"], "{what}: {name}");
            let most = Duration::from_secs(2);
            assert!(reply.time < most, "{what}: {name} took {:?}", reply.time);
        }
        // An attempt that another server has won against is counted when its own time is over.
        let end = Instant::now() + LONG;
        loop {
            let status = &agent.upstreams("cluster.local")[0];
            let count = |key: &str| status[key].as_u64().or_panic("a count");
            if !counted {
                assert!(count("queries") > 0, "{what}: {status:#}");
                assert_eq!(count("failures"), 0, "{what}: {status:#}");
                break;
            }
            if count("failures") > 0 {
                break;
            }
            assert!(Instant::now() < end, "{what}: {status:#}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// CoreDNS that is stopped in its tracks, and killed, while lookups go on.
#[test]
fn a_stopped_and_a_killed_replica_cost_no_lookup() {
    let lab = Lab::builder().start();
    let _agent = lab.agent(&AgentConfig::default());
    let client = lab.pod(0).client(Family::V4);
    let client = client.timeout(Duration::from_secs(5));
    let mut number = 0;
    let mut lookups = |when: &str| {
        for _ in 0..20 {
            number += 1;
            let name = format!("n{number}.wild.types.svc.cluster.local");
            let reply = client.ask(Transport::Connected, &Query::new(&name, rtype::A));
            let reply = reply.or_panic(format_args!("{when}: {name}"));
            assert_eq!(reply.message.answers.len(), 1, "{when}: {name}");
            let most = Duration::from_secs(2);
            assert!(reply.time < most, "{when}: {name} took {:?}", reply.time);
        }
    };
    lookups("before");
    for replica in lab.dns().replicas() {
        replica.pause();
        lookups("stopped");
        replica.resume();
        lookups("continued");
    }
    for replica in lab.dns().replicas() {
        replica.stop();
        lookups("killed");
        replica.start();
        lookups("started");
    }
}
