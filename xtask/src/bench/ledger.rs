//! What a cold miss consists of: each way to the same CoreDNS has something more than the one above it.

use super::report::Report;
use super::systems::UDP;

/// Above a table.
pub(super) const TITLE: &str = "A miss, by what stands between the pod and CoreDNS";

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "medians of the load misses, from the systems' own labs. From the relay to that in the agent's place: the way through the tc programs into the resolver's namespace. From there to the agent: what the agent does, and its hand-overs between threads, each of which is a sleep and a wake-up";

const KERNEL: &str = "dns-cache-kernel";
const USERSPACE: &str = "dns-cache-userspace";

/// What, whose figures, that of the time, and those of the threads.
const ROWS: [(&str, &str, &str, Option<[&str; 3]>); 8] = [
    (
        "directly, over open TCP",
        KERNEL,
        "misses.direct_tcp_p50_us",
        None,
    ),
    (
        "directly, over UDP",
        KERNEL,
        "misses.direct_udp_p50_us",
        None,
    ),
    (
        "a relay in the node's namespace",
        KERNEL,
        "misses.direct_relay_p50_us",
        Some([
            "misses.direct_relay_cpu_us",
            "misses.direct_relay_wait_us",
            "misses.direct_relay_sleeps",
        ]),
    ),
    (
        "that relay in the agent's place",
        KERNEL,
        "misses.direct_placed_p50_us",
        None,
    ),
    (
        "dns-cache, upstream over UDP",
        UDP.key,
        "misses.p50_us",
        OWN,
    ),
    (
        "dns-cache without the kernel's cache",
        USERSPACE,
        "misses.p50_us",
        OWN,
    ),
    ("dns-cache", KERNEL, "misses.p50_us", OWN),
    (
        "Unbound, upstream over UDP",
        "unbound",
        "misses.p50_us",
        OWN,
    ),
];
const OWN: Option<[&str; 3]> = Some(["misses.cpu_us", "misses.wait_us", "misses.sleeps"]);

/// A heading, and a row a way; nothing where misses were not measured.
pub(super) fn table(report: &Report) -> Option<Vec<Vec<String>>> {
    rows(|system, figure| report.median(system, figure))
}

fn rows(median: impl Fn(&str, &str) -> Option<f64>) -> Option<Vec<Vec<String>>> {
    let direct = median(KERNEL, "misses.direct_tcp_p50_us")?;
    let heading = ["", "p50, µs", "÷ TCP", "CPU, µs", "wait, µs", "sleeps"];
    let rows = ROWS.iter().filter_map(|(title, system, figure, threads)| {
        let time = median(system, figure)?;
        let mut row = vec![
            (*title).to_owned(),
            format!("{time:.0}"),
            format!("{:.2}", time / direct),
        ];
        for figure in threads.iter().flatten() {
            let value = median(system, figure);
            row.push(value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}")));
        }
        row.resize(heading.len(), "–".to_owned());
        Some(row)
    });
    let heading = heading.map(str::to_owned).to_vec();
    Some(std::iter::once(heading).chain(rows).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_has_no_row() {
        let table = rows(|system, figure| match (system, figure) {
            (KERNEL, "misses.direct_tcp_p50_us") => Some(100.0),
            (KERNEL, "misses.p50_us") => Some(150.0),
            (KERNEL, "misses.cpu_us") => Some(60.25),
            _ => None,
        });
        let table = table.unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table[2], ["dns-cache", "150", "1.50", "60.2", "–", "–"]);
        assert!(table.iter().all(|row| row.len() == table[0].len()));
        assert_eq!(rows(|_, _| None), None);
    }
}
