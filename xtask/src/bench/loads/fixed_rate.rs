//! All cached, a fixed rate: latency and CPU time.

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::cpu::Meter;
use crate::bench::statistics::quantile;
use crate::bench::{names, open_loop};

pub(super) const LOAD: Load = Load {
    key: "fixed_rate",
    title: "all cached, fixed rate",
    method: "own client (dnsperf 2.10 has no histogram): 20 sockets, open loop, each query timed from its send to the return of its recv; server CPU is the time that the threads of its processes ran (/proc/PID/task/*/schedstat)",
    once: false,
    needs: Needs::Nothing,
    run,
};

/// The client could not keep the rate up: the round is marked.
const MARKED_RATE: f64 = 0.99;
/// The shares of answers that a distribution is drawn from, in percent.
const SHARES: [f64; 22] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 85.0, 90.0, 93.0, 95.0, 97.0, 98.0,
    99.0, 99.5, 99.7, 99.9, 99.95, 99.99,
];

fn run(context: &Context<'_>) -> Result<Measured> {
    let (system, rate) = (context.system, context.plan.rate);
    let queries: Vec<_> = (0..names::CACHED)
        .map(|index| names::query(&names::cached(index)))
        .collect();
    context.warm()?;
    let meter = Meter::start(&system.processes)?;
    let netns = system.pod().netns();
    let outcome = open_loop::run(netns, system.server, &queries, rate, context.plan.time)?;
    let used = meter.stop()?;

    let mut measured = Measured::default();
    measured.lost("fixed_rate.lost_percent", outcome.lost_percent());
    if outcome.rate < MARKED_RATE * f64::from(rate) {
        let rate = outcome.rate;
        measured.remarks.push(format!("only {rate:.0} qps sent"));
    }
    if outcome.failures > 0 {
        let failures = outcome.failures;
        measured.remarks.push(format!("{failures} error replies"));
    }
    let micros = |share: f64| {
        quantile(&outcome.times, share / 100.0)
            .map(|nanos| f64::from(nanos) / 1e3)
            .context("no query was answered")
    };
    measured.figure("fixed_rate.p50_us", micros(50.0)?);
    measured.figure("fixed_rate.p99_us", micros(99.0)?);
    measured.figure("fixed_rate.p999_us", micros(99.9)?);
    for share in SHARES {
        measured.latencies.push((share, micros(share)?));
    }
    if !system.processes.is_empty() {
        let per_query = used.processes * 1e6 / outcome.sent as f64;
        measured.figure("fixed_rate.server_cpu_us", per_query);
    }
    Ok(measured)
}
