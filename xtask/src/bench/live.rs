//! What a hit costs among few and among many entries, under a real load.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dns_cache_tests::random::Random;
use serde::Serialize;

use super::bpf_stats::{self, Runs};
use super::figures::grouped;
use super::loads::memory;
use super::marks::{self, Disturbance, Taken};
use super::plan::Plan;
use super::statistics::Summary;
use super::systems::{self, Running, Setting};
use super::{chase, fill, names, open_loop};

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "a pod asks for names at random among all entries at the fixed rate; run time of the agent's tc programs (bpf_stats, whose own two looks at the clock are in it) over the queries that the kernel answered, by the agent's own count; an agent for each size, all filled by queries, measured in turns. A read: one whose place depends on the read before it, among 256 bytes for each entry; a hit has two such, the bucket and the entry";

/// How long the kernel's part of a cache may take to be filled.
const SETTLED: Duration = Duration::from_secs(5);

/// Hits among so many entries.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Live {
    pub(super) entries: u32,
    /// Nanoseconds of the tc programs a hit, over the rounds.
    pub(super) nanos: Summary,
    /// Nanoseconds of a read that depends on the one before, among as much memory, over the rounds.
    pub(super) read: Summary,
    /// Queries that the kernel answered, over all rounds.
    pub(super) hit_percent: f64,
    /// Queries without an answer, over all rounds.
    pub(super) lost_percent: f64,
    pub(super) rounds: Vec<Taken>,
}

/// Measures caches of these sizes.
pub(super) fn run(plan: &Plan, setting: &Setting) -> Result<Vec<Live>> {
    let sizes = plan.live_entries.iter().map(|entries| {
        println!("Hits under load: an agent with {entries} entries …");
        Size::fill(*entries, setting).with_context(|| format!("{entries} entries"))
    });
    let mut sizes = sizes.collect::<Result<Vec<_>>>()?;
    for round in 1..=plan.rounds {
        for size in &mut sizes {
            size.measure(plan, round)?;
        }
    }
    sizes.into_iter().map(Size::summary).collect()
}

struct Size {
    entries: u32,
    system: Running,
    random: Random,
    rounds: Vec<Taken>,
    reads: Vec<f64>,
    hits: u64,
    answered: u64,
    sent: u64,
}

impl Size {
    fn fill(entries: u32, setting: &Setting) -> Result<Self> {
        let system = systems::with_room(setting, entries)?;
        fill::fill(
            system.pod().netns(),
            system.server,
            entries as usize,
            names::entry,
            |percent| println!("  {percent} % of {entries}"),
        )?;
        settle(&system, entries)?;
        Ok(Self {
            entries,
            system,
            random: Random::new(0),
            rounds: Vec::new(),
            reads: Vec::new(),
            hits: 0,
            answered: 0,
            sent: 0,
        })
    }

    fn measure(&mut self, plan: &Plan, round: u32) -> Result<()> {
        let system = &self.system;
        let holder = system.programs.context("no tc program")?;
        let agent = system.agent().context("no agent")?;
        let count = (plan.time.as_secs_f64() * f64::from(plan.rate)) as usize;
        let queries: Vec<_> = (0..count)
            .map(|_| self.random.below(self.entries.into()) as usize)
            .map(|index| names::query(&names::entry(index)))
            .collect();
        let _enabled = bpf_stats::Enabled::on().context("the kernel has no bpf_stats")?;
        let (netns, counters, runs) = (system.pod().netns(), agent.counters(), Runs::of(holder));
        let (outcome, disturbance) = Disturbance::during(|| {
            open_loop::run(netns, system.server, &queries, plan.rate, plan.time)
        })?;
        let (runs, hits) = (
            Runs::of(holder).since(runs),
            counters.answered(&agent.counters()),
        );
        self.hits += hits;
        self.answered += outcome.times.len() as u64;
        self.sent += outcome.sent;
        let nanos = per_hit(runs, hits).context("the kernel answered nothing")?;
        let taken = Taken::new(round, nanos, disturbance).lost(outcome.lost_percent());
        println!(
            "  round {round} of {}, {} entries: {nanos:.0} ns{}",
            plan.rounds,
            self.entries,
            taken.marks()
        );
        self.rounds.push(taken);
        self.reads
            .push(chase::dependent_read(self.entries, &mut self.random));
        Ok(())
    }

    fn summary(self) -> Result<Live> {
        let percent = |queries: u64| queries as f64 / self.sent.max(1) as f64 * 100.0;
        Ok(Live {
            entries: self.entries,
            nanos: marks::summary(&self.rounds).context("no round")?,
            read: Summary::of(&self.reads).context("no round")?,
            hit_percent: percent(self.hits),
            lost_percent: percent(self.sent.saturating_sub(self.answered)),
            rounds: self.rounds,
        })
    }
}

/// Waits until what is put into the kernel after its answer is there. What is still not there then, the hits tell.
fn settle(system: &Running, entries: u32) -> Result<()> {
    let end = Instant::now() + SETTLED;
    while memory::counted(system)?.unwrap_or(0) < u64::from(entries) && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What a hit costs. Over the queries sent, those that are lost before the programs see them would make it cheap; and
/// the number of runs is no number of hits, for a miss has two. What misses take is in it: with few of them, little.
fn per_hit(runs: Runs, hits: u64) -> Option<f64> {
    (hits > 0).then(|| runs.nanos as f64 / hits as f64)
}

/// A table: a heading, and a row a size, with what test runs say beside it.
pub(super) fn table(live: &[Live], test_runs: &[(u32, u64)]) -> Vec<Vec<String>> {
    let heading = [
        "entries",
        "live, ns",
        "range",
        "ratio",
        "hits, %",
        "a read, ns",
        "test run, ns",
        "ratio",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let first = live.first().map_or(1.0, |first| first.nanos.median);
    let test_run = |entries: u32| test_runs.iter().find(|(size, _)| *size == entries);
    let first_run = live.first().and_then(|first| test_run(first.entries));
    for size in live {
        let median = size.nanos.median;
        let mut row = vec![
            grouped(&size.entries.to_string()),
            format!("{median:.0}{}", marks::star(&size.rounds)),
            size.nanos.range(),
            format!("{:.2}", median / first),
            format!("{:.2}", size.hit_percent),
            format!("{:.0}", size.read.median),
        ];
        if let (Some((_, nanos)), Some((_, first))) = (test_run(size.entries), first_run) {
            let ratio = *nanos as f64 / (*first).max(1) as f64;
            row.extend([nanos.to_string(), format!("{ratio:.2}")]);
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_queries_do_not_make_a_hit_cheap() {
        // A hundred queries, of which the programs saw 80: 70 hits, and ten misses with two runs each.
        let runs = Runs {
            nanos: 7000,
            count: 90,
        };
        assert_eq!(per_hit(runs, 70), Some(100.0));
        assert_eq!(per_hit(runs, 0), None);
    }
}
