//! Answers after their time (RFC 8767).

use std::sync::atomic::AtomicU16;
use std::time::Instant;

use super::failures::explanation;
use super::*;

fn web() -> Vec<u8> {
    with_opt(query(1, "web", 1, 0x0100), false)
}

fn ttl(reply: &[u8]) -> u8 {
    // Before the RDATA and the OPT record with an Extended DNS Error without text, or without any.
    let opt = edns::OPT_LEN + explanation(reply).map_or(0, |_| 6);
    reply[reply.len() - opt - 7]
}

/// An upstream whose flags a test changes: an address, or nothing but the flags.
pub(super) async fn changing() -> (Fake, Arc<AtomicUsize>, Arc<AtomicU16>) {
    let flags = Arc::new(AtomicU16::new(0x8580));
    let current = Arc::clone(&flags);
    let (fake, asked) = upstream(move |query| match current.load(SeqCst) {
        0x8580 => fake::address(query),
        // With an SOA record: TTL 9, minimum 9.
        flags @ 0x8583 => fake::respond(
            query,
            flags,
            [0, 1, 0],
            b"\xc0\x10\0\x06\0\x01\0\0\0\x09\0\x16\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x09",
        ),
        flags => fake::respond(query, flags, [0; 3], &[]),
    })
    .await;
    (fake, asked, flags)
}

#[tokio::test]
async fn a_failing_upstreams_last_answer_is_given_until_a_real_one_comes() {
    for (recovery, rcode) in [(0x8580, 0), (0x8583, 3)] {
        let (fake, asked, says) = changing().await;
        let bench = Bench::new(&[fake.address]);
        bench.ask(&web(), Transport::Udp).await;
        bench.pass(20.0);
        says.store(0x8182, SeqCst);
        let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
        assert!(!hit);
        assert_eq!(
            (flags(&reply) & 15, ttl(&reply), explanation(&reply)),
            (0, 5, Some(3))
        );
        // The failure is remembered; nobody is asked.
        assert!(bench.ask(&web(), Transport::Udp).await.1);
        assert_eq!((asked.load(SeqCst), bench.count("stale")), (2, 2));
        // Then the upstream is asked in the background.
        bench.pass(1.0);
        says.store(recovery, SeqCst);
        let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
        assert!(hit && explanation(&reply) == Some(3));
        bench.settled().await;
        assert_eq!(asked.load(SeqCst), 3);
        let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
        assert!(hit);
        assert_eq!((flags(&reply) & 15, explanation(&reply)), (rcode, None));
    }
}

#[tokio::test]
async fn nxdomain_is_given_stale_as_well() {
    let (fake, _, says) = changing().await;
    let bench = Bench::new(&[fake.address]);
    says.store(0x8583, SeqCst);
    bench.ask(&web(), Transport::Udp).await;
    bench.pass(5.0);
    says.store(0x8185, SeqCst);
    let (reply, _) = bench.ask(&web(), Transport::Udp).await;
    assert_eq!((flags(&reply) & 15, explanation(&reply)), (3, Some(19)));
}

#[tokio::test]
async fn a_real_answer_that_may_not_be_kept_ends_it_too() {
    let (fake, _, says) = changing().await;
    let bench = Bench::new(&[fake.address]);
    bench.ask(&web(), Transport::Udp).await;
    bench.pass(20.0);
    // NXDOMAIN without an SOA record.
    says.store(0x8183, SeqCst);
    let (reply, _) = bench.ask(&web(), Transport::Udp).await;
    assert_eq!((flags(&reply) & 15, explanation(&reply)), (3, None));
    says.store(0x8182, SeqCst);
    let (reply, _) = bench.ask(&web(), Transport::Udp).await;
    assert_eq!(flags(&reply) & 15, 2);
}

#[tokio::test]
async fn a_slow_upstreams_last_answer_is_given_until_its_own_comes() {
    let may_answer = Arc::new(tokio::sync::Semaphore::new(1));
    let waits = Arc::clone(&may_answer);
    let fake = Fake::start(move |mut stream, _| {
        let waits = Arc::clone(&waits);
        async move {
            while let Some(query) = fake::read(&mut stream).await {
                waits.acquire().await.unwrap().forget();
                fake::write(&mut stream, &fake::address(&query)).await;
            }
        }
    })
    .await;
    let mut config = config(&[fake.address]);
    config.serve_stale.after_millis = 100;
    let bench = Bench::with(&config, LONG);
    bench.ask(&web(), Transport::Udp).await;
    bench.pass(20.0);
    // The second one joins a flight that is late already.
    for _ in 0..2 {
        let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
        assert!(!hit && explanation(&reply) == Some(3) && ttl(&reply) == 5);
    }
    may_answer.add_permits(1);
    bench.settled().await;
    let (reply, hit) = bench.ask(&web(), Transport::Udp).await;
    assert!(hit && explanation(&reply).is_none() && ttl(&reply) == 20);
    assert_eq!((bench.count("stale"), bench.count("coalesced")), (2, 1));
}

/// An upstream whose pause before an answer a test changes, and a resolver whose servers are ejected after a second of
/// silence.
async fn pausing(after_millis: u32) -> (Fake, Bench, tokio::sync::watch::Sender<Duration>) {
    let (pause, current) = tokio::sync::watch::channel(Duration::ZERO);
    let fake = Fake::start(move |mut stream, _| {
        let pause = current.clone();
        async move {
            while let Some(query) = fake::read(&mut stream).await {
                let pause = *pause.borrow();
                tokio::time::sleep(pause).await;
                fake::write(&mut stream, &fake::address(&query)).await;
            }
        }
    })
    .await;
    let mut config = config(&[fake.address]);
    config.serve_stale.after_millis = after_millis;
    let bench = Bench::timed(&config, LONG, Timings::default());
    bench.ask(&web(), Transport::Udp).await;
    bench.pass(20.0);
    (fake, bench, pause)
}

#[tokio::test]
async fn a_slow_answer_to_one_question_makes_no_other_answer_stale() {
    let (_fake, bench, pause) = pausing(15_000).await;
    pause.send_replace(Duration::from_secs(2));
    let slow = query(1, "slow", 1, 0x0100);
    let while_ejected = async {
        while !bench.resolver.status().upstreams[0].suspect {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.ask(&web(), Transport::Udp).await
    };
    let (_, (reply, hit)) = tokio::join!(bench.ask(&slow, Transport::Udp), while_ejected);
    assert!(!hit && explanation(&reply).is_none() && ttl(&reply) == 20);
    assert_eq!(bench.count("stale"), 0);
    // Its late answer let it back in.
    assert!(!bench.resolver.status().upstreams[0].suspect);
}

#[tokio::test]
async fn nobody_waits_long_for_servers_that_others_have_waited_for() {
    let (_fake, bench, pause) = pausing(1_500).await;
    bench.ask(&query(1, "api", 1, 0x0100), Transport::Udp).await;
    bench.pass(20.0);
    pause.send_replace(LONG * 2);
    let mut took = vec![];
    for name in ["web", "api"] {
        let query = with_opt(query(1, name, 1, 0x0100), false);
        let asked = Instant::now();
        let (reply, hit) = bench.ask(&query, Transport::Udp).await;
        assert!(!hit && explanation(&reply) == Some(3));
        took.push(asked.elapsed());
    }
    let whole = Duration::from_millis(1_500);
    assert!(took[0] >= whole && took[1] < whole, "{took:?}");
}

#[tokio::test]
async fn not_after_its_hour_and_not_if_turned_off() {
    let (fake, _, says) = changing().await;
    let mut config = config(&[fake.address]);
    for (enabled, seconds, rcode) in [(true, 3619.9, 0), (true, 3620.0, 2), (false, 20.0, 2)] {
        config.serve_stale.enabled = enabled;
        let bench = Bench::with(&config, LONG);
        says.store(0x8580, SeqCst);
        bench.ask(&web(), Transport::Udp).await;
        says.store(0x8182, SeqCst);
        bench.pass(seconds);
        let (reply, _) = bench.ask(&web(), Transport::Udp).await;
        assert_eq!(flags(&reply) & 15, rcode, "{enabled} {seconds}");
    }
}

#[tokio::test]
async fn what_makes_it_ready_stays() {
    let (fake, _) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    assert!(Bench::with(&config, LONG).resolver.is_ready());
    config.serve_stale.enabled = false;
    let bench = Bench::with(&config, LONG);
    assert!(!bench.resolver.is_ready());
    bench.ask(&web(), Transport::Udp).await;
    assert!(bench.resolver.is_ready());
    bench.pass(3_700.0);
    config.cluster.upstreams = vec!["127.0.0.1:1".parse::<SocketAddr>().unwrap().into()];
    bench.resolver.reload(&config).unwrap();
    assert!(bench.resolver.is_ready());
}

/// There is nobody to ask then.
#[tokio::test]
async fn a_resolv_conf_that_names_this_cache_makes_nothing_ready() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = config(&["127.0.0.1:1".parse().unwrap()]);
    config.resolv_conf = file.path().to_owned();
    for (may_be_stale, ready) in [(true, true), (false, false)] {
        config.serve_stale.enabled = may_be_stale;
        std::fs::write(file.path(), "").unwrap();
        let bench = Bench::with(&config, LONG);
        std::fs::write(file.path(), "nameserver 127.0.0.1\n").unwrap();
        assert!(bench.resolver.zones().reread_resolv_conf());
        let error = bench.resolver.resolv_conf_error().unwrap();
        assert!(error.contains("a loop"), "{error}");
        assert!(!bench.resolver.probe().await);
        assert_eq!(bench.resolver.is_ready(), ready);
        let (reply, _) = bench
            .ask(&query(1, "www.example", 1, 0x0100), Transport::Udp)
            .await;
        assert_eq!(flags(&reply) & 15, 2);
    }
}

#[tokio::test]
async fn an_overloaded_resolver_gives_stale_answers_at_once() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    bench.ask(&web(), Transport::Udp).await;
    bench.pass(20.0);
    let mut out = vec![];
    let now = bench.resolver.clock().now();
    let Answer::Miss(miss) = bench
        .resolver
        .answer_cached(&web(), Transport::Udp, now, &mut out)
    else {
        panic!()
    };
    let reply = bench.resolver.turn_away(&miss, Failure::Overload);
    assert_eq!((flags(&reply) & 15, explanation(&reply)), (0, Some(3)));
}
