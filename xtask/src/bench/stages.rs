//! What the stages of a hit in the kernel take under a load.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::{Lab, Process, Upstream};
use serde::Serialize;

use super::bpf_stats::{self, Runs};
use super::marks::{self, Disturbance, Taken};
use super::micro::Stage;
use super::plan::Plan;
use super::probe::Probe;
use super::statistics::Summary;
use super::systems::{self, Setting};
use super::{names, open_loop};

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "the fixed rate, towards a program that goes through a hit up to the stage and then bounces the query; run time of the program (bpf_stats) over its runs; in turns. What is above a test run's, which repeats one query, is the wait for code and data that went out of the caches since the last query";

/// The program that bounces, and nothing else.
const NOTHING: &str = "bounce";

/// How long the program may take to be attached, and its cache to be filled.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stage, with all that comes before it, and the bouncing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LiveStage {
    pub(super) name: String,
    /// Nanoseconds a query, over the rounds.
    pub(super) nanos: Summary,
    /// Queries without an answer in the worst round.
    pub(super) lost_percent: f64,
    pub(super) rounds: Vec<Taken>,
}

/// Measures the stages of the test runs.
pub(super) fn run(plan: &Plan, setting: &Setting, stages: &[Stage]) -> Result<Vec<LiveStage>> {
    println!("Stages under load …");
    let lab = Lab::builder()
        .pods(1)
        .replicas(0)
        .upstream(Upstream::Embedded)
        .start();
    let names = [NOTHING].into_iter();
    let names: Vec<_> = names
        .chain(stages.iter().map(|stage| &stage.name[..]))
        .collect();
    let mut all: Vec<_> = names.iter().map(|name| (name, 0.0, Vec::new())).collect();
    for round in 1..=plan.rounds {
        for (name, most_lost, rounds) in &mut all {
            let measured = measure(plan, setting, &lab, name, round);
            let (taken, lost) = measured.with_context(|| format!("stage {name}"))?;
            println!(
                "  round {round} of {}, {name}: {:.0} ns{}",
                plan.rounds,
                taken.value,
                taken.marks()
            );
            *most_lost = lost.max(*most_lost);
            rounds.push(taken);
        }
    }
    let stages = all.into_iter().map(|(name, lost_percent, rounds)| {
        Ok(LiveStage {
            name: (*name).to_owned(),
            nanos: marks::summary(&rounds).context("no round")?,
            lost_percent,
            rounds,
        })
    });
    stages.collect()
}

/// Nanoseconds a query, and the queries without an answer, in percent.
fn measure(
    plan: &Plan,
    setting: &Setting,
    lab: &Lab,
    stage: &str,
    round: u32,
) -> Result<(Taken, f64)> {
    let pod = lab.pod(0);
    let entries = names::CACHED.to_string();
    let mut args = vec!["reflect", "--interface", pod.veth(), "--entries", &entries];
    if stage != NOTHING {
        args.extend(["--after", stage]);
    }
    // Its log is its own.
    let what = format!("reflect-{stage}-{round}");
    let process = Process::start(lab.node().netns(), &what, &setting.agent, args);
    let end = Instant::now() + PATIENCE;
    while !process.log().contains("reflecting") {
        if Instant::now() > end {
            bail!("the program is not attached: {}", process.log());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let queries: Vec<_> = (0..names::CACHED)
        .map(|index| names::query(&names::of_stages(index)))
        .collect();
    let server = systems::cluster_ip();
    // A query may pass the interface before the program sees it, and is refused then.
    while let Err(error) = Probe::new(pod.netns(), server)?.insist(&queries[0]) {
        if Instant::now() > end {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _enabled = bpf_stats::Enabled::on().context("the kernel has no bpf_stats")?;
    let before = Runs::of(process.pid());
    let (outcome, disturbance) = Disturbance::during(|| {
        open_loop::run(pod.netns(), server, &queries, plan.rate, plan.time)
    })?;
    let runs = Runs::of(process.pid()).since(before);
    let nanos = runs.nanos as f64 / runs.count.max(1) as f64;
    let lost = outcome.lost_percent();
    Ok((Taken::new(round, nanos, disturbance).lost(lost), lost))
}

/// A table: a heading, and a row a stage, with what test runs say beside it.
pub(super) fn table(live: &[LiveStage], test_runs: &[Stage]) -> Vec<Vec<String>> {
    let heading = [
        "up to",
        "live, ns",
        "range",
        "added",
        "test run, ns",
        "added",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let (mut last, mut last_run) = (0.0, 0);
    for stage in live {
        let median = stage.nanos.median;
        let mut row = vec![
            stage.name.clone(),
            format!("{median:.0}{}", marks::star(&stage.rounds)),
            stage.nanos.range(),
            format!("{:+.0}", median - last),
        ];
        last = median;
        if let Some(run) = test_runs.iter().find(|run| run.name == stage.name) {
            row.push(run.nanos.to_string());
            row.push(format!("{:+}", run.nanos.cast_signed() - last_run));
            last_run = run.nanos.cast_signed();
        } else {
            row.extend(["–", "–"].map(str::to_owned));
        }
        rows.push(row);
    }
    rows
}
