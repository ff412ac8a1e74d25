//! Entries in use are refreshed before they expire.

use dns_cache_common::question::{self, Parsed};

use super::*;

/// An answer with another TTL than 20.
fn with_ttl(query: &[u8], ttl: u8) -> Vec<u8> {
    let mut response = fake::address(query);
    let at = response.len() - 7;
    response[at] = ttl;
    response
}

fn web() -> Vec<u8> {
    query(1, "web", 1, 0x0100)
}

impl Bench {
    async fn is_hit(&self, query: &[u8]) -> bool {
        let (_, hit) = self.ask(query, Transport::Udp).await;
        self.settled().await;
        hit
    }
}

#[tokio::test]
async fn names_in_use_are_never_missed() {
    const NAMES: u32 = 50;
    const TTL: u32 = 5;
    const SECONDS: u32 = 60;
    let (fake, asked) = upstream(|query| with_ttl(query, TTL as u8)).await;
    let bench = Bench::new(&[fake.address]);
    let names: Vec<_> = (0..NAMES)
        .map(|i| query(1, &format!("n{i}"), 1, 0x0100))
        .collect();
    for name in &names {
        bench.ask(name, Transport::Udp).await;
    }
    let warm = asked.load(SeqCst);
    // 5,000 queries a second.
    for _ in 0..SECONDS * 100 {
        bench.pass(0.01);
        for name in &names {
            assert!(bench.ask(name, Transport::Udp).await.1);
        }
        bench.settled().await;
    }
    let each = (asked.load(SeqCst) - warm) as f64 / f64::from(NAMES * SECONDS / TTL);
    assert!(each <= 1.3, "{each} upstream queries a name and TTL");
}

#[tokio::test]
async fn a_hit_before_the_last_part_of_the_ttl_refreshes_nothing() {
    let (fake, asked) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    bench.is_hit(&web()).await;
    bench.pass(17.9);
    assert!(bench.is_hit(&web()).await);
    assert_eq!(asked.load(SeqCst), 1);
    bench.pass(0.2);
    assert!(bench.is_hit(&web()).await);
    assert_eq!((asked.load(SeqCst), bench.count("prefetches")), (2, 1));
    // The answer is new: 20 seconds from now on.
    bench.pass(17.0);
    assert!(bench.is_hit(&web()).await);
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn an_entry_nobody_asks_for_expires() {
    let (fake, asked) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    bench.is_hit(&web()).await;
    bench.pass(20.0);
    assert!(!bench.is_hit(&web()).await);
    assert_eq!((asked.load(SeqCst), bench.count("prefetches")), (2, 0));
}

#[tokio::test]
async fn many_hits_are_one_refresh() {
    let (fake, asked) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    bench.is_hit(&web()).await;
    bench.pass(19.0);
    for _ in 0..100 {
        assert!(bench.ask(&web(), Transport::Udp).await.1);
    }
    bench.settled().await;
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_short_ttl_is_left_alone_for_four_fifths_of_it() {
    let (fake, asked) = upstream(|query| with_ttl(query, 1)).await;
    let bench = Bench::new(&[fake.address]);
    bench.is_hit(&web()).await;
    bench.pass(0.79);
    assert!(bench.is_hit(&web()).await);
    assert_eq!(asked.load(SeqCst), 1);
    bench.pass(0.02);
    assert!(bench.is_hit(&web()).await);
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_entry_and_is_not_repeated_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let (fake, _) = upstream(move |query| match counted.fetch_add(1, SeqCst) {
        0 => fake::address(query),
        _ => fake::respond(query, 0x8182, [0; 3], &[]),
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    bench.is_hit(&web()).await;
    bench.pass(18.5);
    for _ in 0..10 {
        assert!(bench.is_hit(&web()).await);
    }
    assert_eq!((asked.load(SeqCst), bench.count("prefetches")), (2, 1));
}

/// A thousand names in use reach the last part of their TTL in the same moment, and the upstream takes its time.
#[tokio::test]
async fn names_that_are_due_together_are_all_refreshed_before_they_expire() {
    const NAMES: usize = 1000;
    let held = Arc::new(tokio::sync::Semaphore::new(NAMES));
    let asked = Arc::new(AtomicUsize::new(0));
    let (gate, counted) = (Arc::clone(&held), Arc::clone(&asked));
    let fake = Fake::start(move |mut stream, _| {
        let (gate, counted) = (Arc::clone(&gate), Arc::clone(&counted));
        async move {
            while let Some(query) = fake::read(&mut stream).await {
                counted.fetch_add(1, SeqCst);
                gate.acquire().await.unwrap().forget();
                fake::write(&mut stream, &fake::address(&query)).await;
            }
        }
    })
    .await;
    let mut config = config(&[fake.address]);
    config.cache.max_entries = 10_000;
    let bench = Bench::with(&config, LONG);
    let names: Vec<_> = (0..NAMES)
        .map(|i| query(1, &format!("n{i}"), 1, 0x0100))
        .collect();
    for name in &names {
        bench.ask(name, Transport::Udp).await;
    }
    bench.pass(19.0);
    for name in &names {
        assert!(bench.ask(name, Transport::Udp).await.1);
    }
    held.add_permits(NAMES);
    let end = Instant::now() + LONG;
    while asked.load(SeqCst) < 2 * NAMES {
        assert!(Instant::now() < end, "{}", asked.load(SeqCst));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.settled().await;
    bench.pass(10.0);
    for name in &names {
        assert!(bench.ask(name, Transport::Udp).await.1);
    }
    assert_eq!(bench.count("prefetches"), NAMES as u64);
}

#[tokio::test]
async fn prefetch_can_be_turned_off_or_wait_for_more_hits() {
    let (fake, asked) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    config.prefetch.min_hits = 3;
    let bench = Bench::with(&config, LONG);
    bench.is_hit(&web()).await;
    bench.pass(19.0);
    for expected in [1, 1, 2] {
        assert!(bench.is_hit(&web()).await);
        assert_eq!(asked.load(SeqCst), expected);
    }
    config.prefetch.percent = 0;
    let bench = Bench::with(&config, LONG);
    bench.is_hit(&web()).await;
    bench.pass(19.9);
    for _ in 0..10 {
        assert!(bench.is_hit(&web()).await);
    }
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn the_kernels_hits_refresh_as_well() {
    let (fake, asked) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    config.prefetch.min_hits = 10;
    let bench = Bench::with(&config, LONG);
    bench.is_hit(&web()).await;
    bench.pass(19.0);
    let message = web();
    let Parsed::Query(query) = question::parse(&message, Transport::Udp) else {
        panic!()
    };
    let key = query.key.as_bytes();
    let until = bench.resolver.clock().now().after(LONG);
    for (hits, expected) in [(9, 1), (1, 2), (1, 2)] {
        bench.resolver.prefetch(key, hits, until);
        bench.settled().await;
        assert_eq!(asked.load(SeqCst), expected);
    }
    // What only the kernel still has is asked for as well.
    bench.resolver.cache.remove(key);
    for (hits, expected) in [(9, 2), (10, 3)] {
        bench.resolver.prefetch(key, hits, until);
        bench.settled().await;
        assert_eq!(asked.load(SeqCst), expected);
    }
}
