//! Nineteen hits and a miss.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::{dnsperf, names};

pub(super) const LOAD: Load = Load {
    key: "mixed",
    title: "95 % hits, 5 % misses, flat out",
    method: "dnsperf as for all cached; each twentieth name is new",
    once: false,
    needs: Needs::Names,
    run,
};

/// Each name of this many is new.
const EVERY: usize = 20;
/// No system is expected to answer more than this, in the lab, through a pod's veth.
const MOST_QPS: f64 = 250_000.0;

fn run(context: &Context<'_>) -> Result<Measured> {
    let key = context.system.system.key;
    let earlier = context.earlier.iter().filter(|sample| sample.system == key);
    let hits_only = earlier
        .filter_map(|sample| sample.figures.get("flat_out.qps"))
        .next_back();
    // With misses it is slower; names shall not run out where it is not.
    let qps = hits_only.map_or(MOST_QPS, |qps| (qps * 1.5).min(MOST_QPS));
    let seconds = context.plan.time.as_secs_f64();
    let lines = ((qps * seconds) as usize).max(names::CACHED);
    let questions = context.system.lab.scope().dir().join("mixed.txt");
    fs::write(&questions, names::mixed_lines(lines, EVERY)).context("writing dnsperf's input")?;
    context.warm()?;
    let outcome = dnsperf::run(context.system, &questions, context.plan)?;
    fs::remove_file(&questions).context("removing dnsperf's input")?;

    let mut measured = Measured::default();
    measured.figure("mixed.qps", outcome.qps);
    measured.lost("mixed.lost_percent", outcome.lost_percent());
    if outcome.sent > lines as u64 {
        measured
            .remarks
            .push("the new names ran out: the last misses were hits".to_owned());
    }
    Ok(measured)
}
