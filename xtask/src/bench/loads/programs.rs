//! How long the tc programs run for a query.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::bpf_stats::{self, Runs};
use crate::bench::{dnsperf, names, open_loop};

pub(super) const LOAD: Load = Load {
    key: "programs",
    title: "run time of the tc programs",
    method: "the fixed rate again, with the kernel's bpf_stats on, which itself costs some tens of ns a run: run time of all programs that the process holds, over the queries sent; then the same under dnsperf flat out; the stack's work before and after the programs is not in it",
    once: false,
    needs: Needs::Programs,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    let mut measured = Measured::default();
    let holder = context.system.programs.context("no tc program")?;
    let queries: Vec<_> = (0..names::CACHED)
        .map(|index| names::query(&names::cached(index)))
        .collect();
    context.warm()?;
    let Some(_enabled) = bpf_stats::Enabled::on() else {
        measured
            .remarks
            .push("the kernel has no bpf_stats".to_owned());
        return Ok(measured);
    };
    let (system, plan) = (context.system, context.plan);
    let before = Runs::of(holder);
    let outcome = open_loop::run(
        system.pod().netns(),
        system.server,
        &queries,
        plan.rate,
        plan.time,
    )?;
    let micros = |before, queries: u64| {
        let nanos = Runs::of(holder).since(before).nanos;
        nanos as f64 / 1e3 / queries.max(1) as f64
    };
    measured.figure("programs.run_time_us", micros(before, outcome.sent));
    measured.lost("programs.lost_percent", outcome.lost_percent());

    let questions = system.lab.scope().dir().join("cached.txt");
    fs::write(&questions, names::cached_lines()).context("writing dnsperf's input")?;
    context.warm()?;
    let before = Runs::of(holder);
    let outcome = dnsperf::run(system, &questions, plan)?;
    measured.figure("programs.flat_out_us", micros(before, outcome.sent));
    Ok(measured)
}
