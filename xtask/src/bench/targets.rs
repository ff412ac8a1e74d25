//! The figures that were promised, and what bounds them.

use serde::Serialize;

use super::figures::{CPU, CPU_PARTS};
use super::loads::memory::FEWEST_HELD_PERCENT;
use super::report::Report;
use super::search_list::Cost;
use super::standing_start::{self, StandingStart};
use super::systems::WITHOUT_CUTS;

/// A promise, and what came of it in this run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    pub(super) title: &'static str,
    /// `≥ 0.90`
    pub(super) wanted: String,
    pub(super) value: f64,
    pub(super) reached: bool,
    /// The limit beside it, by the same method in the same run.
    pub(super) beside: String,
}

enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

const KERNEL: &str = "dns-cache-kernel";
const USERSPACE: &str = "dns-cache-userspace";
const REFLECT: &str = "reflect";
const NODE_LOCAL: &str = "node-local-dns";
const KUBE_PROXY: &str = "coredns-kube-proxy";
const UNBOUND: &str = "unbound";

/// Those whose systems were measured.
pub(super) fn of(report: &Report) -> Vec<Target> {
    let of = Figures(report);
    [
        of.replies("kernel hit ÷ bouncing program, dnsperf", "flat_out.qps"),
        of.replies("kernel hit ÷ bouncing program, AF_XDP", "xdp.replies"),
        of.cpu("CPU per hit ÷ NodeLocalDNS", NODE_LOCAL, 1.0 / 60.0),
        of.cpu("CPU per hit ÷ Unbound", UNBOUND, 1.0 / 25.0),
        of.tail(
            "p99 at the fixed rate ÷ NodeLocalDNS",
            NODE_LOCAL,
            1.0 / 15.0,
        ),
        of.tail("p99 at the fixed rate ÷ Unbound", UNBOUND, 1.0 / 2.0),
        of.live(),
        of.userspace("userspace path ÷ Unbound", UNBOUND, 1.0),
        of.userspace("userspace path ÷ NodeLocalDNS", NODE_LOCAL, 2.5),
        of.userspace("userspace path ÷ CoreDNS by kube-proxy", KUBE_PROXY, 2.5),
        of.miss(),
        of.memory(),
        of.standing_start(),
    ]
    .into_iter()
    .chain(of.search_lists())
    .flatten()
    .collect()
}

struct Figures<'a>(&'a Report);

impl Figures<'_> {
    fn median(&self, system: &str, figure: &str) -> Option<f64> {
        self.0.median(system, figure)
    }

    fn replies(&self, title: &'static str, figure: &str) -> Option<Target> {
        let (own, limit) = (self.median(KERNEL, figure)?, self.median(REFLECT, figure)?);
        let beside = format!("{own:.0} and {limit:.0} a second");
        Some(target(title, own / limit, &Wanted::AtLeast(0.9), beside))
    }

    fn cpu(&self, title: &'static str, other: &str, most: f64) -> Option<Target> {
        let (own, server) = (self.median(KERNEL, CPU)?, self.median(other, CPU)?);
        let mut beside = format!("{own:.2} and {server:.2} µs");
        let parts = CPU_PARTS.map(|part| self.median(KERNEL, part));
        if let [Some(process), Some(programs)] = parts {
            beside += &format!(", of the own {process:.2} in the agent, {programs:.2} in tc");
        }
        if let Some(flat_out) = self.median(KERNEL, "programs.flat_out_us") {
            beside += &format!("; flat out, with warm caches, {flat_out:.2} µs in tc");
        }
        if let Some(limit) = self.median(REFLECT, CPU) {
            beside += &format!(
                "; the bouncing program takes {limit:.2} µs by the same method (the clock's cost, a start with cold caches), {:.4} of the server's",
                limit / server
            );
        }
        Some(target(title, own / server, &Wanted::AtMost(most), beside))
    }

    fn tail(&self, title: &'static str, other: &str, most: f64) -> Option<Target> {
        let of = |system| self.median(system, "fixed_rate.p99_us");
        let (own, other) = (of(KERNEL)?, of(other)?);
        let mut beside = format!("{own:.0} and {other:.0} µs");
        if let Some(limit) = of(REFLECT) {
            beside += &format!("; the bouncing program {limit:.0} µs");
        }
        Some(target(title, own / other, &Wanted::AtMost(most), beside))
    }

    fn live(&self) -> Option<Target> {
        let (first, last) = (self.0.live.first()?, self.0.live.last()?);
        let beside = format!(
            "{:.0} ns among {} entries, {:.0} ns among {}; one read that depends on the read before, of which a hit has two, takes {:.0} and {:.0} ns among as much memory",
            first.nanos.median,
            first.entries,
            last.nanos.median,
            last.entries,
            first.read.median,
            last.read.median
        );
        let ratio = last.nanos.median / first.nanos.median;
        let title = "a hit under load, most entries ÷ fewest";
        Some(target(title, ratio, &Wanted::AtMost(1.5), beside))
    }

    fn userspace(&self, title: &'static str, other: &str, least: f64) -> Option<Target> {
        let of = |system| self.median(system, "flat_out.qps");
        let (own, other) = (of(USERSPACE)?, of(other)?);
        let beside = format!("{own:.0} and {other:.0} a second");
        Some(target(title, own / other, &Wanted::AtLeast(least), beside))
    }

    fn miss(&self) -> Option<Target> {
        let of = |figure| self.median(KERNEL, figure);
        let (miss, tcp) = (of("misses.p50_us")?, of("misses.direct_tcp_p50_us")?);
        let udp = of("misses.direct_udp_p50_us")?;
        let mut beside = format!(
            "{miss:.0} µs; directly to the same CoreDNS {tcp:.0} µs by TCP, {udp:.0} µs by UDP"
        );
        if let Some(relay) = of("misses.direct_relay_p50_us") {
            beside += &format!(", {relay:.0} µs by a relay that does nothing else");
        }
        if let Some(placed) = of("misses.direct_placed_p50_us") {
            beside += &format!(", {placed:.0} µs by that relay in the agent's place");
        }
        if let Some(trip) = self.median(USERSPACE, "sequential.p50_us") {
            beside += &format!("; to the resolver and back, for what it knows, {trip:.0} µs");
        }
        let title = "a cold miss ÷ a direct query over open TCP";
        Some(target(title, miss / tcp, &Wanted::AtMost(1.1), beside))
    }

    fn memory(&self) -> Option<Target> {
        let of = |figure| self.median(KERNEL, figure);
        let (cost, held) = (of("memory.cost_mb")?, of("memory.held_percent")?);
        let (idle, full) = (of("memory.idle_rss_mib")?, of("memory.rss_mib")?);
        let maps = of("memory.maps_mib")?;
        let beside = format!(
            "RSS {idle:.1} MiB at 100 entries, {full:.1} MiB at 10,000 with what is resident of the maps; maps {maps:.1} MiB; {held:.0} % of the entries held"
        );
        let title = "10,000 entries all in (RSS and maps), MB";
        let mut target = target(title, cost, &Wanted::AtMost(20.0), beside);
        // Less than was to be held is no success.
        target.reached &= held >= FEWEST_HELD_PERCENT;
        Some(target)
    }

    /// Seconds, by the way that is the default.
    fn standing_start(&self) -> Option<Target> {
        let all = &self.0.standing_starts;
        let is_promised = |start: &&StandingStart| {
            start.attach == standing_start::DEFAULT && start.interfaces > 0
        };
        let own = all.iter().find(is_promised)?;
        let beside: Vec<_> = all.iter().map(StandingStart::beside).collect();
        let title = "pods attached from a standing start, 1,000 veth pairs, s";
        let seconds = own.millis.median / 1e3;
        Some(target(
            title,
            seconds,
            &Wanted::AtMost(1.0),
            beside.join("; "),
        ))
    }

    /// What the worst workload costs CoreDNS, and names in use all servers.
    fn search_lists(&self) -> [Option<Target>; 2] {
        let all = &self.0.search_lists;
        let of = |system| all.iter().filter(move |cost| cost.system == system);
        let judge = |title, own: &Cost, value: fn(&Cost) -> f64| {
            let mut without = of(WITHOUT_CUTS.key);
            let without = without.find(|cost| cost.workload == own.workload)?;
            let beside = format!(
                "{}: without cuts {:.2}, of ten queries",
                own.workload,
                value(without)
            );
            Some(target(title, value(own), &Wanted::AtMost(0.2), beside))
        };
        let worst = of(KERNEL).max_by(|a, b| a.coredns.total_cmp(&b.coredns));
        let in_use = of(KERNEL).next();
        let (coredns, servers) = (
            "a look-up by search list: queries to CoreDNS",
            "a look-up by search list: queries to all servers",
        );
        [
            worst.and_then(|cost| judge(coredns, cost, |cost| cost.coredns)),
            in_use.and_then(|cost| judge(servers, cost, |cost| cost.coredns + cost.outside)),
        ]
    }
}

fn target(title: &'static str, value: f64, wanted: &Wanted, beside: String) -> Target {
    let (sign, bound, reached) = match *wanted {
        Wanted::AtLeast(bound) => ('≥', bound, value >= bound),
        Wanted::AtMost(bound) => ('≤', bound, value <= bound),
    };
    Target {
        title,
        wanted: format!("{sign} {bound:.3}"),
        value,
        reached,
        beside,
    }
}

/// A table with its heading.
pub(super) fn table(targets: &[Target]) -> Vec<Vec<String>> {
    let heading = ["", "here", "wanted", "reached"].map(str::to_owned);
    let rows = targets.iter().map(|target| {
        vec![
            target.title.to_owned(),
            format!("{:.3}", target.value),
            target.wanted.clone(),
            if target.reached { "yes" } else { "NO" }.to_owned(),
        ]
    });
    std::iter::once(heading.to_vec()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_what_is_wanted() {
        let reached = |value, wanted| target("", value, &wanted, String::new()).reached;
        assert!(reached(0.9, Wanted::AtLeast(0.9)) && !reached(0.89, Wanted::AtLeast(0.9)));
        assert!(reached(1.5, Wanted::AtMost(1.5)) && !reached(1.51, Wanted::AtMost(1.5)));
    }
}
