//! All cached, as fast as it goes.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::{dnsperf, names};

pub(super) const LOAD: Load = Load {
    key: "flat_out",
    title: "all cached, flat out",
    method: "dnsperf over 1,000 names that were asked for just before; generator and server share the machine's cores; what a server's socket has no room for is lost once and keeps its place in dnsperf's window",
    once: false,
    needs: Needs::Nothing,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    let questions = context.system.lab.scope().dir().join("cached.txt");
    fs::write(&questions, names::cached_lines()).context("writing dnsperf's input")?;
    context.warm()?;
    let outcome = dnsperf::run(context.system, &questions, context.plan)?;
    let mut measured = Measured::default();
    measured.figure("flat_out.qps", outcome.qps);
    measured.lost("flat_out.lost_percent", outcome.lost_percent());
    Ok(measured)
}
