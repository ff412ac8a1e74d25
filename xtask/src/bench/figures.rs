//! The figures: their names, units, and which way is better.

use serde::Serialize;

/// A figure of a load.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figure {
    /// `load.figure`, as in bench.json.
    pub(super) key: &'static str,
    /// A table's column.
    pub(super) short: &'static str,
    /// In a sentence.
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) digits: usize,
    /// Whether the ratio of two systems' figures says something.
    pub(super) compared: bool,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    Higher,
    Lower,
}

const fn higher(
    key: &'static str,
    short: &'static str,
    title: &'static str,
    unit: &'static str,
) -> Figure {
    Figure {
        key,
        short,
        title,
        unit,
        better: Better::Higher,
        digits: 0,
        compared: true,
    }
}

const fn lower(
    key: &'static str,
    short: &'static str,
    title: &'static str,
    unit: &'static str,
    digits: usize,
) -> Figure {
    Figure {
        key,
        short,
        title,
        unit,
        better: Better::Lower,
        digits,
        compared: true,
    }
}

/// One that explains another: it is in no plot and has no ratios.
const fn beside(figure: Figure) -> Figure {
    Figure {
        compared: false,
        ..figure
    }
}

/// The sum of its parts, [`CPU_PARTS`], round by round: no load has it.
pub(super) const CPU: &str = "fixed_rate.cpu_us";
/// The server's processes, and the tc programs, which are measured after each other: `bpf_stats` would be in the first.
pub(super) const CPU_PARTS: [&str; 2] = ["fixed_rate.server_cpu_us", "programs.run_time_us"];

/// All of them, in the order of a table's columns.
pub(super) const ALL: [Figure; 26] = [
    higher("flat_out.qps", "qps", "all cached, flat out", "queries/s"),
    higher(
        "xdp.replies",
        "AF_XDP",
        "all cached, replies to an AF_XDP generator",
        "replies/s",
    ),
    higher(
        "mixed.qps",
        "mixed qps",
        "95 % hits, 5 % misses",
        "queries/s",
    ),
    higher(
        "storm.qps",
        "storm qps",
        "a search-list storm, 3 of 4 answers NXDOMAIN",
        "queries/s",
    ),
    lower(
        "fixed_rate.p50_us",
        "p50",
        "median latency at the fixed rate",
        "µs",
        0,
    ),
    lower(
        "fixed_rate.p99_us",
        "p99",
        "99th percentile at the fixed rate",
        "µs",
        0,
    ),
    lower(
        "fixed_rate.p999_us",
        "p99.9",
        "99.9th percentile at the fixed rate",
        "µs",
        0,
    ),
    lower(
        CPU,
        "CPU",
        "CPU time per query at the fixed rate: the server's processes and the tc programs",
        "µs",
        2,
    ),
    beside(lower(
        CPU_PARTS[0],
        "processes",
        "of it: the server's processes",
        "µs",
        2,
    )),
    beside(lower(
        CPU_PARTS[1],
        "tc",
        "of it: run time of the tc programs (bpf_stats)",
        "µs",
        2,
    )),
    beside(lower(
        "programs.flat_out_us",
        "tc flat out",
        "beside it: the tc programs per query flat out, where code and data stay in the CPU's caches",
        "µs",
        2,
    )),
    lower(
        "sequential.p50_us",
        "trip",
        "round trip, one query after the other, median",
        "µs",
        1,
    ),
    lower("misses.p50_us", "miss", "a miss, median", "µs", 0),
    beside(lower(
        "misses.added_percent",
        "added",
        "a miss, added to a direct query over TCP",
        "%",
        0,
    )),
    beside(lower(
        "misses.cpu_us",
        "CPU a miss",
        "beside it: CPU time of the system's threads a miss",
        "µs",
        1,
    )),
    beside(lower(
        "misses.wait_us",
        "wait a miss",
        "beside it: their wait for a CPU a miss",
        "µs",
        1,
    )),
    beside(lower(
        "misses.sleeps",
        "sleeps",
        "beside it: how often one of them went to sleep a miss",
        "times",
        2,
    )),
    beside(lower(
        "misses.direct_placed_p50_us",
        "placed relay",
        "beside it: by a relay in the agent's place, through the tc programs",
        "µs",
        0,
    )),
    beside(lower(
        "misses.direct_relay_p50_us",
        "relay",
        "beside it: to the same CoreDNS by a relay over open TCP that does nothing else",
        "µs",
        0,
    )),
    beside(lower(
        "misses.direct_tcp_p50_us",
        "TCP",
        "beside it: directly to the same CoreDNS over open TCP",
        "µs",
        0,
    )),
    beside(lower(
        "misses.direct_udp_p50_us",
        "UDP",
        "beside it: directly to the same CoreDNS over UDP",
        "µs",
        0,
    )),
    lower(
        "memory.cost_mb",
        "cost",
        "what 10,000 entries cost all in: growth of the RSS without maps, and the maps",
        "MB",
        1,
    ),
    lower(
        "memory.rss_mib",
        "RSS",
        "resident memory at 10,000 entries",
        "MiB",
        0,
    ),
    beside(lower(
        "memory.idle_rss_mib",
        "idle RSS",
        "beside it: resident memory before, at 100 entries",
        "MiB",
        0,
    )),
    beside(lower(
        "memory.maps_mib",
        "maps",
        "beside it: memory of the eBPF maps",
        "MiB",
        1,
    )),
    beside(higher(
        "memory.held_percent",
        "held",
        "beside it: entries that are held",
        "%",
    )),
];

/// The figure with this key.
#[cfg(test)]
fn find(key: &str) -> Option<&'static Figure> {
    ALL.iter().find(|figure| figure.key == key)
}

impl Figure {
    /// The loads that it comes from.
    pub(super) fn loads(&self) -> Vec<&'static str> {
        let keys: &[&'static str] = if self.key == CPU {
            &CPU_PARTS
        } else {
            &[self.key]
        };
        let loads = keys.iter().filter_map(|key| key.split_once('.'));
        loads.map(|(load, _)| load).collect()
    }

    /// A value as people read it, without the unit.
    pub(super) fn show(&self, value: f64) -> String {
        let text = format!("{value:.*}", self.digits);
        if self.digits > 0 {
            return text;
        }
        grouped(&text)
    }
}

/// `1234567` → `1,234,567`
pub(super) fn grouped(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let qps = find("flat_out.qps").unwrap();
        assert_eq!(qps.show(1_234_567.4), "1,234,567");
        assert_eq!(qps.show(-123_456.0), "-123,456");
        assert_eq!(qps.show(999.0), "999");
        assert_eq!(find("sequential.p50_us").unwrap().show(1234.56), "1234.6");
    }

    #[test]
    fn keys_are_unique_and_begin_with_a_load() {
        let mut keys: Vec<_> = ALL.iter().map(|figure| figure.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ALL.len());
        for key in keys {
            let (load, _) = key.split_once('.').unwrap();
            assert!(super::super::loads::ALL.iter().any(|l| l.key == load));
        }
        assert_eq!(find(CPU).unwrap().loads(), ["fixed_rate", "programs"]);
        assert!(CPU_PARTS.iter().all(|key| !find(key).unwrap().compared));
    }
}
