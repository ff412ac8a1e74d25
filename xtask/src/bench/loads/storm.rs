//! A search-list storm: pods look up services by a name that the search list of their resolv.conf is tried on.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::{dnsperf, names};

pub(super) const LOAD: Load = Load {
    key: "storm",
    title: "search-list storm, flat out",
    method: "dnsperf; 250 services by their full names, which have fewer than five dots, as a libc asks for them: with each of the three suffixes of a pod's search list (NXDOMAIN) and then alone, A and AAAA each; the caches do not know the negative answers at first",
    once: false,
    needs: Needs::Names,
    run,
};

/// How many services are looked up.
const SERVICES: usize = 250;

fn run(context: &Context<'_>) -> Result<Measured> {
    let questions = context.system.lab.scope().dir().join("storm.txt");
    fs::write(&questions, names::storm_lines(SERVICES)).context("writing dnsperf's input")?;
    let outcome = dnsperf::run(context.system, &questions, context.plan)?;
    let mut measured = Measured::default();
    measured.figure("storm.qps", outcome.qps);
    measured.lost("storm.lost_percent", outcome.lost_percent());
    Ok(measured)
}
