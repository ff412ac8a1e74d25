//! What an application's look-up of a name outside the cluster costs the servers behind a node's cache: a pod's search list
//! makes five names of it, A and AAAA each.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::Query;
use serde::Serialize;

use super::marks::{self, Disturbance};
use super::names;
use super::probe::Probe;
use super::systems::Running;

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "a client as glibc under a pod's search list (three suffixes of the cluster, one of the node) and ndots:5: ten queries a look-up, eight for names that do not exist; all systems at once, for it is queries that are counted, not time, and only when what was cold at first is warm. CoreDNS and outside: queries that the cluster's CoreDNS and the resolver outside it were asked, by their own metrics (what CoreDNS forwards is counted at both); past kernel: packets that left the pod and were not answered by tc";

/// Names that are looked up.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) title: &'static str,
    /// How many names; without a number each is new.
    names: Option<u64>,
    /// Look-ups a second.
    rate: u32,
    warm_up: Duration,
    time: Duration,
}

/// A whole life of what is cached for 30 seconds.
const LIFE: Duration = Duration::from_secs(30);

/// Those of a full run.
pub(super) const FULL: [Workload; 3] = [
    Workload {
        title: "each name once a second",
        names: Some(100),
        rate: 100,
        warm_up: Duration::from_secs(6),
        time: LIFE,
    },
    Workload {
        title: "each name every 8 s",
        names: Some(800),
        rate: 100,
        warm_up: Duration::from_secs(10),
        time: LIFE,
    },
    NEW,
];

/// That of a quick run.
pub(super) const QUICK: [Workload; 1] = [NEW];

const NEW: Workload = Workload {
    title: "each name new",
    names: None,
    rate: 50,
    warm_up: Duration::from_secs(3),
    time: Duration::from_secs(10),
};

/// What a system did with a workload; all but the count of look-ups is per look-up.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cost {
    pub(super) workload: &'static str,
    pub(super) system: &'static str,
    pub(super) title: &'static str,
    pub(super) lookups: u64,
    /// How many of them had another answer than they should.
    pub(super) failed: u64,
    /// Queries at the cluster's CoreDNS.
    pub(super) coredns: f64,
    /// Queries at the resolver outside the cluster.
    pub(super) outside: f64,
    /// Packets that were not answered by tc.
    pub(super) past_kernel: f64,
    #[serde(flatten)]
    pub(super) disturbance: Disturbance,
    /// What was the matter with it.
    pub(super) remarks: Vec<String>,
}

/// Measures all of these systems.
pub(super) fn run(workloads: &[Workload], systems: &[&Running]) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for workload in workloads {
        let seconds = (workload.warm_up + workload.time).as_secs();
        println!("Search lists, {}: {seconds} s …", workload.title);
        let (measured, disturbance) = Disturbance::during(|| at_once(workload, systems))?;
        costs.extend(measured.into_iter().map(|cost| Cost {
            disturbance,
            remarks: [disturbance.remarks(), cost.remarks].concat(),
            ..cost
        }));
    }
    Ok(costs)
}

fn at_once(workload: &Workload, systems: &[&Running]) -> Result<Vec<Cost>> {
    thread::scope(|scope| {
        let threads: Vec<_> = systems
            .iter()
            .map(|system| scope.spawn(|| measure(workload, system)))
            .collect();
        let costs = threads.into_iter().zip(systems).map(|(thread, system)| {
            let Ok(cost) = thread.join() else {
                bail!("a client panicked");
            };
            cost.with_context(|| format!("{}, search lists", system.system.title))
        });
        costs.collect()
    })
}

fn measure(workload: &Workload, system: &Running) -> Result<Cost> {
    let mut client = Client {
        probe: Probe::new(system.pod().netns(), system.server)?,
        workload,
        next: 0,
    };
    client.look_up_for(workload.warm_up)?;
    let counters = || system.agent().map(dns_cache_tests::Agent::counters);
    let (before, upstream) = (counters(), system.asked_upstream());
    let Lookups { count, failed } = client.look_up_for(workload.time)?;
    let (after, upstream_after) = (counters(), system.asked_upstream());
    let each = |queries: u64| queries as f64 / count as f64;
    let past_kernel = match (before, after) {
        (Some(before), Some(after)) => each(before.resolved(&after)),
        // Nobody in the kernel.
        _ => QUERIES,
    };
    Ok(Cost {
        workload: workload.title,
        system: system.system.key,
        title: system.system.title,
        lookups: count,
        failed,
        coredns: each(upstream_after.0 - upstream.0),
        outside: each(upstream_after.1 - upstream.1),
        past_kernel,
        disturbance: Disturbance::default(),
        remarks: marks::of_loss(failed as f64 / count as f64 * 100.0)
            .into_iter()
            .collect(),
    })
}

/// A and AAAA.
const TYPES: [u16; 2] = [1, 28];
/// All queries of a look-up.
const QUERIES: f64 = 10.0;
const NXDOMAIN: u8 = 3;

struct Client<'a> {
    probe: Probe,
    workload: &'a Workload,
    next: u64,
}

struct Lookups {
    count: u64,
    failed: u64,
}

impl Client<'_> {
    /// Looks names up at the workload's rate. It starts none after its time, so that a client on a busy machine is slower
    /// and does not take longer.
    fn look_up_for(&mut self, time: Duration) -> Result<Lookups> {
        let gap = Duration::from_secs(1) / self.workload.rate;
        let (start, mut count, mut failed) = (Instant::now(), 0, 0);
        while start.elapsed() < time {
            failed += u64::from(!self.look_up()?);
            count += 1;
            thread::sleep((gap * count).saturating_sub(start.elapsed()));
        }
        let count = u64::from(count);
        Ok(Lookups { count, failed })
    }

    /// Whether all answers are right.
    fn look_up(&mut self) -> Result<bool> {
        let number = self.next;
        self.next += 1;
        let application = match self.workload.names {
            Some(names) => number % names,
            None => number + FIRST_NEW,
        };
        let tried = names::tried(application);
        let (last, missing) = tried.split_last().context("nothing is tried")?;
        let expected = missing.iter().map(|name| (name, NXDOMAIN));
        let mut right = true;
        for (name, rcode) in expected.chain([(last, 0)]) {
            for rtype in TYPES {
                let query = Query::new(name, rtype).to_bytes();
                right &= self.probe.rcode(&query)? == rcode;
            }
        }
        Ok(right)
    }
}

/// New names are no names of another workload.
const FIRST_NEW: u64 = 1_000_000;

/// A table for each workload: a heading, and a row a system.
pub(super) fn tables(costs: &[Cost]) -> Vec<Vec<Vec<String>>> {
    costs
        .chunk_by(|a, b| a.workload == b.workload)
        .map(|costs| {
            let workload = costs.first().map_or("", |cost| cost.workload);
            let heading = [workload, "CoreDNS", "outside", "past kernel"];
            let rows = costs.iter().map(|cost| {
                let numbers = [cost.coredns, cost.outside, cost.past_kernel];
                let cells = numbers.map(|number| format!("{number:.3}"));
                std::iter::once(cost.title.to_owned())
                    .chain(cells)
                    .collect()
            });
            std::iter::once(heading.map(str::to_owned).to_vec())
                .chain(rows)
                .collect()
        })
        .collect()
}
