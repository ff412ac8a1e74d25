//! Everything that can happen to the agent, its servers and the pods, at random and at once, while clients compare
//! each answer with the zone: none is wrong, none is too old, and no lookup fails that the ordinary path, or the agent
//! with one server that answers, could have served.

mod clients;
mod events;
mod ledger;
mod pods;
mod server;
mod zone;

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{self, Family, Pair};
use crate::agent::AgentConfig;
use crate::client::{Client, Transport};
use crate::cluster_dns::Upstream;
use crate::conntrack_max::Machine;
use crate::lab::Lab;
use crate::or_panic::OrPanic;
use crate::pod::{Flavour, Pod};
use crate::procfs::cgroup2;
use crate::random::Random;
use crate::wire::{Query, rtype};
use ledger::Ledger;
pub use ledger::{Cause, Excused};
use server::Server;

/// What shall happen.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The same seed brings the same events in each lane, at about the same times.
    pub seed: u64,
    /// How long.
    pub time: Duration,
    /// The agent's program; without it, the one that `tools::agent` finds.
    pub agent: Option<PathBuf>,
}

/// What has happened. Printed, it is what one needs to make it happen again.
#[derive(Debug)]
pub struct Outcome {
    /// The seed that brought it.
    pub seed: u64,
    /// Lookups with a right answer.
    pub answered: u64,
    /// Lookups without one, at a time when nobody could have given it.
    pub excused: Excused,
    /// What happened, a line each.
    pub events: Vec<String>,
    /// What was wrong, a line each.
    pub faults: Vec<String>,
    /// What the agents have logged.
    pub log: String,
}

/// Faults that are printed.
const SHOWN: usize = 20;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.faults.is_empty() {
            // First what is wrong: whoever shows only the beginning of this shows what matters.
            let count = self.faults.len();
            writeln!(f, "seed {}: {count} faults:", self.seed)?;
            let shown = self.faults.iter().take(SHOWN);
            shown
                .into_iter()
                .try_for_each(|fault| writeln!(f, "  {fault}"))?;
            writeln!(f, "what led to it:")?;
            self.events.iter().try_for_each(|e| writeln!(f, "  {e}"))?;
        }
        write!(
            f,
            "seed {}: {} events, {} lookups answered rightly, {} unanswered while nobody could, {} faults",
            self.seed,
            self.events.len(),
            self.answered,
            self.excused.all(),
            self.faults.len()
        )?;
        write!(f, "{}", self.excused)
    }
}

/// One replica of the cluster DNS.
struct Replica {
    server: Server,
    pod: Pod,
}

/// What all threads share.
struct World<'a> {
    machine: &'a Machine,
    lab: &'a Lab,
    replicas: &'a [Replica],
    ledger: &'a Ledger,
    over: &'a AtomicBool,
}

impl World<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Lets some time go by, less at the end.
    fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

impl Chaos {
    /// Runs it in a lab of its own.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let machine = Machine::alone();
        let mut random = Random::new(self.seed);
        let flavour = random.one_of(Flavour::BOTH);
        let lab = Lab::builder()
            .flavour(flavour)
            .upstream(Upstream::Embedded)
            .replicas(0)
            .start();
        let ledger = Ledger::new();
        ledger.note(format!("pods are {flavour:?}"));
        let replicas = [0, 1].map(|index| replica(&lab, &ledger, index));
        let endpoints: Vec<Pair> = replicas.iter().map(|r| r.pod.addresses()).collect();
        lab.node().load_rules(&endpoints);
        let config = AgentConfig {
            binary: self.agent.clone(),
            upstreams: endpoints.iter().map(|pair| pair.dns(Family::V4)).collect(),
            extra: format!("cache: {{serveStale: {{maxSeconds: {}}}}}\n", zone::STALE),
            ..AgentConfig::default()
        };
        let config = config
            .soon_passed_by()
            .with_link_local()
            .with_host(&cgroup2().or_panic("no cgroup2 file system"));
        let agent = lab.agent(&config);
        let over = AtomicBool::new(false);
        let world = World {
            machine: &machine,
            lab: &lab,
            replicas: &replicas,
            ledger: &ledger,
            over: &over,
        };
        let log = thread::scope(|scope| {
            let (world, seed) = (&world, self.seed);
            let agent =
                scope.spawn(move || events::agent(world, Random::lane(seed, 1), agent, config));
            let mut lanes = vec![
                scope.spawn(move || pulse(world)),
                scope.spawn(move || events::upstreams(world, Random::lane(seed, 2))),
                scope.spawn(move || pods::churn(world, Random::lane(seed, 3))),
            ];
            for (lane, kind) in clients::all().into_iter().enumerate() {
                let random = Random::lane(seed, 10 + lane as u64);
                lanes.push(scope.spawn(move || clients::ask(world, kind, random)));
            }
            world.pass(self.time);
            over.store(true, Ordering::Relaxed);
            for lane in lanes {
                if let Err(panic) = lane.join() {
                    world.ledger.fault(told(&*panic));
                }
            }
            match agent.join() {
                Ok(agent) => agent.log(),
                Err(panic) => {
                    world.ledger.fault(told(&*panic));
                    String::new()
                }
            }
        });
        ledger.outcome(self.seed, log)
    }
}

/// What a panic said.
fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| "a lane panicked".to_owned())
}

/// A machine whose sleep ends so late, or whose server takes so long, has too much to do: that the agent gives a server
/// up then may be no fault of it.
const LATE: Duration = Duration::from_millis(100);
const BEAT: Duration = Duration::from_millis(20);

/// Watches whether the machine gets round to what is due.
fn pulse(world: &World<'_>) {
    let clients: Vec<_> = world
        .replicas
        .iter()
        .map(|replica| {
            // From where it is: the node's conntrack table may be full.
            let server = replica.pod.addresses().dns(Family::V4);
            Client::new(Arc::clone(replica.pod.netns()), server).timeout(LATE)
        })
        .collect();
    let query = Query::new(&zone::Kind::Hot.name(0), rtype::A);
    while !world.is_over() {
        let start = Instant::now();
        thread::sleep(BEAT);
        let mut late = start.elapsed() - BEAT;
        for (index, client) in clients.iter().enumerate() {
            let (well, start) = (|| world.ledger.is_well(index), Instant::now());
            // Asked while it is well, and well still when it has not answered in time.
            if well() && client.ask(Transport::Tcp, &query).is_err() && well() {
                late += start.elapsed();
            }
        }
        world.ledger.beat(late);
    }
}

fn replica(lab: &Lab, ledger: &Ledger, index: u16) -> Replica {
    let name = format!("dns{}", index + 1);
    let address = addresses::replica(index);
    let pod = Pod::new(lab.node(), &name, address, Flavour::Routed);
    let server = Server::start(pod.netns(), ledger.begun());
    Replica { server, pod }
}
