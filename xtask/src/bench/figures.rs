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
    }
}

/// All of them, in the order of a table's columns.
pub(super) const ALL: [Figure; 17] = [
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
        "fixed_rate.server_cpu_us",
        "CPU",
        "the server's CPU time per query at the fixed rate",
        "µs",
        1,
    ),
    lower(
        "programs.run_time_us",
        "tc",
        "run time of the tc programs per query at the fixed rate (bpf_stats)",
        "µs",
        2,
    ),
    lower(
        "sequential.p50_us",
        "trip",
        "round trip, one query after the other, median",
        "µs",
        1,
    ),
    lower("misses.p50_us", "miss", "a miss, median", "µs", 0),
    lower(
        "misses.added_percent",
        "added",
        "a miss, added to a direct query over TCP",
        "%",
        0,
    ),
    lower(
        "misses.direct_relay_p50_us",
        "relay",
        "beside it: to the same CoreDNS by a relay over open TCP that does nothing else",
        "µs",
        0,
    ),
    lower(
        "misses.direct_tcp_p50_us",
        "TCP",
        "beside it: directly to the same CoreDNS over open TCP",
        "µs",
        0,
    ),
    lower(
        "misses.direct_udp_p50_us",
        "UDP",
        "beside it: directly to the same CoreDNS over UDP",
        "µs",
        0,
    ),
    lower(
        "memory.rss_mib",
        "RSS",
        "resident memory at 10,000 entries",
        "MiB",
        0,
    ),
    lower(
        "memory.maps_mib",
        "maps",
        "memory of the eBPF maps at 10,000 entries",
        "MiB",
        1,
    ),
];

/// The figure with this key.
#[cfg(test)]
fn find(key: &str) -> Option<&'static Figure> {
    ALL.iter().find(|figure| figure.key == key)
}

impl Figure {
    /// Whether the ratio of two systems' figures says something.
    pub(super) fn is_comparable(&self) -> bool {
        self.unit != "%" && !self.key.contains(".direct_")
    }

    /// A value as people read it, without the unit.
    pub(super) fn show(&self, value: f64) -> String {
        let text = format!("{value:.*}", self.digits);
        if self.digits > 0 {
            return text;
        }
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.as_str()),
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
        assert_eq!(
            find("fixed_rate.server_cpu_us").unwrap().show(1234.56),
            "1234.6"
        );
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
    }
}
