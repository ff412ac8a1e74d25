//! Many interfaces, and many that come and go.

use std::fmt::Write as _;
use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use dns_cache_tests::procfs::resident;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Family, Flavour, Lab, Netns, OrPanic, Query, Transport,
};

use crate::{assert_web, fresh, lab_with_agent};

/// Makes so many veths in the node, with their other ends elsewhere; their names. All go with the result.
fn veths(lab: &Lab, count: usize) -> (Netns, Vec<String>) {
    let elsewhere = Netns::new(lab.scope(), "many");
    // Never twice: what goes is gone some time later.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.fetch_add(count, Relaxed);
    let names: Vec<_> = (first..first + count)
        .map(|number| format!("veth{number:07}"))
        .collect();
    let mut batch = String::new();
    for name in &names {
        let _ = writeln!(
            batch,
            "link add {name} type veth peer name {name} netns {}\nlink set {name} up",
            elsewhere.name()
        );
    }
    lab.node().netns().ip(&batch);
    (elsewhere, names)
}

/// The promise is a second, which the figure that is printed shows of a release build; a machine that is busy with other
/// tests takes longer.
#[test]
fn a_thousand_interfaces_are_attached_at_the_start() {
    const COUNT: usize = 1_000;
    // With TCX alone each takes as long as the kernel's grace period.
    for attach in ["auto", "clsact"] {
        let lab = Lab::builder().start();
        let (_elsewhere, names) = veths(&lab, COUNT);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let config = AgentConfig {
            attach: attach.to_owned(),
            log_level: "info".to_owned(),
            ..AgentConfig::default()
        };
        // The second one finds the first one's programs there.
        for found in ["nothing", "an earlier agent's"] {
            let start = Instant::now();
            let agent = lab.agent_on(&config, &names);
            let took = start.elapsed();
            println!(
                "{attach}, {found} there: {COUNT} interfaces, {took:?} from the agent's start on"
            );
            assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
            assert!(took < Duration::from_secs(12), "{attach}: {took:?}");
            agent.kill9();
        }
    }
}

/// What would be left behind: descriptors, pinned links, and entries of maps.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    links: usize,
    interfaces: usize,
}

impl Held {
    fn by(agent: &Agent) -> Self {
        let entries = |path: PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
        let interfaces = {
            let pins = fs::read_dir(agent.bpffs()).or_panic("listing the pins");
            pins.flatten()
                .filter_map(|layout| MapData::from_pin(layout.path().join("INTERFACES")).ok())
                .map(|map| HashMap::<_, u32, [u8; 8]>::try_from(Map::HashMap(map)))
                .map(|map| map.or_panic("a hash map").keys().count())
                .sum()
        };
        Self {
            descriptors: entries(format!("/proc/{}/fd", agent.process().pid()).into()),
            links: entries(agent.bpffs().join("links")),
            interfaces,
        }
    }
}

/// Looks names up, each answer to which is known, until it is told to stop; how many.
fn ask_until(done: &AtomicBool, client: &Client) -> u64 {
    let mut asked = 0;
    while !done.load(Relaxed) {
        let number = (asked % 100) as u16;
        let name = fresh(number);
        let reply = client.ask(Transport::Unconnected, &Query::new(&name, rtype::A));
        let message = reply.or_panic(&name).message;
        assert_eq!(
            message.data(),
            [format!("A 10.98.0.{}", number + 1)],
            "{name}"
        );
        asked += 1;
    }
    asked
}

/// Pods come and go, 200 a second if the machine makes as many, while others ask: each answer is right, an address that
/// moves gets its answers at its new place with the first query, and in the end nothing is left.
#[test]
fn pods_that_come_and_go_leave_nothing() {
    const TIME: Duration = Duration::from_secs(10);
    const RATE: u32 = 200;
    const BATCH: usize = 20;
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let settled = |what: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        let known = lab.pods().len();
        while agent.interfaces().len() != known + lab.dns().replicas().len() {
            assert!(Instant::now() < end, "{what}: {:?}", agent.interfaces());
            thread::sleep(Duration::from_millis(50));
        }
    };
    settled("at the start");
    for transport in Transport::ALL {
        assert_web(&lab.pod(0).client(Family::V4), transport);
    }
    let (before, memory) = (Held::by(&agent), resident(agent.process().pid()));
    let done = AtomicBool::new(false);
    let (made, moves, asked) = thread::scope(|scope| {
        let asking: Vec<_> = Family::BOTH
            .into_iter()
            .map(|family| {
                let (lab, done) = (&lab, &done);
                scope.spawn(move || ask_until(done, &lab.pod(1).client(family)))
            })
            .collect();
        let coming_and_going = scope.spawn(|| {
            let (start, mut made) = (Instant::now(), 0);
            while !done.load(Relaxed) {
                drop(veths(&lab, BATCH));
                made += BATCH;
                let due = Duration::from_secs(1) * u32::try_from(made).unwrap_or(u32::MAX) / RATE;
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            made
        });
        // The address of one that went is the next one's.
        let (end, mut moving, mut moves) = (Instant::now() + TIME, None, 0);
        while Instant::now() < end && moves < 200 {
            let mut pod = lab.add_pod();
            if let Some(addresses) = moving {
                pod.readdress(addresses);
            }
            for transport in Transport::ALL {
                assert_web(&pod.client(Family::V4), transport);
            }
            moving = Some(pod.addresses());
            moves += 1;
        }
        done.store(true, Relaxed);
        let made = coming_and_going
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        let asked = asking.into_iter().map(|thread| {
            let asked = thread.join();
            asked.unwrap_or_else(|panic| resume_unwind(panic))
        });
        (made, moves, asked.sum::<u64>())
    });
    settled("in the end");
    let (after, grown) = (
        Held::by(&agent),
        resident(agent.process().pid()).saturating_sub(memory),
    );
    println!(
        "{made} interfaces came and went, an address moved {moves} times, {asked} lookups, {grown} bytes more: {after:?}"
    );
    assert!(
        after.descriptors <= before.descriptors + 4,
        "{before:?} {after:?}"
    );
    assert_eq!(
        Held {
            descriptors: before.descriptors,
            ..after
        },
        before
    );
    assert!(grown < 16 << 20, "{grown} bytes more");
}

/// More events than the socket's buffer holds, while nobody reads them: what they said is read anew.
#[test]
fn lost_events_are_made_up_for() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    agent.pause();
    for _ in 0..4 {
        drop(veths(&lab, 1_000));
    }
    let pod = lab.add_pod();
    agent.resume();
    agent.wait_for(&[pod.veth()], Duration::from_secs(20));
    let log = agent.log();
    assert!(log.contains("netlink overrun"), "none was lost:\n{log}");
    for transport in Transport::ALL {
        assert_web(&pod.client(Family::V6), transport);
    }
}
