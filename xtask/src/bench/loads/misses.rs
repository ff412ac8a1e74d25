//! Names that nobody has asked for: what the way over this system adds to a query to CoreDNS itself.

use anyhow::{Context as _, Result};
use dns_cache_tests::Family;

use super::{Context, Load, Measured, Needs};
use crate::bench::probe::Connection;
use crate::bench::{names, statistics};

pub(super) const LOAD: Load = Load {
    key: "misses",
    title: "misses",
    method: "in turns: a new name over UDP from the system, and a new name directly from the same CoreDNS over a TCP connection that stays open, both from the pod, one after the other",
    once: false,
    needs: Needs::Names,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    let lab = &context.system.lab;
    let replica = lab.dns().replicas().first().context("no CoreDNS")?;
    let coredns = replica.pod().addresses().dns(Family::V4);
    let mut direct = Connection::open(lab.pod(0).netns(), coredns)?;
    let mut probe = context.probe()?;
    // Connections are made and names near the new ones are known.
    for _ in 0..10 {
        probe.insist(&names::query(&names::fresh()))?;
        direct.ask(&names::query(&names::fresh()))?;
    }
    let count = context.plan.misses;
    let (mut misses, mut directs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let miss = probe.ask(&names::query(&names::fresh()))?;
        misses.extend(miss.map(|time| time.as_secs_f64() * 1e6));
        let time = direct.ask(&names::query(&names::fresh()))?;
        directs.push(time.as_secs_f64() * 1e6);
    }
    let mut measured = Measured::default();
    let lost = (count - misses.len()) as f64 / count as f64 * 100.0;
    measured.lost("misses.lost_percent", lost);
    let miss = statistics::median(&misses).context("no query was answered")?;
    let direct = statistics::median(&directs).context("no query was answered")?;
    measured.figure("misses.p50_us", miss);
    measured.figure("misses.direct_p50_us", direct);
    measured.figure("misses.added_us", miss - direct);
    measured.figure("misses.added_percent", (miss - direct) / direct * 100.0);
    Ok(measured)
}
