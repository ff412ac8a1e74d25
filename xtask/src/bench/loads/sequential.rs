//! One client, one question after the other.

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::{names, statistics};

pub(super) const LOAD: Load = Load {
    key: "sequential",
    title: "round trip, one after the other",
    method: "own client, one socket, the next query after the answer to the last",
    once: false,
    needs: Needs::Nothing,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    context.warm()?;
    let mut probe = context.probe()?;
    let queries: Vec<_> = (0..names::CACHED)
        .map(|index| names::query(&names::cached(index)))
        .collect();
    let count = context.plan.queries;
    let mut times = Vec::with_capacity(count);
    for query in queries.iter().cycle().take(count) {
        times.extend(probe.ask(query)?.map(|time| time.as_secs_f64() * 1e6));
    }
    let mut measured = Measured::default();
    let lost = (count - times.len()) as f64 / count as f64 * 100.0;
    measured.lost("sequential.lost_percent", lost);
    let median = statistics::median(&times).context("no query was answered")?;
    measured.figure("sequential.p50_us", median);
    Ok(measured)
}
