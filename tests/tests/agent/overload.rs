//! All upstreams silent, and far more questions than can be waited for: memory stays bounded, what is cached is answered
//! throughout, as fast as before, what is too much is refused at once and counted. The bounds are the release build's,
//! which `cargo xtask test` runs: a debug build's futures are larger, and it is slower than the flood.

use std::collections::BTreeMap;
use std::env;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache::metrics::names::{self, Metric};
use dns_cache_tests::procfs::resident;
use dns_cache_tests::turn::Turn;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{AgentConfig, Client, Family, Lab, Message, OrPanic, Query};

use crate::metrics::Scrape;
use crate::{SetOnDrop, fresh};

/// Distinct misses a second.
const RATE: u32 = 20_000;
/// As many seconds of them as this variable says, instead of 60.
const SECONDS: &str = "DNS_CACHE_TEST_OVERLOAD_SECONDS";
const MOST_MEMORY: u64 = 64_000_000;
/// As many names have answers that last as have such that expire on the way.
const CACHED: u16 = 100;
/// Each that lasts is answered before the most hasty client would ask again, from the first second to the last,
const LONGEST: Duration = Duration::from_secs(1);
/// by a zone of its own.
const LASTING: &str = "lasting.wild.types.svc.cluster.local";
/// The others are the kernel's for so many seconds; not quite, so that none is taken for another.
const TTL: u32 = 12;
const FRESH: Duration = Duration::from_secs(TTL as u64 - 2);
/// Then they are stale, and the resolver's, who answers before the clients' first retry,
const STALE: Duration = Duration::from_secs(2);
/// as it does for so much of all that is asked, at the least: on a machine that is slower than the flood, more is lost on
/// its way.
const ANSWERED: f64 = 0.25;
/// What the flood may make of the time of half of the hits: it wants the same CPUs as the client.
const SLOWER: u32 = 5;
const PODS: u16 = 6;

/// What became of a pod's misses.
#[derive(Debug, Default)]
struct Misses {
    sent: u32,
    by_rcode: BTreeMap<u16, u32>,
    /// How long those took that were refused.
    refused: Vec<Duration>,
}

/// Asks for names of which nobody has asked, at that rate, and takes what comes back.
fn ask_for_what_is_not_there(client: &Client, pod: u16, rate: u32, seconds: u32) -> Misses {
    let mut socket = client.udp(true).or_panic("opening a socket");
    socket.set_timeout(Duration::from_millis(1));
    let mut misses = Misses::default();
    let mut sent_at = vec![Instant::now(); 1 << 16];
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u32;
        for number in misses.sent..due {
            let name = format!("miss-{number}.pod-{pod}.wild.types.svc.cluster.local");
            let query = Query::new(&name, rtype::A).id(number as u16);
            sent_at[usize::from(query.id)] = Instant::now();
            socket.send(&query.to_bytes()).or_panic("sending");
        }
        misses.sent = misses.sent.max(due);
        while let Ok(reply) = socket.receive() {
            let message = Message::read(&reply).or_panic("no message");
            *misses.by_rcode.entry(message.rcode()).or_default() += 1;
            if message.rcode() == 5 {
                misses
                    .refused
                    .push(sent_at[usize::from(message.id)].elapsed());
            }
        }
    }
    misses
}

fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    *times.get(times.len() / 2).or_panic("there are none")
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[test]
fn silent_upstreams_and_a_flood_of_misses() {
    let seconds = env::var(SECONDS).map_or(60, |seconds| seconds.parse().or_panic(SECONDS));
    let _alone = Turn::alone();
    let lab = Lab::builder().pods(PODS + 1).start();
    let servers = lab.dns().endpoints();
    let servers: Vec<_> = servers
        .iter()
        .map(|pair| format!("\"{}\"", pair.dns(Family::V4)))
        .collect();
    let agent = lab.agent(&AgentConfig {
        extra: format!(
            "zones:\n  - zone: {LASTING}\n    upstreams: [{}]\n    ttl: {{positive: 3600, minimum: 3600}}\n",
            servers.join(", ")
        ),
        // Each record of the log would cost more than the query.
        log_level: "info".to_owned(),
        positive_ttl: Some(TTL),
        ..AgentConfig::default()
    });
    let reader = lab.pod(usize::from(PODS)).client(Family::V4);
    let socket = reader.timeout(STALE).udp(true);
    let socket = socket.or_panic("opening a socket");
    let cached = |name: &dyn Fn(u16) -> String| -> Vec<_> {
        let names = (0..CACHED).map(name);
        let queries = names.map(|name| socket.unambiguous(Query::new(&name, rtype::A)));
        queries.collect()
    };
    let (passing, lasting) = (cached(&fresh), cached(&|n| format!("n{n}.{LASTING}")));
    let ask = |query: &Query| socket.ask(query).or_panic(&query.name);
    let with_answer = |query| (query, ask(query).message.data());
    let lasting: Vec<_> = lasting.iter().map(with_answer).collect();
    let begun = Instant::now();
    let passing: Vec<_> = passing.iter().map(with_answer).collect();
    // All of them, each with the answer that it had, and how long that took.
    let round = |cached: &[(&Query, Vec<String>)]| -> Vec<_> {
        let each = cached.iter().map(|(query, expected)| {
            let reply = ask(query);
            assert_eq!(reply.message.data(), *expected);
            reply.time
        });
        each.collect()
    };
    loop {
        let before = agent.counters();
        let _ = (round(&passing), round(&lasting));
        if before.answered(&agent.counters()) == 2 * u64::from(CACHED) {
            break;
        }
        assert!(begun.elapsed() < FRESH, "the kernel never has them all");
    }
    // The CPUs have other things to do then as well.
    let over = AtomicBool::new(false);
    let calm = thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        for _ in 0..PODS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        median((0..10).flat_map(|_| round(&passing)))
    });

    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    let outside = lab.node().outside();
    outside.succeed(Command::new("iptables").args(["-I", "INPUT", "-j", "DROP"]));
    let before = agent.counters();
    let scraped = Scrape::of(&lab);
    let over = AtomicBool::new(false);
    let ends = SetOnDrop(&over);
    let (all, most_memory, hits, stale) = thread::scope(|scope| {
        let flood: Vec<_> = (0..PODS)
            .map(|pod| {
                let client = lab.pod(usize::from(pod)).client(Family::V4);
                let rate = RATE / u32::from(PODS);
                scope.spawn(move || ask_for_what_is_not_there(&client, pod, rate, seconds))
            })
            .collect();
        let memory = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(resident(agent.process().pid()));
                thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let (mut hits, mut stale) = (Vec::new(), Vec::new());
        while flood.iter().any(|pod| !pod.is_finished()) {
            let is_fresh = begun.elapsed() < FRESH;
            for (passing, lasting) in passing.chunks(1).zip(lasting.chunks(1)) {
                hits.extend(round(lasting));
                if is_fresh {
                    hits.extend(round(passing));
                } else {
                    stale.extend(passing.iter().map(|(query, _)| socket.ask(query)));
                }
            }
        }
        drop(ends);
        let all: Vec<_> = flood.into_iter().map(join).collect();
        (all, join(memory), hits, stale)
    });
    let sent: u32 = all.iter().map(|pod| pod.sent).sum();
    let count = |code: u16| -> u32 { all.iter().filter_map(|pod| pod.by_rcode.get(&code)).sum() };
    let (refused, failed) = (count(5), count(2));
    let at_once = median(all.iter().flat_map(|pod| &pod.refused).copied());
    let (count_of_hits, longest) = (hits.len(), hits.iter().max().copied());
    let hit = median(hits);
    let after = Scrape::of(&lab);
    let grown =
        |metric: &Metric, label: &str| after.sum(metric, &[label]) - scraped.sum(metric, &[label]);
    // The reader's replies have other codes.
    let answered =
        grown(&names::DNS_RESPONSES, "REFUSED") + grown(&names::DNS_RESPONSES, "SERVFAIL");
    let asked_late = stale.len();
    let stale: Vec<_> = stale.into_iter().flatten().collect();
    assert!(stale.iter().all(|reply| reply.message.rcode() == 0));
    let longest_stale = stale.iter().map(|reply| reply.time).max();
    let count_of_stale = stale.len();
    let counted = agent.counters().resolver("overload") - before.resolver("overload");
    println!(
        "{sent} misses in {seconds} s: {refused} refused (half of them within {at_once:?}), {failed} SERVFAIL; {count_of_hits} hits (half of them within {hit:?}, before {calm:?}); {count_of_stale} of {asked_late} stale (all within {longest_stale:?}); {answered} misses answered; {most_memory} bytes at most"
    );
    assert!(hit < SLOWER * calm, "hits take {hit:?}, before {calm:?}");
    assert!(longest < Some(LONGEST), "a hit took {longest:?}");
    assert!(
        asked_late > 0 && count_of_stale as f64 >= ANSWERED * asked_late as f64,
        "{count_of_stale} of {asked_late} got a stale answer"
    );
    assert!(
        longest_stale < Some(STALE),
        "a stale answer took {longest_stale:?}"
    );
    assert!(
        answered >= ANSWERED * f64::from(sent),
        "{answered} of {sent} misses were answered"
    );
    assert!(most_memory < MOST_MEMORY, "{most_memory} bytes resident");
    assert!(
        u64::from(refused) <= counted,
        "{refused} refused, {counted} counted"
    );
    assert!(
        at_once < Duration::from_millis(200),
        "refused after {at_once:?}"
    );
    // Nobody answers, so there is nothing else to be said.
    let replies: u32 = all.iter().flat_map(|pod| pod.by_rcode.values()).sum();
    assert_eq!(replies, refused + failed);
    assert!(
        refused > failed && failed > 0,
        "{refused} refused, {failed} failed"
    );
}
