//! How long the tc programs run for a query.

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::bpf_stats::{self, Runs};
use crate::bench::{names, open_loop};

pub(super) const LOAD: Load = Load {
    key: "programs",
    title: "run time of the tc programs",
    method: "the fixed rate again, with the kernel's bpf_stats on, which itself costs some tens of ns a run: run time of all programs that the process holds, over the queries sent; the stack's work before and after the programs is not in it",
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
    let before = Runs::of(holder);
    let netns = context.system.pod().netns();
    let (server, plan) = (context.system.server, context.plan);
    let outcome = open_loop::run(netns, server, &queries, plan.rate, plan.time)?;
    let nanos = Runs::of(holder).since(before).nanos;
    measured.lost("programs.lost_percent", outcome.lost_percent());
    measured.figure(
        "programs.run_time_us",
        nanos as f64 / 1e3 / outcome.sent as f64,
    );
    Ok(measured)
}
