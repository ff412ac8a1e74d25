//! `dns-cache top`

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::ask::Ask;
use super::table::Table;
use super::units::milliseconds;
use crate::control::Status;

/// Moves the cursor home and clears the screen (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Watch the agent: queries a second, hit ratio, the busiest pods and servers
///
/// Ends at Ctrl-C. A pod's queries are those that came by UDP, as the kernel counts them for its interface.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache top
  dns-cache top --interval 10 --rows 20
  dns-cache top --count 1 --output json | jq .hit_ratio")]
pub(super) struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,

    /// Show this many pods and servers
    #[arg(long, value_name = "NUMBER", default_value = "10")]
    rows: usize,

    /// End after so many looks
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,

    #[command(flatten)]
    agent: Ask,
}

/// What happened between two looks; all rates are a second's.
#[derive(Debug, PartialEq, Serialize)]
struct Frame {
    kernel_qps: f64,
    userspace_qps: f64,
    /// Packets that took the ordinary path.
    ordinary_pps: f64,
    /// The share of queries answered from a cache, the kernel's or the agent's; none without queries.
    hit_ratio: Option<f64>,
    cache_entries: u64,
    /// The busiest first.
    pods: Vec<Pod>,
    /// The busiest first.
    upstreams: Vec<Upstream>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Pod {
    interface: String,
    qps: f64,
    /// Of them, the share that the kernel answered.
    kernel_ratio: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Upstream {
    zone: String,
    address: String,
    qps: f64,
    failures_per_second: f64,
    rtt_micros: Option<u64>,
}

impl Top {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let clear = io::stdout().is_terminal();
        let (mut before, mut at) = (self.agent.status()?, Instant::now());
        let mut looks = 0;
        while self.count.is_none_or(|count| looks < count) {
            sleep(Duration::from_secs(self.interval));
            let (now, seconds) = (self.agent.status()?, at.elapsed().as_secs_f64());
            at = Instant::now();
            let frame = Frame::between(&before, &now, seconds, self.rows);
            self.agent.print(&frame, |frame| {
                format!("{}{}", if clear { CLEAR } else { "" }, text(frame))
            })?;
            before = now;
            looks += 1;
        }
        Ok(())
    }
}

impl Frame {
    fn between(before: &Status, now: &Status, seconds: f64, rows: usize) -> Self {
        // An agent that was started anew counts from zero.
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let counted = |part: fn(&Status) -> &BTreeMap<String, u64>, prefix: &str| {
            let sum = |status| -> u64 {
                let counters = part(status).iter();
                let meant = counters.filter(|(name, _)| name.starts_with(prefix));
                meant.map(|(_, count)| count).sum()
            };
            rate(sum(before), sum(now))
        };
        let kernel = |prefix| counted(|status| &status.datapath.counters, prefix);
        let resolver = |prefix| counted(|status| &status.resolver.counters, prefix);
        let (kernel_qps, hits) = (kernel("cache_hits_"), resolver("hits"));
        let userspace_qps = hits + resolver("misses") + resolver("refused");
        let all = kernel_qps + userspace_qps;

        let known = &before.datapath.interfaces;
        let mut pods: Vec<_> = now
            .datapath
            .interfaces
            .iter()
            .map(|pod| {
                let old = known.iter().find(|old| old.ifindex == pod.ifindex);
                let all = pod.hits + pod.misses + pod.bypasses;
                let qps = rate(
                    old.map_or(0, |old| old.hits + old.misses + old.bypasses),
                    all,
                );
                let hits = rate(old.map_or(0, |old| old.hits), pod.hits);
                Pod {
                    interface: pod.name.clone(),
                    qps,
                    kernel_ratio: if qps > 0.0 { hits / qps } else { 0.0 },
                }
            })
            .collect();
        pods.sort_by(|a, b| b.qps.total_cmp(&a.qps));
        pods.truncate(rows);

        let known = &before.resolver.upstreams;
        let mut upstreams: Vec<_> = now
            .resolver
            .upstreams
            .iter()
            .map(|server| {
                let old = known
                    .iter()
                    .find(|old| old.zone == server.zone && old.address == server.address);
                let (queries, failures) = old.map_or((0, 0), |old| (old.queries, old.failures));
                Upstream {
                    zone: server.zone.clone(),
                    address: server.address.to_string(),
                    qps: rate(queries, server.queries),
                    failures_per_second: rate(failures, server.failures),
                    rtt_micros: server.rtt_micros,
                }
            })
            .collect();
        upstreams.sort_by(|a, b| b.qps.total_cmp(&a.qps));
        upstreams.truncate(rows);

        Self {
            kernel_qps,
            userspace_qps,
            ordinary_pps: kernel("ordinary_"),
            hit_ratio: (all > 0.0).then(|| (kernel_qps + hits) / all),
            cache_entries: now.resolver.cache_entries,
            pods,
            upstreams,
        }
    }
}

fn text(frame: &Frame) -> String {
    let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
    let Frame {
        kernel_qps,
        userspace_qps,
        ordinary_pps,
        ..
    } = frame;
    let mut text = format!(
        "queries/s  {:.0}: {kernel_qps:.0} in the kernel, {userspace_qps:.0} in userspace; {ordinary_pps:.0} packets/s the ordinary way\n\
         hits       {}\ncached     {} answers\n",
        kernel_qps + userspace_qps,
        frame.hit_ratio.map_or_else(|| "-".to_owned(), percent),
        frame.cache_entries,
    );
    let mut pods = Table::new(&["POD INTERFACE", ">QUERIES/S", ">IN KERNEL"]);
    for pod in &frame.pods {
        let qps = format!("{:.0}", pod.qps);
        pods.row(vec![pod.interface.clone(), qps, percent(pod.kernel_ratio)]);
    }
    let mut upstreams = Table::new(&["ZONE", "SERVER", ">QUERIES/S", ">FAILURES/S", ">ROUND TRIP"]);
    for server in &frame.upstreams {
        let rtt = server
            .rtt_micros
            .map_or_else(|| "-".to_owned(), milliseconds);
        upstreams.row(vec![
            server.zone.clone(),
            server.address.clone(),
            format!("{:.1}", server.qps),
            format!("{:.1}", server.failures_per_second),
            rtt,
        ]);
    }
    for table in [pods.render(), upstreams.render()] {
        if !table.is_empty() {
            text.push_str(&format!("\n{table}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::status;

    #[test]
    fn rates_are_differences_over_time() {
        let before = status();
        let mut now = status();
        let mut count = |name: &str, value| {
            now.datapath.counters.insert(name.to_owned(), value);
        };
        count("cache_hits_noerror", 150);
        count("cache_hits_nxdomain", 50);
        count("ordinary_source", 2);
        now.resolver.counters.insert("hits".to_owned(), 1_090);
        now.resolver.counters.insert("misses".to_owned(), 22);
        now.datapath.interfaces[1].hits = 30;
        now.datapath.interfaces[1].misses = 10;
        now.resolver.upstreams[0].queries += 10;
        let frame = Frame::between(&before, &now, 2.0, 1);
        assert_eq!((frame.kernel_qps, frame.userspace_qps), (100.0, 50.0));
        assert_eq!(
            (frame.ordinary_pps, frame.hit_ratio),
            (1.0, Some(145.0 / 150.0))
        );
        let expected = "\
queries/s  150: 100 in the kernel, 50 in userspace; 1 packets/s the ordinary way
hits       96.7 %
cached     12 answers

POD INTERFACE    QUERIES/S  IN KERNEL
veth0123456789a         20     75.0 %

ZONE           SERVER        QUERIES/S  FAILURES/S  ROUND TRIP
cluster.local  [fd00::2]:53        5.0         0.0     1.23 ms
";
        assert_eq!(text(&frame), expected);
        // Another agent, or no queries at all.
        let frame = Frame::between(&now, &before, 2.0, 1);
        assert_eq!((frame.kernel_qps, frame.hit_ratio), (0.0, None));
    }
}
