//! Servers that fail in all the ways that servers do.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dns_cache_common::question::KeyParts;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::fake::{Fake, address, answer_all, frame, read, respond, write};
use super::*;
use crate::config::Upstream;

mod tls;

/// Far more than any of these tests needs, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn timings() -> Timings {
    Timings {
        // A stall of the machine must not pass for a silent server.
        hedge_floor: PATIENCE,
        hedge_cap: PATIENCE,
        attempt: Duration::from_secs(1),
        connect: Duration::from_secs(3),
        abandon: PATIENCE,
        probe_first: PATIENCE,
        probe_most: PATIENCE,
        check: PATIENCE,
        check_pause: PATIENCE,
        pause: Duration::from_millis(10),
    }
}

fn group_of(addresses: &[SocketAddr], timings: Timings) -> Group {
    let upstreams: Vec<_> = addresses.iter().copied().map(Upstream::from).collect();
    Group::new(&upstreams, Transport::Tcp, timings)
}

/// With attempts that never time out: failures must be found by themselves.
fn patient() -> Timings {
    Timings {
        attempt: PATIENCE,
        connect: PATIENCE,
        ..timings()
    }
}

/// One server that is asked first, and one that is farther away.
fn first_and_second(first: &Fake, second: &Fake) -> [Upstream; 2] {
    let second = Upstream {
        distance: 1,
        ..second.address.into()
    };
    [first.address.into(), second]
}

fn query(name: &str) -> Arc<Query> {
    let name = [&[name.len() as u8], name.as_bytes(), &[0]].concat();
    let key = KeyParts {
        name: &name,
        rtype: 1,
        class: 1,
        dnssec_ok: false,
        checking_disabled: false,
    };
    Arc::new(Query::new(&key))
}

async fn ask(group: &Group, name: &str) -> Result<Bytes, Failure> {
    let query = query(name);
    let read = |response: &Bytes, _| Ok::<_, Infallible>(response.clone());
    let result = timeout(PATIENCE, group.ask(&query, read))
        .await
        .expect("an answer or a failure");
    if let Ok(response) = &result {
        assert!(query.is_answered_by(response));
    }
    result
}

/// A peer that vanishes while nobody asks is found by TCP itself.
#[tokio::test]
async fn connections_have_tcp_keepalive() {
    let (fake, _) = Fake::answering().await;
    let connection = Connection::open(fake.address, None, Arc::default(), patient());
    while !connection.is_open() {
        sleep(Duration::from_millis(1)).await;
    }
    let [time, interval] = [15, 5].map(Duration::from_secs);
    assert_eq!(connection.tcp_keepalive(), Some((time, interval)));
}

async fn hang(stream: TcpStream) {
    sleep(PATIENCE * 2).await;
    drop(stream);
}

#[tokio::test]
async fn queries_share_a_connection() {
    let (fake, queries) = Fake::answering().await;
    let group = group_of(&[fake.address], patient());
    for name in ["a", "b", "c"] {
        ask(&group, name).await.unwrap();
    }
    let names: Vec<_> = (0..50).map(|i| format!("n{i}")).collect();
    for result in join_all(names.iter().map(|name| ask(&group, name))).await {
        result.unwrap();
    }
    assert_eq!(
        (fake.connections.load(SeqCst), queries.load(SeqCst)),
        (1, 53)
    );
    let status = &group.status()[0];
    assert_eq!(
        (
            status.connections,
            status.in_flight,
            status.queries,
            status.failures
        ),
        (1, 0, 53, 0)
    );
    assert!(status.rtt_p50.is_some() && !status.suspect);
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let fake = Fake::start(|mut stream, _| async move {
        let mut queries = vec![];
        for _ in 0..20 {
            queries.push(read(&mut stream).await.unwrap());
        }
        for query in queries.iter().rev() {
            write(&mut stream, &address(query)).await;
        }
        hang(stream).await;
    })
    .await;
    let group = group_of(&[fake.address], patient());
    let names: Vec<_> = (0..20).map(|i| format!("n{i}")).collect();
    for result in join_all(names.iter().map(|name| ask(&group, name))).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let fake = Fake::start(|mut stream, _| async move {
        let query = read(&mut stream).await.unwrap();
        write(&mut stream, &address(&query)).await;
    })
    .await;
    let group = group_of(&[fake.address], patient());
    for i in 0..10 {
        ask(&group, "x").await.unwrap();
        assert!(fake.connections.load(SeqCst) > i);
    }
    assert!(!group.status()[0].suspect);
}

/// The first connection ends on the query, in the middle of the answer, or by a reset.
#[tokio::test]
async fn a_query_lost_with_its_connection_is_asked_again() {
    for how in 0..4 {
        let fake = Fake::start(move |mut stream, number| async move {
            let query = read(&mut stream).await.unwrap();
            if number > 0 {
                write(&mut stream, &address(&query)).await;
                return hang(stream).await;
            }
            match how {
                0 => {}
                1 => stream
                    .write_all(&frame(&address(&query))[..9])
                    .await
                    .unwrap(),
                2 => stream.write_all(&[0]).await.unwrap(),
                _ => socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap(),
            }
        })
        .await;
        let group = group_of(&[fake.address], patient());
        ask(&group, "x").await.unwrap();
        assert_eq!(fake.connections.load(SeqCst), 2, "case {how}");
    }
}

#[tokio::test]
async fn a_server_that_always_closes_fails_over() {
    let closing = Fake::start(|stream, _| async move { drop(stream) }).await;
    let (good, _) = Fake::answering().await;
    let group = group_of(&[closing.address, good.address], patient());
    for _ in 0..6 {
        ask(&group, "x").await.unwrap();
    }
    assert!(group.status()[0].suspect && !group.status()[1].suspect);
    let alone = group_of(&[closing.address], patient());
    assert_eq!(ask(&alone, "x").await, Err(Failure::Unreachable));
    assert_eq!(
        ask(&group_of(&[], patient()), "x").await,
        Err(Failure::NoServers)
    );
}

#[tokio::test]
async fn messages_come_in_any_pieces() {
    let fake = Fake::start(|mut stream, _| async move {
        stream.set_nodelay(true).unwrap();
        while let Some(query) = read(&mut stream).await {
            for byte in frame(&address(&query)) {
                stream.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let group = group_of(&[fake.address], patient());
    for name in ["a", "b"] {
        ask(&group, name).await.unwrap();
    }
}

#[tokio::test]
async fn the_largest_message_is_taken() {
    let fake = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            let mut response = respond(&query, 0x8180, [0; 3], &[]);
            response.resize(65_535, 0);
            write(&mut stream, &response).await;
        }
    })
    .await;
    let group = group_of(&[fake.address], patient());
    assert_eq!(ask(&group, "a").await.unwrap().len(), 65_535);
    assert_eq!(ask(&group, "b").await.unwrap().len(), 65_535);
}

#[tokio::test]
async fn a_length_below_a_header_ends_the_connection() {
    let fake = Fake::start(|mut stream, number| async move {
        let query = read(&mut stream).await.unwrap();
        if number == 0 {
            stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
            return hang(stream).await;
        }
        write(&mut stream, &address(&query)).await;
        hang(stream).await;
    })
    .await;
    let group = group_of(&[fake.address], patient());
    ask(&group, "x").await.unwrap();
    assert_eq!(fake.connections.load(SeqCst), 2);
}

#[tokio::test]
async fn what_matches_no_query_is_dropped_and_counted() {
    let fake = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            let mut wrong_id = address(&query);
            wrong_id[0] ^= 0xff;
            let mut wrong_name = address(&query);
            wrong_name[13] ^= 0x01;
            let mut wrong_type = address(&query);
            wrong_type[16] ^= 0x10;
            let mut no_response = address(&query);
            no_response[2] &= 0x7f;
            for bad in [&wrong_id, &wrong_name, &wrong_type, &no_response] {
                write(&mut stream, bad).await;
            }
            // The second one finds nobody waiting.
            write(&mut stream, &address(&query)).await;
            write(&mut stream, &address(&query)).await;
        }
    })
    .await;
    let group = group_of(&[fake.address], patient());
    ask(&group, "x").await.unwrap();
    ask(&group, "y").await.unwrap();
    // By the second answer at least everything that belongs to the first query has been read.
    assert!(group.status()[0].unmatched >= 9);
}

#[tokio::test]
async fn a_silent_server_costs_one_attempt_and_is_asked_last() {
    let silent = Fake::start(|stream, _| hang(stream)).await;
    let (good, queries) = Fake::answering().await;
    let group = group_of(&[silent.address, good.address], timings());
    for _ in 0..20 {
        ask(&group, "x").await.unwrap();
    }
    assert_eq!(queries.load(SeqCst), 20);
    let status = group.status();
    assert!(status[0].suspect && !status[1].suspect);
    // The first query went there; all others knew better.
    assert_eq!(status[0].queries, 1);
}

/// Nobody accepts and the backlog is full: SYNs get no answer, as behind a firewall that drops.
#[tokio::test]
async fn a_black_hole_is_survived() {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    listener.listen(0).unwrap();
    let hole = listener.local_addr().unwrap().as_socket().unwrap();
    let _filler = std::net::TcpStream::connect(hole).unwrap();
    let (good, _) = Fake::answering().await;
    let group = group_of(&[hole, good.address], timings());
    let results = join_all((0..20).map(|_| ask(&group, "x"))).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(group.status()[0].suspect);
}

#[tokio::test]
async fn a_suspect_is_tried_on_the_side_and_comes_back() {
    let fake = Fake::start(|stream, number| async move {
        // The first connection stays silent; the next ones work.
        if number == 0 {
            hang(stream).await
        } else {
            answer_all(stream, Arc::default()).await
        }
    })
    .await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        probe_first: Duration::from_millis(50),
        ..timings()
    };
    let group = Group::new(&first_and_second(&fake, &good), Transport::Tcp, timings);
    ask(&group, "x").await.unwrap();
    assert!(group.status()[0].suspect);
    let started = Instant::now();
    while group.status()[0].suspect {
        assert!(started.elapsed() < PATIENCE);
        ask(&group, "x").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_late_answer_is_still_an_answer() {
    let fake = Fake::start(|mut stream, number| async move {
        let query = read(&mut stream).await.unwrap();
        if number > 0 {
            return hang(stream).await;
        }
        sleep(timings().attempt * 2).await;
        write(&mut stream, &address(&query)).await;
        hang(stream).await;
    })
    .await;
    let group = group_of(&[fake.address], timings());
    ask(&group, "x").await.unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_closed_at_last() {
    let fake = Fake::start(|stream, _| hang(stream)).await;
    let timings = Timings {
        abandon: Duration::from_millis(200),
        ..patient()
    };
    let group = group_of(&[fake.address], timings);
    assert_eq!(ask(&group, "x").await, Err(Failure::Unreachable));
    assert_eq!(group.status()[0].in_flight, 0);
}

/// What comes behind the many queries that it will never answer in time would wait for them.
#[tokio::test]
async fn a_connection_that_lags_far_behind_is_replaced() {
    let serial = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            sleep(Duration::from_millis(20)).await;
            write(&mut stream, &address(&query)).await;
        }
    })
    .await;
    let timings = Timings {
        abandon: Duration::from_millis(200),
        ..patient()
    };
    let connection = Connection::open(serial.address, None, Arc::default(), timings);
    let _waiting: Vec<_> = (0..500)
        .map(|n| connection.send(&query(&format!("n{n}"))).unwrap())
        .collect();
    let end = Instant::now() + PATIENCE;
    while connection.is_usable() {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let (fake, _) = Fake::answering().await;
    let address = fake.address;
    let group = group_of(
        &[address],
        Timings {
            pause: Duration::from_millis(300),
            ..patient()
        },
    );
    ask(&group, "x").await.unwrap();
    drop(fake);
    let (result, _fake) = tokio::join!(ask(&group, "y"), async {
        sleep(Duration::from_millis(50)).await;
        Fake::start_at(address, |stream, _| answer_all(stream, Arc::default())).await
    });
    result.unwrap();
}

#[tokio::test]
async fn an_error_is_checked_with_another_server() {
    let counted = Arc::new(AtomicUsize::new(0));
    let errors = Arc::clone(&counted);
    let failing = Fake::start(move |mut stream, _| {
        let errors = Arc::clone(&errors);
        async move {
            while let Some(query) = read(&mut stream).await {
                errors.fetch_add(1, SeqCst);
                write(&mut stream, &respond(&query, 0x8182, [0; 3], &[])).await;
            }
        }
    })
    .await;
    let (good, _) = Fake::answering().await;
    let both = group_of(&[failing.address, good.address], patient());
    for _ in 0..4 {
        assert_eq!(ask(&both, "x").await.unwrap()[3] & 15, 0);
    }
    let before = counted.load(SeqCst);
    assert!(before > 0);
    let alone = group_of(&[failing.address], patient());
    assert_eq!(ask(&alone, "x").await.unwrap()[3] & 15, 2);
    assert_eq!(counted.load(SeqCst), before + 1);
}

#[tokio::test]
async fn an_error_is_checked_with_an_ejected_server_too() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let silent = Fake::start(move |mut stream, _| {
        let well = Arc::clone(&is_well);
        async move {
            while let Some(query) = read(&mut stream).await {
                if well.load(SeqCst) {
                    write(&mut stream, &respond(&query, 0x8180, [0; 3], &[])).await;
                }
            }
        }
    })
    .await;
    let failing = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            write(&mut stream, &respond(&query, 0x8182, [0; 3], &[])).await;
        }
    })
    .await;
    let group = Group::new(
        &first_and_second(&silent, &failing),
        Transport::Tcp,
        timings(),
    );
    assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 2);
    assert!(group.status()[0].suspect);
    well.store(true, SeqCst);
    assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 0);
}

/// A server that has an error for everything.
async fn failing() -> (Fake, Arc<AtomicUsize>) {
    Fake::start_counting(|query| respond(query, 0x8182, [0; 3], &[])).await
}

#[tokio::test]
async fn errors_are_not_checked_with_every_server_each_time() {
    let (one, first) = failing().await;
    let (two, second) = failing().await;
    let (three, third) = failing().await;
    let (four, fourth) = failing().await;
    let addresses = [&one, &two, &three, &four].map(|fake| fake.address);
    let group = group_of(&addresses, patient());
    for _ in 0..10 {
        assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 2);
    }
    let asked: usize = [first, second, third, fourth]
        .iter()
        .map(|count| count.load(SeqCst))
        .sum();
    // Two each, and each server once more at most.
    assert!((20..=24).contains(&asked), "{asked}");
}

#[tokio::test]
async fn two_servers_errors_are_checked_with_a_third_now_and_then() {
    let (one, _) = failing().await;
    let (two, _) = failing().await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        check_pause: Duration::ZERO,
        ..patient()
    };
    let group = group_of(&[one.address, two.address, good.address], timings);
    let suspects = || group.status().iter().filter(|s| s.suspect).count();
    let end = Instant::now() + PATIENCE;
    while suspects() < 2 {
        assert!(Instant::now() < end);
        assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 0);
    }
}

/// Names that are broken everywhere take no longer because a server is away.
#[tokio::test]
async fn an_error_waits_for_an_ejected_server_only_now_and_then() {
    let silent = Fake::start(|stream, _| hang(stream)).await;
    let (failing, errors) = failing().await;
    let timings = Timings {
        check: Duration::from_millis(100),
        ..timings()
    };
    let group = Group::new(
        &first_and_second(&silent, &failing),
        Transport::Tcp,
        timings,
    );
    assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 2);
    assert!(group.status()[0].suspect);
    let began = Instant::now();
    for _ in 0..30 {
        assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 2);
    }
    // Each would have taken an attempt's time.
    assert!(began.elapsed() < timings.attempt * 10);
    assert_eq!((group.status()[0].queries, errors.load(SeqCst)), (2, 31));
}

#[tokio::test]
async fn load_is_spread() {
    let (one, first) = Fake::answering().await;
    let (two, second) = Fake::answering().await;
    let group = group_of(&[one.address, two.address], patient());
    for _ in 0..20 {
        ask(&group, "x").await.unwrap();
    }
    let counts = [first.load(SeqCst), second.load(SeqCst)];
    assert_eq!(counts.iter().sum::<usize>(), 20);
    assert!(
        counts.iter().all(|count| (5..=15).contains(count)),
        "{counts:?}"
    );
}

/// A server that answers quickly, but not every query.
async fn forgetful(every: usize) -> Fake {
    let asked = Arc::new(AtomicUsize::new(0));
    Fake::start(move |mut stream, _| {
        let asked = Arc::clone(&asked);
        async move {
            while let Some(query) = read(&mut stream).await {
                if asked.fetch_add(1, SeqCst) % every != every - 1 {
                    write(&mut stream, &address(&query)).await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_slow_answer_is_hedged_within_the_budget() {
    let forgetful = forgetful(30).await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        hedge_floor: Duration::from_millis(200),
        hedge_cap: Duration::from_secs(1),
        attempt: PATIENCE,
        ..timings()
    };
    let upstreams = first_and_second(&forgetful, &good);
    let group = Group::new(&upstreams, Transport::Tcp, timings);
    for _ in 0..300 {
        // Not one waits for the time of an attempt.
        ask(&group, "x").await.unwrap();
    }
    let status = group.status();
    let hedges = status[1].hedges;
    assert!(hedges >= 10, "{status:?}");
    assert_eq!((status[0].hedges, status[1].queries), (0, hedges));
    let queries: u64 = status.iter().map(|server| server.queries).sum();
    assert!(hedges * 20 <= queries, "{status:?}");
    assert!(!status[0].suspect);
}

/// Hedges answer for the silent server, and nobody waits for its attempts: it is ejected all the same.
#[tokio::test]
async fn a_silent_server_is_ejected_though_hedges_win() {
    let asked = Arc::new(AtomicUsize::new(0));
    let silenced = Fake::start(move |mut stream, _| {
        let asked = Arc::clone(&asked);
        async move {
            while let Some(query) = read(&mut stream).await {
                if asked.fetch_add(1, SeqCst) < 49 {
                    write(&mut stream, &address(&query)).await;
                }
            }
        }
    })
    .await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        hedge_floor: Duration::from_millis(5),
        hedge_cap: Duration::from_millis(5),
        attempt: Duration::from_millis(50),
        ..timings()
    };
    let group = Group::new(&first_and_second(&silenced, &good), Transport::Tcp, timings);
    for _ in 0..50 {
        ask(&group, "x").await.unwrap();
    }
    // Or more, on a machine that is busy.
    assert!(group.status()[1].hedges >= 1);
    // It stays silent: every answer is the other's.
    let end = Instant::now() + PATIENCE;
    while group.status()[0].ejections == 0 {
        assert!(Instant::now() < end);
        ask(&group, "x").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
}

/// A server whose answers to names that begin with `s` take a time, and which has none to those with `d`.
async fn slow(time: Duration) -> Fake {
    Fake::start(move |stream, _| async move {
        let (mut reading, mut writing) = stream.into_split();
        let (answers, mut answered) = mpsc::unbounded_channel::<Vec<u8>>();
        let answering = async {
            while let Some(answer) = answered.recv().await {
                let _: std::io::Result<()> = writing.write_all(&frame(&answer)).await;
            }
        };
        let asked = async {
            while let Some(query) = read(&mut reading).await {
                let answers = answers.clone();
                let time = if query[13] == b's' {
                    time
                } else {
                    Duration::ZERO
                };
                tokio::spawn(async move {
                    sleep(time).await;
                    if query[13] != b'd' {
                        let _ = answers.send(address(&query));
                    }
                });
            }
        };
        tokio::select! { () = answering => {}, () = asked => {} }
    })
    .await
}

/// As the agent has them, but for the hedges.
fn half_a_second() -> Timings {
    let attempt = Duration::from_millis(500);
    Timings {
        hedge_cap: attempt,
        hedge_floor: attempt,
        attempt,
        ..timings()
    }
}

#[tokio::test]
async fn servers_that_are_slow_are_not_asked_twice() {
    let time = Duration::from_millis(700);
    let (one, two) = (slow(time).await, slow(time).await);
    let upstreams = first_and_second(&one, &two);
    let group = Group::new(&upstreams, Transport::Tcp, half_a_second());
    // That it is slow is not known before.
    ask(&group, "s").await.unwrap();
    let queries = |group: &Group| {
        let second = &group.status()[1];
        (second.queries, second.retries, second.hedges)
    };
    assert_eq!(queries(&group), (1, 1, 0));
    // On a quiet connection, and many at once.
    ask(&group, "s").await.unwrap();
    let names: Vec<_> = (0..15).map(|number| format!("s{number}")).collect();
    for result in join_all(names.iter().map(|name| ask(&group, name))).await {
        result.unwrap();
    }
    assert_eq!(queries(&group), (1, 1, 0));
    assert_eq!(group.status()[0].failures, 1);
}

/// What some of its answers take is nothing to one that does not answer any more.
#[tokio::test]
async fn a_server_that_falls_silent_is_not_waited_for_as_a_slow_one() {
    let first = slow(Duration::from_millis(1_300)).await;
    let (good, _) = Fake::answering().await;
    let upstreams = first_and_second(&first, &good);
    let group = Group::new(&upstreams, Transport::Tcp, half_a_second());
    let mut asked = vec!["a"; 14];
    asked.push("s");
    for name in asked {
        ask(&group, name).await.unwrap();
    }
    let end = Instant::now() + PATIENCE;
    while group.status()[0].in_flight > 0 {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(5)).await;
    }
    let p95 = group.status()[0].rtt_p95.unwrap();
    assert!(p95 > half_a_second().attempt);
    let began = Instant::now();
    ask(&group, "d").await.unwrap();
    let took = began.elapsed();
    assert!(took < half_a_second().attempt * 3, "{took:?}");
    assert_eq!(group.status()[1].retries, 2);
}

#[tokio::test]
async fn without_budget_a_query_waits_for_the_attempt() {
    let forgetful = forgetful(2).await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        hedge_floor: Duration::from_millis(1),
        hedge_cap: Duration::from_millis(1),
        attempt: Duration::from_millis(100),
        ..timings()
    };
    let upstreams = first_and_second(&forgetful, &good);
    let group = Group::new(&upstreams, Transport::Tcp, timings);
    let start = Instant::now();
    for _ in 0..2 {
        ask(&group, "x").await.unwrap();
    }
    assert!(start.elapsed() >= timings.attempt);
    assert_eq!(group.status()[1].hedges, 0);
}

/// Another question's answer with the query's ID: another server is asked at once, and the right answer is still taken.
#[tokio::test]
async fn a_mismatched_response_is_retried_elsewhere() {
    let wrong = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            let mut other = address(&query);
            other[13] ^= 1;
            write(&mut stream, &other).await;
        }
    })
    .await;
    let (good, queries) = Fake::answering().await;
    let upstreams = first_and_second(&wrong, &good);
    let group = Group::new(&upstreams, Transport::Tcp, patient());
    for _ in 0..5 {
        ask(&group, "x").await.unwrap();
    }
    assert_eq!(queries.load(SeqCst), 5);
    let status = &group.status()[0];
    assert!(status.failures_by_kind.contains(&("mismatched", 3)));
    // Three in a row were enough.
    assert_eq!(
        (status.queries, status.unmatched, status.suspect),
        (3, 3, true)
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_retried_elsewhere() {
    let (garbled, _) = Fake::answering().await;
    let (good, _) = Fake::start_counting(|query| respond(query, 0x8580, [0; 3], &[])).await;
    let upstreams = first_and_second(&garbled, &good);
    let read = |response: &Bytes, _| match response[7] {
        0 => Ok(()),
        _ => Err("an answer section"),
    };
    let both = Group::new(&upstreams, Transport::Tcp, patient());
    let alone = group_of(&[garbled.address], patient());
    for _ in 0..5 {
        assert_eq!(both.ask(&query("x"), read).await, Ok(()));
    }
    assert_eq!(alone.ask(&query("x"), read).await, Err(Failure::Malformed));
    let status = &both.status()[0];
    assert!(status.failures_by_kind.contains(&("malformed", 3)) && status.suspect);
}

#[tokio::test]
async fn a_server_that_wants_no_idle_connection_is_obeyed() {
    let fake = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            // The first query of a connection asks; the answer is "none" (RFC 7828 §3.3.2).
            assert!(query.ends_with(b"\0\x04\0\x0b\0\0"));
            let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0b\0\x02\0\0";
            write(&mut stream, &respond(&query, 0x8180, [0, 0, 1], opt)).await;
        }
    })
    .await;
    let group = group_of(&[fake.address], patient());
    for count in 1..=5 {
        ask(&group, "x").await.unwrap();
        assert_eq!(fake.connections.load(SeqCst), count);
    }
    assert_eq!(group.status()[0].failures, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_server_does() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&closed);
    let fake = Fake::start(move |mut stream, _| {
        let closed = Arc::clone(&counted);
        async move {
            while let Some(query) = read(&mut stream).await {
                let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0b\0\x02\0\x01";
                write(&mut stream, &respond(&query, 0x8180, [0, 0, 1], opt)).await;
            }
            // The end of the stream, no reset.
            closed.fetch_add(1, SeqCst);
        }
    })
    .await;
    let timings = Timings {
        abandon: Duration::from_millis(200),
        ..patient()
    };
    let group = group_of(&[fake.address], timings);
    ask(&group, "x").await.unwrap();
    let end = Instant::now() + PATIENCE;
    while closed.load(SeqCst) == 0 {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(5)).await;
    }
    ask(&group, "x").await.unwrap();
    assert_eq!(fake.connections.load(SeqCst), 2);
}

/// A server that answers over UDP what `answers` makes of a query, and over TCP on the same port rightly.
async fn datagrams(answers: fn(&[u8]) -> Vec<Vec<u8>>) -> (Fake, tokio::task::JoinHandle<()>) {
    // Another test may hold the UDP port with the TCP port's number.
    let mut both = None;
    for _ in 0..100 {
        let (tcp, _) = Fake::answering().await;
        if let Ok(socket) = UdpSocket::bind(tcp.address).await {
            both = Some((tcp, socket));
            break;
        }
    }
    let (tcp, socket) = both.unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            for answer in answers(&buffer[..length]) {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    (tcp, task)
}

#[tokio::test]
async fn over_udp_guesses_are_dropped_and_the_answer_is_taken() {
    let (fake, _task) = datagrams(|query| {
        // No keepalive over UDP (RFC 7828 §3.2.1).
        assert!(query.ends_with(&[0; 2]));
        let [mut id, mut name, answer] = [address(query), address(query), address(query)];
        id[0] ^= 0xff;
        name[13] ^= 1;
        vec![id, name, b"x".to_vec(), answer]
    })
    .await;
    let group = Group::new(&[fake.address.into()], Transport::Udp, patient());
    for name in ["a", "b"] {
        ask(&group, name).await.unwrap();
    }
    let status = &group.status()[0];
    assert_eq!(
        (status.unmatched, status.failures, status.in_flight),
        (6, 0, 0)
    );
    assert_eq!(fake.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn a_truncated_datagram_is_asked_again_over_tcp() {
    let (fake, _task) = datagrams(|query| vec![respond(query, 0x8380, [0; 3], &[])]).await;
    let group = Group::new(&[fake.address.into()], Transport::Udp, patient());
    let response = ask(&group, "a").await.unwrap();
    assert_eq!((response[2] & 2, response[7]), (0, 1));
    assert_eq!(fake.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    static LOST: AtomicUsize = AtomicUsize::new(0);
    let (fake, _task) = datagrams(|query| match LOST.fetch_add(1, SeqCst) {
        0 => vec![],
        _ => vec![address(query)],
    })
    .await;
    let group = Group::new(&[fake.address.into()], Transport::Udp, timings());
    ask(&group, "a").await.unwrap();
    let status = &group.status()[0];
    assert_eq!(
        (status.queries, status.failures, status.suspect),
        (2, 1, false)
    );
}

#[tokio::test]
async fn a_busy_server_is_passed_by_and_not_ejected() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = Upstream::from(silent.local_addr().unwrap());
    let (second, _task) = datagrams(|query| vec![address(query)]).await;
    let group = Group::new(std::slice::from_ref(&silent), Transport::Udp, patient());
    let _held = group.fill();
    for _ in 0..5 {
        assert_eq!(ask(&group, "x").await, Err(Failure::Busy));
    }
    let second = Upstream {
        distance: 1,
        ..second.address.into()
    };
    group.set(&[silent, second]);
    for _ in 0..5 {
        ask(&group, "x").await.unwrap();
    }
    let status = &group.status()[0];
    assert!(status.failures_by_kind.contains(&("busy", 10)));
    assert_eq!((status.ejections, status.suspect), (0, false));
}

/// A server over UDP that is silent for names that begin with `d`, as one is whose own upstream is dead.
async fn silent_for_dead() -> (Fake, tokio::task::JoinHandle<()>) {
    datagrams(|query| match query[13] {
        b'd' => vec![],
        _ => vec![address(query)],
    })
    .await
}

#[tokio::test]
async fn names_that_get_no_answer_leave_room_for_others() {
    crate::limits::raise_open_files();
    let (fake, _task) = silent_for_dead().await;
    let group = Arc::new(Group::new(
        &[fake.address.into()],
        Transport::Udp,
        timings(),
    ));
    ask(&group, "a").await.unwrap();
    let mut dead = tokio::task::JoinSet::new();
    for n in 0..600 {
        let group = Arc::clone(&group);
        dead.spawn(async move {
            group
                .ask(&query(&format!("d{n}")), |_, _| Ok::<_, Infallible>(()))
                .await
        });
    }
    // Until all are late.
    let late = |status: &ServerStatus| {
        let kinds = status.failures_by_kind.iter();
        kinds
            .filter(|(kind, _)| *kind == "timeout")
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    let end = Instant::now() + PATIENCE;
    while late(&group.status()[0]) < 600 {
        assert!(Instant::now() < end);
        ask(&group, "a").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    let status = &group.status()[0];
    // One socket for each; and it answers others, so it is well.
    assert_eq!((status.in_flight, status.ejections), (600, 0));
    dead.shutdown().await;
    let end = Instant::now() + PATIENCE;
    while group.status()[0].in_flight > 0 {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn datagrams_are_repeated_as_long_as_somebody_waits() {
    static LOST: AtomicUsize = AtomicUsize::new(0);
    let (fake, _task) = datagrams(|query| match LOST.fetch_add(1, SeqCst) {
        0..4 => vec![],
        _ => vec![address(query)],
    })
    .await;
    let timings = Timings {
        attempt: Duration::from_millis(50),
        ..patient()
    };
    let group = Group::new(&[fake.address.into()], Transport::Udp, timings);
    ask(&group, "a").await.unwrap();
    let status = &group.status()[0];
    assert!(status.queries >= 5 && status.ejections == 0, "{status:?}");
}

/// A server over UDP whose answers are all too long, and which does not listen on TCP, or takes no connections.
async fn truncating(
    drops: bool,
) -> (
    SocketAddr,
    Option<socket2::Socket>,
    tokio::task::JoinHandle<()>,
) {
    without_tcp(drops, |query| respond(query, 0x8380, [0; 3], &[])).await
}

/// A server over UDP that does not listen on TCP, or takes no connections.
async fn without_tcp(
    drops: bool,
    answer: fn(&[u8]) -> Vec<u8>,
) -> (
    SocketAddr,
    Option<socket2::Socket>,
    tokio::task::JoinHandle<()>,
) {
    // Another test may hold the UDP port with the TCP port's number.
    let (listener, socket) = (0..100)
        .find_map(|_| {
            let listener =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let any = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
            listener.bind(&any.into()).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let socket = std::net::UdpSocket::bind(address).ok()?;
            Some((listener, socket))
        })
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = UdpSocket::from_std(socket).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = drops.then(|| {
        listener.listen(0).unwrap();
        listener
    });
    let task = tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..length]);
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    (address, listener, task)
}

#[tokio::test]
async fn without_tcp_a_truncated_answer_is_an_answer() {
    for drops in [false, true] {
        let (address, _listener, _task) = truncating(drops).await;
        let _filler = drops.then(|| std::net::TcpStream::connect(address).unwrap());
        let group = Group::new(&[address.into()], Transport::Udp, timings());
        for _ in 0..2 {
            let response = ask(&group, "a").await.unwrap();
            assert_eq!(response[2] & 2, 2);
        }
        let status = &group.status()[0];
        assert_eq!((status.ejections, status.suspect), (0, false), "{drops}");
        let kind = if drops { "timeout" } else { "unreachable" };
        assert!(status.failures_by_kind.contains(&(kind, 2)), "{status:?}");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_tcp_is_asked_over_udp() {
    for drops in [false, true] {
        let (at, _listener, _task) = without_tcp(drops, address).await;
        let _filler = drops.then(|| std::net::TcpStream::connect(at).unwrap());
        let group = Group::new(&[at.into()], Transport::TcpOrUdp, timings());
        let began = Instant::now();
        for name in ["a", "b", "c", "d"] {
            assert_eq!(ask(&group, name).await.unwrap()[7], 1, "{drops}");
        }
        // It was found out once.
        assert!(began.elapsed() < timings().attempt * 4, "{drops}");
        let status = &group.status()[0];
        assert!(status.failures_by_kind.contains(&("tcp", 1)), "{status:?}");
        assert!(!status.suspect);
        let carried = &group.exchanged()[0].carried;
        assert!(carried["udp"].opened >= 4, "{carried:?}");
        let by_tcp = carried["tcp"].reused + carried["tcp"].opened;
        assert!((1..4).contains(&by_tcp), "{drops}: {carried:?}");
    }
    // Not where the configuration says that it takes TCP.
    let (at, _listener, _task) = without_tcp(false, address).await;
    let group = group_of(&[at], timings());
    assert_eq!(ask(&group, "a").await, Err(Failure::Unreachable));
}

/// It is away, and whoever answers over UDP now is asked by nobody.
#[tokio::test]
async fn a_server_that_has_answered_over_tcp_is_not_asked_over_udp() {
    let (fake, _task) = datagrams(|query| vec![address(query)]).await;
    let group = Group::new(&[fake.address.into()], Transport::TcpOrUdp, patient());
    ask(&group, "a").await.unwrap();
    drop(fake);
    let end = Instant::now() + PATIENCE;
    while group.status()[0].connections > 0 {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ask(&group, "b").await, Err(Failure::Unreachable));
}

/// What a server says that does not know EDNS.
fn without_edns(query: &[u8]) -> Vec<u8> {
    match query[11] {
        0 => address(query),
        _ => [&query[..2], &[0x80, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    }
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let (tcp, queries) = Fake::start_counting(without_edns).await;
    let group = group_of(&[tcp.address], patient());
    for name in ["a", "b", "c"] {
        assert_eq!(ask(&group, name).await.unwrap()[7], 1);
    }
    // It was found out once.
    assert_eq!(queries.load(SeqCst), 4);
    let status = &group.status()[0];
    assert!(status.failures_by_kind.contains(&("edns", 1)));
    assert_eq!(status.ejections, 0);

    let (udp, _task) = datagrams(|query| vec![without_edns(query)]).await;
    let group = Group::new(&[udp.address.into()], Transport::Udp, patient());
    for name in ["a", "b"] {
        assert_eq!(ask(&group, name).await.unwrap()[7], 1);
    }
    assert_eq!(group.status()[0].queries, 3);
}

/// Its complaint is about something else.
#[tokio::test]
async fn a_server_that_says_formerr_in_any_case_is_asked_with_edns() {
    let (fake, queries) = Fake::start_counting(|query| respond(query, 0x8181, [0; 3], &[])).await;
    let group = group_of(&[fake.address], patient());
    for _ in 0..2 {
        assert_eq!(ask(&group, "a").await.unwrap()[3] & 15, 1);
    }
    assert_eq!(queries.load(SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_has_only_errors_where_others_have_answers_is_ejected() {
    static WELL: AtomicBool = AtomicBool::new(false);
    let (failing, _) = Fake::start_counting(|query| match (query[13], WELL.load(SeqCst)) {
        (b'b', _) | (_, false) => respond(query, 0x8182, [0; 3], &[]),
        _ => address(query),
    })
    .await;
    let (good, _) = Fake::start_counting(|query| match query[13] {
        b'b' => respond(query, 0x8182, [0; 3], &[]),
        _ => address(query),
    })
    .await;
    let timings = Timings {
        probe_first: Duration::from_millis(20),
        ..patient()
    };
    let group = Group::new(&first_and_second(&failing, &good), Transport::Tcp, timings);
    // A name that is broken everywhere says nothing of a server.
    for _ in 0..20 {
        assert_eq!(ask(&group, "b").await.unwrap()[3] & 15, 2);
    }
    assert_eq!(group.status()[0].ejections, 0);
    for _ in 0..20 {
        assert_eq!(ask(&group, "x").await.unwrap()[3] & 15, 0);
    }
    let status = &group.status()[0];
    assert_eq!((status.ejections, status.suspect), (1, true));
    assert!(status.failures_by_kind.contains(&("error", 5)));
    // Its probes get errors as well, which do not let it back in.
    let end = Instant::now() + PATIENCE;
    while group.exchanged()[0].failed_probes < 2 {
        assert!(Instant::now() < end);
        ask(&group, "x").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    assert!(group.status()[0].suspect);
    WELL.store(true, SeqCst);
    while group.status()[0].suspect {
        assert!(Instant::now() < end);
        ask(&group, "x").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_slow_answer_on_a_quiet_connection_ejects_nobody() {
    let slow = Fake::start(|mut stream, _| async move {
        while let Some(query) = read(&mut stream).await {
            if query[13] == b's' {
                sleep(timings().attempt * 3 / 2).await;
            }
            write(&mut stream, &address(&query)).await;
        }
    })
    .await;
    let (good, _) = Fake::answering().await;
    let group = Group::new(&first_and_second(&slow, &good), Transport::Tcp, timings());
    for name in ["a", "s", "a"] {
        ask(&group, name).await.unwrap();
        // The late answer is heard, too.
        let end = Instant::now() + PATIENCE;
        while group.status()[0].in_flight > 0 {
            assert!(Instant::now() < end);
            sleep(Duration::from_millis(1)).await;
        }
    }
    let status = &group.status()[0];
    assert!(
        status.failures_by_kind.contains(&("timeout", 1)),
        "{status:?}"
    );
    assert_eq!((status.ejections, status.suspect), (0, false));
}

/// It answered, and from one moment on it does not, whatever the connection.
#[tokio::test]
async fn a_server_that_falls_silent_is_ejected_by_a_second_query() {
    let silenced = Fake::start(|mut stream, number| async move {
        if number == 0 {
            let query = read(&mut stream).await.unwrap();
            write(&mut stream, &address(&query)).await;
        }
        hang(stream).await;
    })
    .await;
    let (good, _) = Fake::answering().await;
    let timings = Timings {
        attempt: Duration::from_millis(500),
        ..timings()
    };
    let group = Group::new(&first_and_second(&silenced, &good), Transport::Tcp, timings);
    for _ in 0..3 {
        ask(&group, "x").await.unwrap();
    }
    let status = &group.status()[0];
    assert_eq!((status.queries, status.ejections), (3, 1), "{status:?}");
}

#[tokio::test]
async fn a_closed_udp_port_is_found_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    let group = Group::new(&[closed.into()], Transport::Udp, patient());
    assert_eq!(ask(&group, "a").await, Err(Failure::Unreachable));
}

#[tokio::test]
async fn servers_are_replaced_and_those_that_stay_keep_their_connections() {
    let (one, first) = Fake::answering().await;
    let (two, second) = Fake::answering().await;
    let group = group_of(&[one.address], patient());
    ask(&group, "x").await.unwrap();
    group.set(&[two.address.into(), one.address.into()]);
    for _ in 0..10 {
        ask(&group, "x").await.unwrap();
    }
    assert!(second.load(SeqCst) > 0);
    assert_eq!(first.load(SeqCst) + second.load(SeqCst), 11);
    assert_eq!(one.connections.load(SeqCst), 1);
    group.set(&[]);
    assert_eq!(ask(&group, "x").await, Err(Failure::NoServers));
}

/// A node's zone is known later than its servers are.
#[tokio::test]
async fn a_server_whose_place_changes_is_the_same_server() {
    let (one, first) = Fake::answering().await;
    let (two, _) = Fake::answering().await;
    let group = group_of(&[one.address, two.address], patient());
    while first.load(SeqCst) == 0 {
        ask(&group, "x").await.unwrap();
    }
    let before = group.status();
    let [mut near, mut far]: [Upstream; 2] = [one.address.into(), two.address.into()];
    (near.weight, far.distance) = (3, 2);
    group.set(&[near, far]);
    let status = group.status();
    let place = |n: usize| (status[n].distance, status[n].weight);
    assert_eq!((place(0), place(1)), ((0, 3), (2, 1)));
    assert_eq!(status[0].queries, before[0].queries);
    assert_eq!(status[0].rtt_p50, before[0].rtt_p50);
    for _ in 0..10 {
        ask(&group, "x").await.unwrap();
    }
    assert_eq!(group.status()[0].queries, before[0].queries + 10);
    assert_eq!(one.connections.load(SeqCst), 1);
}

/// An endpoint that goes: what it was asked it may answer, and then it is left.
#[tokio::test]
async fn the_connection_of_a_server_that_is_gone_ends_with_its_last_answer() {
    let (asked, mut is_asked) = mpsc::unbounded_channel();
    let (left, mut is_left) = mpsc::unbounded_channel();
    let answers = Arc::new(Notify::new());
    let may_answer = Arc::clone(&answers);
    let fake = Fake::start(move |mut stream, _| {
        let (asked, left, may_answer) = (asked.clone(), left.clone(), Arc::clone(&may_answer));
        async move {
            let query = read(&mut stream).await.unwrap();
            asked.send(()).unwrap();
            may_answer.notified().await;
            write(&mut stream, &address(&query)).await;
            // The end, and no other query.
            left.send(read(&mut stream).await).unwrap();
        }
    })
    .await;
    let group = Arc::new(group_of(&[fake.address], patient()));
    let asking = tokio::spawn({
        let group = Arc::clone(&group);
        async move { ask(&group, "x").await }
    });
    timeout(PATIENCE, is_asked.recv()).await.unwrap().unwrap();
    group.set(&[]);
    assert!(is_left.try_recv().is_err(), "it is left while it is asked");
    answers.notify_one();
    asking.await.unwrap().unwrap();
    assert_eq!(timeout(PATIENCE, is_left.recv()).await.unwrap(), Some(None));
}
