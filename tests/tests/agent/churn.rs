//! Pods that come and go, hundreds a second.

mod crowd;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData, MapInfo, PerCpuHashMap};
use aya::programs::loaded_programs;
use dns_cache_tests::addresses::{self, CLUSTER_IP};
use dns_cache_tests::load::{Load, Question};
use dns_cache_tests::patience::LONG;
use dns_cache_tests::procfs::resident;
use dns_cache_tests::turn::Turn;
use dns_cache_tests::{Agent, AgentConfig, Family, Lab, OrPanic, Transport};

use crowd::Crowd;

/// Pods a second, in all.
const RATE: usize = 200;
/// They come in crowds, of which each waits for its own; so many pods are there at a time in each.
const CROWDS: usize = 3;
const PLACES: usize = 48;
/// The first of their addresses' numbers; the lab's own pods have lower ones.
const FIRST: usize = 100;
/// Lookups a second of the pods that stay, in each family.
const LOAD: u32 = 500;
/// How long pods come and go, in seconds: a variable for the long form of the test.
const SECONDS: (&str, u32) = ("DNS_CACHE_TEST_CHURN_SECONDS", 6);

/// What would be left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    /// Pinned links, and notes of qdiscs that were made.
    links: usize,
    qdiscs: usize,
    /// Programs that use the agent's maps.
    programs: usize,
    /// Entries of the maps that have one for each interface; others are of a fixed size, and forget the oldest.
    interfaces: usize,
    traffic: usize,
}

impl Held {
    fn by(agent: &Agent) -> Self {
        let count = |path: PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
        let pins = fs::read_dir(agent.bpffs()).or_panic("listing the pins");
        let pinned = pins.flatten().find_map(|layout| {
            let map = MapData::from_pin(layout.path().join("INTERFACES")).ok()?;
            Some(map.info().or_panic("asking for a map's id").id())
        });
        let pinned = pinned.or_panic("no pinned map");
        // Each program's maps.
        let programs: Vec<_> = loaded_programs()
            .filter_map(|program| program.ok()?.map_ids().ok()?)
            .filter(|maps| maps.contains(&pinned))
            .collect();
        let maps: BTreeSet<_> = programs.iter().flatten().copied().collect();
        let map = |name: &str| {
            let found = maps.iter().find_map(|id| {
                let info = MapInfo::from_id(*id).ok()?;
                (info.name_as_str() == Some(name)).then_some(*id)
            });
            MapData::from_id(found.or_panic(name)).or_panic(name)
        };
        let interfaces = HashMap::<_, u32, [u8; 8]>::try_from(Map::HashMap(map("INTERFACES")));
        let traffic =
            PerCpuHashMap::<_, u32, [u8; 24]>::try_from(Map::PerCpuHashMap(map("TRAFFIC")));
        Self {
            descriptors: count(format!("/proc/{}/fd", agent.process().pid()).into()),
            links: count(agent.bpffs().join("links")),
            qdiscs: count(agent.state_dir().join("clsact")),
            programs: programs.len(),
            interfaces: interfaces.or_panic("INTERFACES").keys().count(),
            traffic: traffic.or_panic("TRAFFIC").keys().count(),
        }
    }
}

/// Pods come, ask, are served by the agent, ask again, and go, until the time is over; how many.
fn come_and_go(lab: &Lab, agent: &Agent, index: usize, time: Duration, tag: &str) -> usize {
    let mut crowd = Crowd::new(lab, index, PLACES);
    let (start, first) = (Instant::now(), FIRST + index * PLACES);
    let tags = ["first", "then"].map(|when| format!("{tag}-{index}-{when}-"));
    for round in 0.. {
        if start.elapsed() > time {
            return round * PLACES;
        }
        // Each address is another pod's in the next round.
        let names = crowd.come(|place| addresses::pod((first + (place + round) % PLACES) as u16));
        let ask_all = |tag| {
            for place in 0..PLACES {
                let number = round * PLACES + place;
                let client = crowd.client(place, Family::BOTH[number % 2]);
                let Question { query, right, .. } = Question::unique(tag, number as u64);
                // Once, and whatever else the machine has to do.
                let client = client.timeout(Duration::from_secs(10));
                let reply = client.ask(Transport::ALL[number / 2 % 3], &query);
                let message = reply.or_panic(&query.name).message;
                assert_eq!(message.data(), [format!("A {right}")], "{}", query.name);
            }
        };
        ask_all(&tags[0]);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        agent.wait_for(&names, LONG);
        ask_all(&tags[1]);
        crowd.go();
        let due = time_for((round + 1) * PLACES * CROWDS);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    unreachable!("rounds have no end")
}

/// Lets the crowds come and go while the pods that stay ask; how many pods came.
fn churn(lab: &Lab, agent: &Agent, seconds: u32, tags: [&'static str; 2]) -> usize {
    let time = Duration::from_secs(seconds.into());
    let loads = [(0, Family::V4), (1, Family::V6)].map(|(index, family)| {
        let load = Load::new(CLUSTER_IP.dns(family), LOAD, u64::from(LOAD * seconds));
        let question = move |number| match number % 10 {
            0 => Question::unique(tags[index], number),
            _ => Question::service(number),
        };
        load.start(lab.pod(index).netns(), Box::new(question))
    });
    let made = thread::scope(|scope| {
        let crowd = |index| scope.spawn(move || come_and_go(lab, agent, index, time, tags[0]));
        let crowds: Vec<_> = (0..CROWDS).map(crowd).collect();
        let made = |crowd: ScopedJoinHandle<'_, usize>| match crowd.join() {
            Ok(made) => made,
            Err(panic) => resume_unwind(panic),
        };
        crowds.into_iter().map(made).sum()
    });
    for load in loads {
        let outcome = load.end();
        assert_eq!((outcome.failed(), outcome.wrong_source), (0, 0));
        assert_eq!(outcome.wrong, [""; 0]);
    }
    made
}

/// In which so many pods may come.
fn time_for(pods: usize) -> Duration {
    Duration::from_secs_f64(pods as f64 / RATE as f64)
}

/// 200 pods a second come, at addresses that other pods had a moment ago, and go when the agent has served them, while others
/// ask: each answer is right, from a pod's first query on, and in the end nothing is left. (A busy machine makes fewer; how
/// many is printed.)
#[test]
fn pods_that_come_and_go_leave_nothing() {
    let seconds = env::var(SECONDS.0).map_or(SECONDS.1, |text| text.parse().or_panic(SECONDS.0));
    let _alone = Turn::alone();
    let lab = Lab::builder().start();
    // What is cached is no leak.
    let agent = lab.agent(&AgentConfig {
        extra: "cache: {maxEntries: 1000, maxBytes: 1Mi}\n".to_owned(),
        ..AgentConfig::default()
    });
    let staying = lab.pods().len() + lab.dns().replicas().len();
    let settled = |what: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        while agent.interfaces().len() != staying {
            assert!(Instant::now() < end, "{what}: {:?}", agent.interfaces());
            thread::sleep(Duration::from_millis(50));
        }
    };
    settled("at the start");
    // The agent's memory is what it is under this load.
    churn(&lab, &agent, 2, ["a", "b"]);
    settled("after the first ones");
    let (before, memory) = (Held::by(&agent), resident(agent.process().pid()));
    let start = Instant::now();
    let made = churn(&lab, &agent, seconds, ["e", "f"]);
    let took = start.elapsed();
    settled("in the end");
    // Connections of pods that are gone end when nothing has come over them for ten seconds.
    let is_as_before = |after: Held| {
        let descriptors = before.descriptors;
        after.descriptors <= descriptors + 4
            && before
                == Held {
                    descriptors,
                    ..after
                }
    };
    let end = Instant::now() + LONG;
    let mut after = Held::by(&agent);
    while !is_as_before(after) && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
        after = Held::by(&agent);
    }
    let grown = resident(agent.process().pid()).saturating_sub(memory);
    println!(
        "{made} pods came and went in {took:?}, {:.0} a second; {} lookups of theirs, {grown} bytes more: {after:?}",
        made as f64 / took.as_secs_f64(),
        2 * made,
    );
    assert!(is_as_before(after), "{before:?} {after:?}");
    assert!(grown < 16 << 20, "{grown} bytes more");
}
