//! What a hit costs among few and among many entries, under a real load.

use anyhow::{Context, Result};
use dns_cache_tests::random::Random;
use serde::Serialize;

use super::bpf_stats::{self, Runs};
use super::plan::Plan;
use super::statistics::Summary;
use super::systems::{self, Running, Setting};
use super::{fill, names, open_loop};

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "a pod asks for names at random among all entries at the fixed rate; run time of the agent's tc programs (bpf_stats, whose own two looks at the clock are in it) over the queries; an agent for each size, all filled by queries, measured in turns";

/// Hits among so many entries.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Live {
    pub(super) entries: u32,
    /// Nanoseconds of the tc programs a query, over the rounds.
    pub(super) nanos: Summary,
    /// Queries that the kernel answered, over all rounds.
    pub(super) hit_percent: f64,
}

/// Measures caches of these sizes.
pub(super) fn run(plan: &Plan, setting: &Setting) -> Result<Vec<Live>> {
    let sizes = plan.live_entries.iter().map(|entries| {
        println!("Hits under load: an agent with {entries} entries …");
        Size::fill(*entries, setting).with_context(|| format!("{entries} entries"))
    });
    let mut sizes = sizes.collect::<Result<Vec<_>>>()?;
    for _ in 0..plan.rounds {
        for size in &mut sizes {
            size.measure(plan)?;
        }
    }
    sizes.into_iter().map(Size::summary).collect()
}

struct Size {
    entries: u32,
    system: Running,
    random: Random,
    nanos: Vec<f64>,
    misses: u64,
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
        Ok(Self {
            entries,
            system,
            random: Random::new(0),
            nanos: Vec::new(),
            misses: 0,
            sent: 0,
        })
    }

    fn measure(&mut self, plan: &Plan) -> Result<()> {
        let system = &self.system;
        let holder = system.programs.context("no tc program")?;
        let count = (plan.time.as_secs_f64() * f64::from(plan.rate)) as usize;
        let queries: Vec<_> = (0..count)
            .map(|_| self.random.below(self.entries.into()) as usize)
            .map(|index| names::query(&names::entry(index)))
            .collect();
        let _enabled = bpf_stats::Enabled::on().context("the kernel has no bpf_stats")?;
        let (netns, before) = (system.pod().netns(), Runs::of(holder));
        let outcome = open_loop::run(netns, system.server, &queries, plan.rate, plan.time)?;
        let runs = Runs::of(holder).since(before);
        // A hit is one run; a miss two, with that of the resolver's reply.
        self.misses += runs.count.saturating_sub(outcome.sent);
        self.sent += outcome.sent;
        self.nanos.push(runs.nanos as f64 / outcome.sent as f64);
        Ok(())
    }

    fn summary(self) -> Result<Live> {
        let hit_percent = 100.0 - self.misses as f64 / self.sent as f64 * 100.0;
        Ok(Live {
            entries: self.entries,
            nanos: Summary::of(&self.nanos).context("no round")?,
            hit_percent,
        })
    }
}

/// A table: a heading, and a row a size, with what test runs say beside it.
pub(super) fn table(live: &[Live], test_runs: &[(u32, u64)]) -> Vec<Vec<String>> {
    let heading = [
        "entries",
        "live, ns",
        "range",
        "ratio",
        "hits, %",
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
            size.entries.to_string(),
            format!("{median:.0}"),
            size.nanos.range(),
            format!("{:.2}", median / first),
            format!("{:.2}", size.hit_percent),
        ];
        if let (Some((_, nanos)), Some((_, first))) = (test_run(size.entries), first_run) {
            let ratio = *nanos as f64 / (*first).max(1) as f64;
            row.extend([nanos.to_string(), format!("{ratio:.2}")]);
        }
        rows.push(row);
    }
    rows
}
