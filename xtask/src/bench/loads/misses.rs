//! Names that nobody has asked for: what the way over this system adds to a query to CoreDNS itself, and what of it is due to
//! what.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use dns_cache_tests::{Family, addresses};

use super::{Context, Load, Measured, Needs};
use crate::bench::probe::{Connection, Probe};
use crate::bench::relay::Relay;
use crate::bench::systems::Running;
use crate::bench::threads::Activity;
use crate::bench::{names, statistics};

pub(super) const LOAD: Load = Load {
    key: "misses",
    title: "misses",
    method: "in turns: a new name over UDP from the system, a new name directly from the same CoreDNS over a TCP connection that stays open, one directly over UDP, and one over the least that can stand between: a thread in the node's namespace that hands a query on over an open TCP connection, and the answer back; and beside an agent, the same thread in the agent's place, with a socket among the agent's (SO_REUSEPORT), reached through the tc programs; all from the pod, one after the other. CPU time, the wait for a CPU after a wake-up, and how often a thread went to sleep: of the system's threads (/proc/PID/task/*/schedstat and status) over the whole load, a miss",
    once: false,
    needs: Needs::Names,
    run,
};

/// Connections are made and names near the new ones are known then.
const WARM_UP: usize = 10;
/// Sockets that are tried until one is served by whom it shall be: with some chance each is.
const PORTS: usize = 64;

/// What the threads of the system did for a miss, and those of the relay in the node's namespace.
const SYSTEM: [&str; 3] = ["misses.cpu_us", "misses.wait_us", "misses.sleeps"];
const RELAY: [&str; 3] = [
    "misses.direct_relay_cpu_us",
    "misses.direct_relay_wait_us",
    "misses.direct_relay_sleeps",
];

/// How long the answer to a query took; `None` is silence.
type Ask<'a> = Box<dyn FnMut(&[u8]) -> Result<Option<Duration>> + 'a>;

/// A way to ask.
struct Way<'a> {
    figure: &'static str,
    ask: Ask<'a>,
    /// In µs.
    times: Vec<f64>,
}

impl<'a> Way<'a> {
    fn new(figure: &'static str, ask: impl FnMut(&[u8]) -> Result<Option<Duration>> + 'a) -> Self {
        Self {
            figure,
            ask: Box::new(ask),
            times: Vec::new(),
        }
    }

    fn ask(&mut self) -> Result<()> {
        let time = (self.ask)(&names::query(&names::fresh()))?;
        self.times.extend(time.map(|time| time.as_secs_f64() * 1e6));
        Ok(())
    }

    fn median(&self) -> Result<f64> {
        let figure = self.figure;
        statistics::median(&self.times).with_context(|| format!("{figure}: no query was answered"))
    }
}

fn run(context: &Context<'_>) -> Result<Measured> {
    let system = context.system;
    let (netns, coredns) = (system.pod().netns(), system.coredns()?);
    let node = system.lab.node().netns();
    let mut direct = Connection::open(netns, coredns)?;
    let mut direct_udp = Probe::new(netns, coredns)?;
    let relay = Relay::start(node, addresses::NODE.of(Family::V4), coredns)?;
    let mut relayed = Probe::new(netns, relay.address())?;
    let placed = match resolver_netns(system)? {
        Some(resolver) => Some(Relay::in_place(&resolver, node, system.server, coredns)?),
        None => None,
    };
    let mut probe = served_by(context, placed.as_ref(), false)?;

    let mut ways = vec![
        Way::new("misses.p50_us", |query| probe.ask(query)),
        Way::new("misses.direct_tcp_p50_us", |query| {
            direct.ask(query).map(Some)
        }),
        Way::new("misses.direct_udp_p50_us", |query| direct_udp.ask(query)),
        Way::new("misses.direct_relay_p50_us", |query| relayed.ask(query)),
    ];
    if placed.is_some() {
        let mut probe = served_by(context, placed.as_ref(), true)?;
        let figure = "misses.direct_placed_p50_us";
        ways.push(Way::new(figure, move |query| probe.ask(query)));
    }
    for _ in 0..WARM_UP {
        ways.iter_mut().try_for_each(Way::ask)?;
    }
    ways.iter_mut().for_each(|way| way.times.clear());

    let own = own_processes(system);
    let before = (Activity::of(&own), relay.activity());
    let count = context.plan.misses;
    for _ in 0..count {
        ways.iter_mut().try_for_each(Way::ask)?;
    }
    let after = (Activity::of(&own), relay.activity());

    let mut measured = Measured::default();
    for way in &ways {
        measured.figure(way.figure, way.median()?);
    }
    let lost = (count - ways[0].times.len()) as f64 / count as f64 * 100.0;
    measured.lost("misses.lost_percent", lost);
    let (miss, tcp) = (ways[0].median()?, ways[1].median()?);
    measured.figure("misses.added_percent", (miss - tcp) / tcp * 100.0);
    for (figures, before, after) in [(SYSTEM, before.0, after.0), (RELAY, before.1, after.1)] {
        if let (Some(before), Some(after)) = (before, after) {
            let values = a_query(after.since(before), count);
            for (figure, value) in figures.into_iter().zip(values) {
                measured.figure(figure, value);
            }
        }
    }
    Ok(measured)
}

/// µs of CPU time, µs of waiting, sleeps.
fn a_query(activity: Activity, queries: usize) -> [f64; 3] {
    let queries = queries.max(1) as f64;
    let micros = |nanos: u64| nanos as f64 / 1e3 / queries;
    [
        micros(activity.run_nanos),
        micros(activity.wait_nanos),
        activity.sleeps as f64 / queries,
    ]
}

/// Those that nothing but the system's own misses keeps busy: not the CoreDNS that is asked directly, too.
fn own_processes(system: &Running) -> Vec<i32> {
    let replicas = system.lab.dns().replicas();
    let is_asked = |pid: &i32| replicas.iter().any(|replica| replica.pid() == Some(*pid));
    let own = system.processes.iter().filter(|pid| !is_asked(pid));
    own.copied().collect()
}

/// Where an agent has its resolver's sockets.
fn resolver_netns(system: &Running) -> Result<Option<PathBuf>> {
    let Some(agent) = system.agent() else {
        return Ok(None);
    };
    let status = agent.status().map_err(|error| anyhow!("{error}"))?;
    let path = status["datapath"]["resolver_netns"].as_str();
    Ok(path.map(PathBuf::from))
}

/// A client whose queries come to the relay in the agent's place, or to the agent: by its port the kernel chooses among the
/// sockets at one address.
fn served_by(context: &Context<'_>, relay: Option<&Relay>, by_relay: bool) -> Result<Probe> {
    let Some(relay) = relay else {
        return context.probe();
    };
    for _ in 0..PORTS {
        let (mut probe, before) = (context.probe()?, relay.passed());
        probe.insist(&names::query(&names::fresh()))?;
        // It counts after it has answered, and so maybe after this thread has the answer.
        std::thread::sleep(Duration::from_millis(1));
        if (relay.passed() > before) == by_relay {
            return Ok(probe);
        }
    }
    bail!(
        "none of {PORTS} ports is served by the {}",
        if by_relay { "relay" } else { "agent" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_did_is_told_a_query() {
        let activity = Activity {
            run_nanos: 5_000_000,
            wait_nanos: 1_000_000,
            sleeps: 300,
        };
        assert_eq!(a_query(activity, 100), [50.0, 10.0, 3.0]);
    }
}
