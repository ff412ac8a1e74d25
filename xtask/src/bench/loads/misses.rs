//! Names that nobody has asked for: what the way over this system adds to a query to CoreDNS itself.

use std::time::Duration;

use anyhow::{Context as _, Result};

use dns_cache_tests::{Family, addresses};

use super::{Context, Load, Measured, Needs};
use crate::bench::probe::{Connection, Probe};
use crate::bench::relay::Relay;
use crate::bench::{names, statistics};

pub(super) const LOAD: Load = Load {
    key: "misses",
    title: "misses",
    method: "in turns: a new name over UDP from the system, a new name directly from the same CoreDNS over a TCP connection that stays open, one directly over UDP, and one over the least that can stand between: a thread in the node's namespace that hands a query on over an open TCP connection, and the answer back; all from the pod, one after the other",
    once: false,
    needs: Needs::Names,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    let (netns, coredns) = (context.system.pod().netns(), context.system.coredns()?);
    let mut direct = Connection::open(netns, coredns)?;
    let mut direct_udp = Probe::new(netns, coredns)?;
    let node = context.system.lab.node().netns();
    let relay = Relay::start(node, addresses::NODE.of(Family::V4), coredns)?;
    let mut relayed = Probe::new(netns, relay.address())?;
    let mut probe = context.probe()?;
    // Connections are made and names near the new ones are known.
    for _ in 0..10 {
        probe.insist(&names::query(&names::fresh()))?;
        direct.ask(&names::query(&names::fresh()))?;
        direct_udp.insist(&names::query(&names::fresh()))?;
        relayed.insist(&names::query(&names::fresh()))?;
    }
    let count = context.plan.misses;
    let (mut misses, mut tcp, mut udp, mut floor) = (vec![], vec![], vec![], vec![]);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    for _ in 0..count {
        misses.extend(probe.ask(&names::query(&names::fresh()))?.map(micros));
        tcp.push(micros(direct.ask(&names::query(&names::fresh()))?));
        udp.extend(direct_udp.ask(&names::query(&names::fresh()))?.map(micros));
        floor.extend(relayed.ask(&names::query(&names::fresh()))?.map(micros));
    }
    let mut measured = Measured::default();
    let lost = (count - misses.len()) as f64 / count as f64 * 100.0;
    measured.lost("misses.lost_percent", lost);
    let median = |times: &[f64]| statistics::median(times).context("no query was answered");
    let (miss, tcp) = (median(&misses)?, median(&tcp)?);
    measured.figure("misses.p50_us", miss);
    measured.figure("misses.direct_tcp_p50_us", tcp);
    measured.figure("misses.direct_udp_p50_us", median(&udp)?);
    measured.figure("misses.direct_relay_p50_us", median(&floor)?);
    measured.figure("misses.added_percent", (miss - tcp) / tcp * 100.0);
    Ok(measured)
}
