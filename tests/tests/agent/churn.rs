//! Pods that come and go, hundreds a second.

mod crowd;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
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
use dns_cache_tests::{
    Agent, AgentConfig, Failure, Family, Flavour, Lab, Netns, OrPanic, Transport,
};

use crowd::Crowd;

/// Pods a second, in all.
const RATE: usize = 200;
/// They come in crowds, of which each waits for its own.
const CROWDS: usize = 3;
/// The first of their addresses' numbers; the lab's own pods have lower ones.
const FIRST: usize = 100;
/// Lookups a second of the pods that stay, in each family.
const LOAD: u32 = 500;
/// How long pods come and go, in seconds: a variable for the long form of the test.
const SECONDS: (&str, u32) = ("DNS_CACHE_TEST_CHURN_SECONDS", 6);
/// How many have to come a second; by hand, where the machine has time for nothing else.
const LEAST: (&str, u32) = ("DNS_CACHE_TEST_CHURN_RATE", 0);

fn variable((name, default): (&str, u32)) -> u32 {
    env::var(name).map_or(default, |text| text.parse().or_panic(name))
}

/// Packets that came to a namespace and were nothing to anybody there: to a port without a socket or to a socket that
/// does not take them, as of another's server, and to another address. Clients would not tell of an answer to another pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Strays(BTreeMap<String, u64>);

impl Strays {
    /// Of /proc/net/snmp and snmp6.
    const COUNTERS: [&str; 6] = [
        "UdpNoPorts",
        "UdpInErrors",
        "IpInAddrErrors",
        "Udp6NoPorts",
        "Udp6InErrors",
        "Ip6InAddrErrors",
    ];

    fn among<'a>(namespaces: impl IntoIterator<Item = &'a Netns>) -> Self {
        let mut sum = BTreeMap::new();
        for netns in namespaces {
            for (name, count) in netns.run(Self::counters) {
                *sum.entry(name).or_default() += count;
            }
        }
        Self(sum)
    }

    /// Those of this thread's namespace.
    fn counters() -> Vec<(String, u64)> {
        let read = |file| fs::read_to_string(file).or_panic(file);
        let v4 = read("/proc/thread-self/net/snmp");
        // A line of names, and one of numbers.
        let lines: Vec<_> = v4.lines().collect();
        let v4 = lines.chunks(2).flat_map(|pair| {
            let [names, numbers] = [pair[0], pair[1]].map(str::split_whitespace);
            let protocol = pair[0].split(':').next().unwrap_or_default();
            let named = names.zip(numbers).skip(1);
            named.map(move |(name, number)| (format!("{protocol}{name}"), number))
        });
        let v6 = read("/proc/thread-self/net/snmp6");
        let v6 = v6.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?))
        });
        let meant = |name: &String| Self::COUNTERS.contains(&name.as_str());
        let all = v4.chain(v6).filter(|(name, _)| meant(name));
        let all = all.map(|(name, number)| (name, number.parse().or_panic("a counter")));
        let all: Vec<_> = all.collect();
        assert_eq!(all.len(), Self::COUNTERS.len(), "{all:?}");
        all
    }
}

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

/// So many pods are there at a time in each crowd. On a bridge each multicast of a pod (there are five for its addresses) is
/// copied to all others, and what does not fit into a CPU's backlog is lost (the second column of /proc/net/softnet_stat),
/// queries among it: with 48 that was one lookup in some thousands.
const fn places(flavour: Flavour) -> usize {
    match flavour {
        Flavour::Routed => 48,
        Flavour::Bridged => 16,
    }
}

/// Pods that came.
#[derive(Default)]
struct Came {
    pods: usize,
    /// Whose first query had no answer. While a clsact qdisc is made the kernel drops what the node sends to the pod, for about a
    /// millisecond (`qdisc_graft` of net/sched/sch_api.c): here the ordinary path's answer, seen as `QDISC_DROP` for one pod in
    /// some thousands.
    lost: usize,
}

/// Pods come, ask, are served by the agent, ask again, and go, until the time is over.
fn come_and_go(lab: &Lab, agent: &Agent, index: usize, time: Duration, tag: &str) -> Came {
    let places = places(lab.node().flavour());
    let mut crowd = Crowd::new(lab, index, places);
    let (start, first) = (Instant::now(), FIRST + index * places);
    let tags = ["first", "then"].map(|when| format!("{tag}-{index}-{when}-"));
    let strays = Strays::among(crowd.namespaces());
    let mut came = Came::default();
    while start.elapsed() <= time {
        let round = came.pods / places;
        // Each address is another pod's in the next round.
        let names = crowd.come(|place| addresses::pod((first + (place + round) % places) as u16));
        let mut ask_all = |tag| {
            for place in 0..places {
                let number = round * places + place;
                let client = crowd.client(place, Family::BOTH[number % 2]);
                let Question { query, right, .. } = Question::unique(tag, number as u64);
                // Whatever else the machine has to do.
                let client = client.timeout(Duration::from_secs(10));
                let ask = || client.ask(Transport::ALL[number / 2 % 3], &query);
                let reply = match ask() {
                    Err(Failure::Timeout(_)) if *tag == tags[0] => {
                        came.lost += 1;
                        ask()
                    }
                    asked => asked,
                };
                let message = reply.or_panic(&query.name).message;
                assert_eq!(message.data(), [format!("A {right}")], "{}", query.name);
            }
        };
        ask_all(&tags[0]);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        agent.wait_for(&names, LONG);
        ask_all(&tags[1]);
        crowd.go();
        came.pods += places;
        let due = time_for(came.pods * CROWDS);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    assert_eq!(Strays::among(crowd.namespaces()), strays);
    came
}

/// Lets the crowds come and go while the pods that stay ask.
fn churn(lab: &Lab, agent: &Agent, seconds: u32, tags: [&'static str; 2]) -> Came {
    let staying = || lab.pods().iter().map(|pod| &**pod.netns());
    let strays = Strays::among(staying());
    let time = Duration::from_secs(seconds.into());
    let loads = [(0, Family::V4), (1, Family::V6)].map(|(index, family)| {
        let load = Load::new(CLUSTER_IP.dns(family), LOAD, u64::from(LOAD * seconds));
        let question = move |number| match number % 10 {
            0 => Question::unique(tags[index], number),
            _ => Question::service(number),
        };
        load.start(lab.pod(index).netns(), Box::new(question))
    });
    let came = thread::scope(|scope| {
        let crowd = |index| scope.spawn(move || come_and_go(lab, agent, index, time, tags[0]));
        let crowds: Vec<_> = (0..CROWDS).map(crowd).collect();
        let came = |crowd: ScopedJoinHandle<'_, Came>| match crowd.join() {
            Ok(came) => came,
            Err(panic) => resume_unwind(panic),
        };
        let all = crowds.into_iter().map(came);
        all.fold(Came::default(), |sum, came| Came {
            pods: sum.pods + came.pods,
            lost: sum.lost + came.lost,
        })
    });
    for load in loads {
        let outcome = load.end();
        assert_eq!((outcome.failed(), outcome.wrong_source), (0, 0));
        assert_eq!(outcome.wrong, [""; 0]);
    }
    assert_eq!(Strays::among(staying()), strays);
    came
}

/// In which so many pods may come.
fn time_for(pods: usize) -> Duration {
    Duration::from_secs_f64(pods as f64 / RATE as f64)
}

/// 200 pods a second come, at addresses that other pods had a moment ago, and go when the agent has served them, while others
/// ask: each answer is right, from a pod's first query on, no pod gets another's, and in the end nothing is left. (A busy
/// machine makes fewer; how many is printed.)
fn leave_nothing(flavour: Flavour) {
    let (seconds, least) = (variable(SECONDS), variable(LEAST));
    let _alone = Turn::alone();
    let lab = Lab::builder().flavour(flavour).start();
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
    let Came { pods: made, lost } = churn(&lab, &agent, seconds, ["e", "f"]);
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
    let rate = made as f64 / took.as_secs_f64();
    println!(
        "{made} pods came and went in {took:?}, {rate:.0} a second; {} lookups of theirs, {lost} of which had to ask twice, {grown} bytes more: {after:?}",
        2 * made,
    );
    assert!(rate >= f64::from(least), "{rate:.0} pods a second");
    assert!(lost * 100 <= made, "{lost} of {made} asked twice");
    assert!(is_as_before(after), "{before:?} {after:?}");
    assert!(grown < 16 << 20, "{grown} bytes more");
}

#[test]
fn pods_that_come_and_go_leave_nothing_routed() {
    leave_nothing(Flavour::Routed);
}

#[test]
fn pods_that_come_and_go_leave_nothing_bridged() {
    leave_nothing(Flavour::Bridged);
}

/// What the tests above would see.
#[test]
fn a_packet_to_nobody_in_a_pod_is_seen() {
    const NOBODYS: u16 = 4_242;
    for flavour in Flavour::BOTH {
        let lab = Lab::builder().flavour(flavour).start();
        let pod = lab.pod(0);
        for family in Family::BOTH {
            let seen = || Strays::among([&**pod.netns()]);
            let before = seen();
            lab.node().netns().run(|| {
                let any: IpAddr = match family {
                    Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                    Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).or_panic("opening a socket");
                let to = (pod.address(family), NOBODYS);
                socket.send_to(b"astray", to).or_panic("sending");
            });
            let end = Instant::now() + Duration::from_secs(5);
            while seen() == before {
                assert!(Instant::now() < end, "{flavour:?} {family:?}: {before:?}");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
