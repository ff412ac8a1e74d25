//! Helpers for the tests of resolver and server.

mod cuts;
mod failures;
mod local;
mod lookup;
mod mirror;
mod prefetch;
mod stale;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use dns_cache_common::edns;
use dns_cache_common::header::{Flags, Header};
use proptest::prelude::*;

use super::*;
use crate::config::{self, Config};
use crate::upstream::fake::{self, Fake};

const LONG: Duration = Duration::from_secs(30);

/// A configuration whose cluster zone has these servers, on this machine, and which has no others.
pub(crate) fn config(upstreams: &[SocketAddr]) -> Config {
    let text = "listen: [192.0.2.1]\ncluster: {upstreams: [192.0.2.2]}\nresolvConf: /nonexistent/resolv.conf\n\
                cache: {maxEntries: 1000, maxBytes: 1Mi, kernel: false}\n";
    let mut config = config::parse(text, Path::new("test")).unwrap();
    config.listen = vec!["127.0.0.1".parse().unwrap()];
    config.cluster.upstreams = upstreams.iter().copied().map(Into::into).collect();
    config
}

/// A resolver by a clock that the test moves.
pub(super) struct Bench {
    pub(super) resolver: Arc<Resolver>,
    nanos: Arc<AtomicU64>,
}

impl Bench {
    pub(super) fn new(upstreams: &[SocketAddr]) -> Self {
        Self::with(&config(upstreams), LONG)
    }

    fn with(config: &Config, deadline: Duration) -> Self {
        let timings = Timings {
            attempt: LONG,
            connect: LONG,
            ..Timings::default()
        };
        Self::timed(config, deadline, timings)
    }

    fn timed(config: &Config, deadline: Duration, timings: Timings) -> Self {
        let nanos = Arc::new(AtomicU64::new(77_000_000_000));
        let clock = Clock::Manual(Arc::clone(&nanos));
        Self {
            resolver: Resolver::with(config, clock, timings, deadline).unwrap(),
            nanos,
        }
    }

    pub(super) fn pass(&self, seconds: f64) {
        self.nanos.fetch_add((seconds * 1e9) as u64, SeqCst);
    }

    /// The reply, and whether it came from the cache.
    pub(super) async fn ask(&self, query: &[u8], transport: Transport) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let now = self.resolver.clock().now();
        match self.resolver.answer_cached(query, transport, now, &mut out) {
            Answer::Reply(length) => {
                assert_eq!(length, out.len());
                (out, true)
            }
            Answer::Miss(miss) => (self.resolver.resolve(miss).await, false),
            Answer::Drop => panic!("dropped"),
        }
    }

    /// Returns once no answer is on its way any more.
    async fn settled(&self) {
        while self.resolver.flights.count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.resolver
            .counters
            .list()
            .into_iter()
            .find(|(n, _)| *n == name)
            .unwrap()
            .1
    }
}

/// A query for a name under the cluster domain, or outside it if it has a dot.
pub(crate) fn query(id: u16, name: &str, rtype: u16, flags: u16) -> Vec<u8> {
    let name = if name.contains('.') {
        name.to_owned()
    } else {
        format!("{name}.cluster.local")
    };
    let header = Header {
        id,
        flags: Flags(flags),
        questions: 1,
        records: [0; 3],
    };
    let mut query = header.bytes().to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    query
}

fn with_opt(mut query: Vec<u8>, dnssec_ok: bool) -> Vec<u8> {
    query[11] = 1;
    query.extend_from_slice(&edns::opt(dnssec_ok, 0));
    query
}

fn flags(reply: &[u8]) -> u16 {
    u16::from_be_bytes([reply[2], reply[3]])
}

/// An upstream that gives each query's answer by a function, and counts the queries.
async fn upstream(
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> (Fake, Arc<AtomicUsize>) {
    let (answer, queries) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&queries);
    let fake = Fake::start(move |mut stream, _| {
        let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
        async move {
            while let Some(query) = fake::read(&mut stream).await {
                counted.fetch_add(1, SeqCst);
                fake::write(&mut stream, &answer(&query)).await;
            }
        }
    })
    .await;
    (fake, queries)
}

#[tokio::test]
async fn a_miss_is_asked_and_a_hit_is_not() {
    let (fake, queries) = upstream(|query| {
        let mut response = fake::address(query);
        response[2] &= !4; // AA
        response
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    let (reply, hit) = bench
        .ask(&query(0x1111, "WeB", 1, 0x0100), Transport::Udp)
        .await;
    assert!(!hit);
    assert_eq!((&reply[..2], flags(&reply)), (&[0x11, 0x11][..], 0x8180));
    assert_eq!(&reply[12..16], b"\x03WeB");
    assert_eq!(
        reply[reply.len() - 16..],
        *b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x0a\0\0\x01"
    );

    bench.pass(19.9);
    let (reply, hit) = bench
        .ask(&query(0x2222, "wEb", 1, 0x0010), Transport::Udp)
        .await;
    // CD is part of the key.
    assert!(!hit && flags(&reply) == 0x8090);
    let (reply, hit) = bench
        .ask(&query(0x2222, "wEb", 1, 0x0000), Transport::Udp)
        .await;
    assert!(hit);
    assert_eq!((&reply[..2], flags(&reply)), (&[0x22, 0x22][..], 0x8480));
    assert_eq!(&reply[12..16], b"\x03wEb");
    assert_eq!(reply[reply.len() - 10..][..4], [0, 0, 0, 1]);

    bench.pass(0.1);
    assert!(
        !bench
            .ask(&query(1, "web", 1, 0x0100), Transport::Tcp)
            .await
            .1
    );
    assert!(
        bench
            .ask(&query(1, "web", 1, 0x0100), Transport::Tcp)
            .await
            .1
    );
    assert_eq!(queries.load(SeqCst), 3);
    assert_eq!((bench.count("hits"), bench.count("misses")), (2, 3));
    let status = bench.resolver.status();
    assert_eq!(status.cache.entries, 2);
    assert!(status.cache.bytes > 200);
    assert_eq!(
        (
            status.upstreams[0].zone.as_str(),
            status.upstreams[0].queries
        ),
        ("cluster.local", 3)
    );
}

#[tokio::test]
async fn dnssec_ok_is_part_of_the_key_and_reaches_the_upstream() {
    let (fake, queries) = upstream(|query| {
        let mut response = fake::address(query);
        let dnssec_ok = query[query.len() - 4];
        response[3] |= if dnssec_ok == 0x80 { 0x20 } else { 0 };
        response
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    let plain = query(1, "web", 1, 0x0100);
    for (query, expected) in [
        (plain.clone(), 0x8580),
        (with_opt(plain.clone(), true), 0x85a0),
        (with_opt(plain.clone(), false), 0x8580),
    ] {
        let (reply, _) = bench.ask(&query, Transport::Udp).await;
        assert_eq!(flags(&reply), expected);
        if query.len() > plain.len() {
            assert_eq!(reply[reply.len() - 11..], query[query.len() - 11..]);
        }
    }
    assert_eq!(queries.load(SeqCst), 2);
}

#[tokio::test]
async fn identical_misses_share_one_query() {
    let (fake, queries) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    let misses: Vec<_> = (0..50)
        .map(|id| query(id, if id % 2 == 0 { "web" } else { "WEB" }, 1, 0x0100))
        .collect();
    let transports = [Transport::Udp, Transport::Tcp].into_iter().cycle();
    let asked = misses
        .iter()
        .zip(transports)
        .map(|(query, transport)| bench.ask(query, transport));
    let replies = futures_util::future::join_all(asked).await;
    for (query, (reply, _)) in misses.iter().zip(&replies) {
        assert_eq!(
            (&reply[..2], &reply[12..query.len()]),
            (&query[..2], &query[12..])
        );
        assert_eq!(flags(reply), 0x8580);
    }
    assert_eq!((queries.load(SeqCst), bench.count("coalesced")), (1, 49));
}

#[tokio::test]
async fn who_joins_late_is_told_of_a_failure_in_his_own_time() {
    let fake = Fake::start(|stream, _| async move {
        tokio::time::sleep(LONG).await;
        drop(stream);
    })
    .await;
    let deadline = Duration::from_secs(2);
    let bench = Bench::with(&config(&[fake.address]), deadline);
    let ask = async |delay: Duration, transport| {
        tokio::time::sleep(delay).await;
        let asked = Instant::now();
        let (reply, _) = bench.ask(&query(1, "web", 1, 0x0100), transport).await;
        assert_eq!(flags(&reply) & 15, 2);
        asked.elapsed()
    };
    let (first, late) = tokio::join!(
        ask(Duration::ZERO, Transport::Udp),
        ask(deadline / 2, Transport::Tcp)
    );
    assert!(first >= deadline && late < deadline, "{first:?}, {late:?}");
    assert_eq!(bench.count("coalesced"), 1);
    assert_eq!(bench.resolver.status().upstreams[0].queries, 1);
}

#[tokio::test]
async fn a_client_gets_servfail_in_time() {
    let fake = Fake::start(|stream, _| async move {
        tokio::time::sleep(LONG).await;
        drop(stream);
    })
    .await;
    let bench = Bench::with(&config(&[fake.address]), Duration::from_millis(50));
    for _ in 0..2 {
        let (reply, _) = bench.ask(&query(3, "web", 1, 0x0100), Transport::Udp).await;
        assert_eq!(
            (flags(&reply), reply.len()),
            (0x8182, query(3, "web", 1, 0).len())
        );
    }
    assert!(bench.count("failed") >= 1);
}

#[tokio::test]
async fn what_may_not_be_kept_is_answered_and_asked_again() {
    let (fake, queries) = upstream(|query| {
        let mut response = fake::address(query);
        if query[13] == b'0' {
            let ttl = response.len() - 7;
            response[ttl] = 0;
        }
        response
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    for (name, rtype, rcode) in [("0", 1, 0), ("x", 255, 0)] {
        let before = queries.load(SeqCst);
        for _ in 0..2 {
            let (reply, hit) = bench
                .ask(&query(1, name, rtype, 0x0100), Transport::Udp)
                .await;
            assert!(!hit && flags(&reply) & 15 == rcode, "{name}");
        }
        assert_eq!(queries.load(SeqCst), before + 2, "{name}");
    }
    assert_eq!(
        (
            bench.count("not_cacheable"),
            bench.resolver.status().cache.entries
        ),
        (4, 0)
    );
}

#[tokio::test]
async fn a_malformed_response_is_servfail() {
    let (fake, _) = upstream(|query| fake::respond(query, 0x8180, [1, 0, 0], b"\xc0\xff")).await;
    let bench = Bench::new(&[fake.address]);
    let (reply, _) = bench.ask(&query(1, "web", 1, 0x0100), Transport::Udp).await;
    assert_eq!(flags(&reply), 0x8182);
    // The only server has a second try.
    assert_eq!(bench.count("malformed_responses"), 2);
}

#[tokio::test]
async fn without_servers_for_other_names_they_get_servfail() {
    let (fake, queries) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    let (reply, _) = bench
        .ask(&query(1, "www.example", 1, 0x0100), Transport::Udp)
        .await;
    assert_eq!((flags(&reply), queries.load(SeqCst)), (0x8182, 0));
}

#[tokio::test]
async fn a_large_answer_is_cut_for_udp_and_whole_for_tcp() {
    let (fake, queries) = upstream(|query| {
        let records: Vec<u8> = (0..100u8)
            .flat_map(|i| [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 20, 0, 4, 10, 0, 0, i])
            .collect();
        fake::respond(query, 0x8580, [100, 0, 0], &records)
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    let plain = query(1, "web", 1, 0x0100);
    for (query, transport, limit, tc) in [
        (plain.clone(), Transport::Udp, 512, 2),
        (with_opt(plain.clone(), false), Transport::Udp, 1232, 2),
        (plain.clone(), Transport::Tcp, 65_535, 0),
    ] {
        let (reply, _) = bench.ask(&query, transport).await;
        assert_eq!(reply[2] & 2, tc);
        assert!(reply.len() <= limit && (tc == 0 || reply.len() + 16 > limit));
        let header = Header::read(&reply[..]).unwrap();
        let opt = query.len() - plain.len();
        assert_eq!(
            reply.len(),
            plain.len() + opt + 16 * usize::from(header.records[0])
        );
    }
    assert_eq!(queries.load(SeqCst), 1);
}

#[tokio::test]
async fn the_number_of_entries_is_bounded() {
    let (fake, _) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    config.cache = CacheLimits {
        max_entries: 20,
        max_bytes: 1 << 20,
        kernel: false,
    };
    let bench = Bench::with(&config, LONG);
    for i in 0..60 {
        bench
            .ask(&query(1, &format!("n{i}"), 1, 0x0100), Transport::Udp)
            .await;
    }
    assert!(bench.resolver.status().cache.entries <= 20);
}

#[test]
fn what_cannot_be_read_is_refused_or_dropped() {
    let bench = Bench::new(&["127.0.0.1:1".parse().unwrap()]);
    let mut out = vec![0xee];
    let mut ask = |message: &[u8]| {
        bench.resolver.answer_cached(
            message,
            Transport::Udp,
            bench.resolver.clock().now(),
            &mut out,
        )
    };
    assert!(matches!(ask(&[0; 11]), Answer::Drop));
    assert!(matches!(ask(&query(1, "web", 1, 0x8100)), Answer::Drop));
    assert!(matches!(
        ask(&query(9, "web", 1, 0x2900)),
        Answer::Reply(12)
    ));
    assert_eq!(out, [0xee, 0, 9, 0xa9, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((bench.count("dropped"), bench.count("refused")), (2, 1));
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(message: Vec<u8>, tcp: bool) {
        let bench = Bench::new(&["127.0.0.1:1".parse().unwrap()]);
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut out = Vec::new();
        match bench.resolver.answer_cached(&message, transport, bench.resolver.clock().now(), &mut out) {
            Answer::Reply(length) => prop_assert_eq!(length, out.len()),
            Answer::Miss(_) | Answer::Drop => prop_assert!(out.is_empty()),
        }
    }
}
