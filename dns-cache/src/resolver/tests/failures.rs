//! Failures are told with their cause, and remembered for a moment.

use dns_cache_common::types::ede;

use super::*;
use crate::presentation;

/// The info code of the reply's Extended DNS Error.
pub(super) fn explanation(reply: &[u8]) -> Option<u16> {
    let opt = reply
        .windows(5)
        .rposition(|bytes| bytes == [0, 0, 41, 4, 0xd0])?;
    let option = reply.get(opt + edns::OPT_LEN..)?;
    (option.get(..2)? == [0, 15]).then(|| u16::from_be_bytes([option[4], option[5]]))
}

fn web() -> Vec<u8> {
    with_opt(query(1, "web", 1, 0x0100), false)
}

#[tokio::test]
async fn an_upstreams_error_is_remembered_for_a_second_and_then_longer() {
    for rcode in [2, 5] {
        let (fake, asked) =
            upstream(move |query| fake::respond(query, 0x8180 | rcode, [0; 3], &[])).await;
        let bench = Bench::new(&[fake.address]);
        for (round, seconds) in [1.0, 2.0, 4.0, 5.0, 5.0].into_iter().enumerate() {
            for _ in 0..10 {
                let (reply, _) = bench.ask(&web(), Transport::Udp).await;
                assert_eq!((flags(&reply) & 15, explanation(&reply)), (rcode, Some(0)));
            }
            assert_eq!(asked.load(SeqCst), round + 1);
            bench.pass(seconds - 0.01);
            assert!(bench.ask(&web(), Transport::Udp).await.1);
            bench.pass(0.02);
        }
        assert_eq!(bench.count("remembered_failures"), 50);
        assert_eq!(bench.resolver.status().cache.entries, 0);
    }
}

#[tokio::test]
async fn a_flush_ends_the_memory_of_failures() {
    let (fake, asked) = upstream(|query| fake::respond(query, 0x8182, [0; 3], &[])).await;
    let bench = Bench::new(&[fake.address]);
    for (name, flushed) in [("other", 1), ("web", 2)] {
        for _ in 0..2 {
            bench.ask(&web(), Transport::Udp).await;
        }
        let name = presentation::name(&format!("{name}.cluster.local")).unwrap();
        assert_eq!(bench.resolver.flush(&Selection::Name(name)).entries, 0);
        bench.ask(&web(), Transport::Udp).await;
        assert_eq!(asked.load(SeqCst), flushed);
    }
}

#[tokio::test]
async fn an_answer_ends_the_memory_of_failures() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (fake, _) = upstream(move |query| match counted.fetch_add(1, SeqCst) {
        2 => {
            let mut response = fake::address(query);
            let ttl = response.len() - 7;
            response[ttl] = 1;
            response
        }
        _ => fake::respond(query, 0x8182, [0; 3], &[]),
    })
    .await;
    let mut config = config(&[fake.address]);
    config.serve_stale.enabled = false;
    let bench = Bench::with(&config, LONG);
    // Failures last 1 s and 2 s, the answer 1 s, and the next failure 1 s again.
    for (pause, rcode) in [(0.0, 2), (1.0, 2), (2.0, 0), (1.0, 2), (1.0, 2)] {
        bench.pass(pause);
        let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
        assert!(!hit && flags(&reply) & 15 == rcode);
    }
    assert_eq!(asked.load(SeqCst), 5);
}

#[tokio::test]
async fn each_failure_tells_its_cause() {
    let (malformed, _) =
        upstream(|query| fake::respond(query, 0x8180, [1, 0, 0], b"\xc0\xff")).await;
    let (silent, _) = silent().await;
    // Nobody listens there any more.
    let closed = Fake::answering().await.0.address;
    for (servers, code) in [
        (vec![malformed.address], ede::INVALID_DATA),
        (vec![silent.address], ede::NO_REACHABLE_AUTHORITY),
        (vec![closed], ede::NETWORK_ERROR),
        (vec![], ede::NOT_READY),
    ] {
        let bench = Bench::with(&config(&servers), Duration::from_secs(2));
        for _ in 0..2 {
            let (reply, _) = bench.ask(&web(), Transport::Udp).await;
            assert_eq!((flags(&reply) & 15, explanation(&reply)), (2, Some(code)));
            // Without EDNS there is no place for it.
            let plain = query(1, "web", 1, 0x0100);
            let (reply, _) = bench.ask(&plain, Transport::Udp).await;
            assert_eq!(reply.len(), plain.len());
        }
    }
}

/// A server that reads and says nothing.
async fn silent() -> (Fake, Arc<AtomicUsize>) {
    let queries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&queries);
    let fake = Fake::start(move |mut stream, _| {
        let counted = Arc::clone(&counted);
        async move {
            while fake::read(&mut stream).await.is_some() {
                counted.fetch_add(1, SeqCst);
            }
        }
    })
    .await;
    (fake, queries)
}

#[tokio::test]
async fn the_deadline_counts_from_the_arrival() {
    let (silent, _) = silent().await;
    let bench = Bench::new(&[silent.address]);
    let mut out = Vec::new();
    let now = bench.resolver.clock().now();
    let answer = bench
        .resolver
        .answer_cached(&web(), Transport::Tcp, now, &mut out);
    let Answer::Miss(mut miss) = answer else {
        panic!("it is not cached");
    };
    miss.came_earlier(LONG);
    let reply = tokio::time::timeout(LONG / 2, bench.resolver.resolve(miss));
    assert_eq!(flags(&reply.await.unwrap()) & 15, 2);
}

/// More than the sockets that a server may have.
#[tokio::test]
async fn where_all_servers_are_busy_that_is_overload_and_not_remembered() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&[silent.local_addr().unwrap()]);
    config.cluster.transport = config::Transport::Udp;
    let bench = Bench::new(&[]);
    bench.resolver.reload(&config).unwrap();
    let zones = bench.resolver.zones();
    let _held: Vec<_> = zones.iter().map(|zone| zone.group.fill()).collect();
    for n in 0..8 {
        let query = with_opt(query(n, &format!("n{n}"), 1, 0x0100), false);
        for _ in 0..2 {
            let (reply, hit) = bench.ask(&query, Transport::Udp).await;
            assert_eq!((flags(&reply) & 15, hit), (5, false));
        }
    }
    assert_eq!(bench.count("overload"), 16);
    assert_eq!(bench.count("failed"), 0);
}

#[tokio::test]
async fn questions_on_their_way_are_bounded() {
    let (silent, asked) = silent().await;
    let mut config = config(&[silent.address]);
    config.queries.in_flight = 3;
    let bench = Bench::with(&config, Duration::from_millis(900));
    let queries: Vec<_> = (0..20)
        .map(|i| query(i, &format!("n{i}"), 1, 0x0100))
        .collect();
    let replies = futures_util::future::join_all(
        queries.iter().map(|query| bench.ask(query, Transport::Udp)),
    )
    .await;
    let rcode = |code| {
        replies
            .iter()
            .filter(|(reply, _)| flags(reply) & 15 == code)
            .count()
    };
    assert_eq!((rcode(2), rcode(5)), (3, 17));
    assert_eq!((asked.load(SeqCst), bench.count("overload")), (3, 17));
}
