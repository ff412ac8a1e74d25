//! A run as the README shows it: Markdown to paste into its section "What it costs", all from this one run.

use std::fmt::Write;

use super::figures;
use super::report::Report;

/// Its file.
pub(super) const FILE: &str = "README-table.md";

/// The systems that have a column, and how it is headed.
const COLUMNS: [(&str, &str); 6] = [
    ("dns-cache-kernel", "kernel hit"),
    ("dns-cache-userspace", "userspace path"),
    ("unbound", "Unbound"),
    ("dnsmasq", "dnsmasq"),
    ("node-local-dns", "NodeLocalDNS"),
    ("reflect", "program that bounces"),
];

/// Titles, and the figures that a row's cells have beside each other.
const ROWS: [(&str, &[&str]); 7] = [
    ("queries a second, all cached", &["flat_out.qps"]),
    ("the same, 5 % not cached", &["mixed.qps"]),
    ("replies a second to AF_XDP", &["xdp.replies"]),
    (
        "p50, p99 at the fixed rate, µs",
        &["fixed_rate.p50_us", "fixed_rate.p99_us"],
    ),
    (
        "CPU a query then, µs: all, in tc",
        &[figures::CPU, figures::CPU_PARTS[1]],
    ),
    ("a name that nobody has asked for, µs", &["misses.p50_us"]),
    (
        "10,000 entries: RSS and maps, MiB; their part, MB",
        &["memory.rss_mib", "memory.maps_mib", "memory.cost_mb"],
    ),
];

/// What was measured, what was promised, and what stands beside what was not reached.
pub(super) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "`cargo xtask bench --rounds {rounds}`, {seconds} s a load, medians, the fixed rate is {rate} a second, on {cpus} cores that \
         the client used as well\n({processor}, Linux {kernel}, source {commit}, {time}): the ratios say more than the figures.\n\n",
        rounds = report.rounds,
        seconds = report.seconds_per_load,
        rate = report.fixed_rate_qps,
        cpus = machine.cpus,
        processor = machine.processor,
        kernel = machine.kernel,
        commit = machine.commit,
        time = machine.time,
    );
    text += &systems(|system, figure| report.median(system, figure));
    let rows = report.targets.iter().map(|target| {
        let value = if target.reached {
            format!("{:.3}", target.value)
        } else {
            format!("**{:.3}**", target.value)
        };
        vec![target.title.to_owned(), target.wanted.clone(), value]
    });
    let heading = ["promised", "", "reached"].map(str::to_owned).to_vec();
    text += "\n";
    text += &table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
    let missed: Vec<_> = report.targets.iter().filter(|t| !t.reached).collect();
    if !missed.is_empty() {
        text += "\nWhat stands beside those that were not reached, in the same run:\n\n";
    }
    for target in missed {
        let _ = writeln!(text, "- {}: {}", target.title, target.beside);
    }
    text
}

fn systems(median: impl Fn(&str, &str) -> Option<f64>) -> String {
    let is_measured = |system: &str| {
        let mut figures = ROWS.iter().flat_map(|(_, figures)| *figures);
        figures.any(|figure| median(system, figure).is_some())
    };
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|(system, _)| is_measured(system))
        .collect();
    let show = |system: &str, key: &str| {
        let figure = figures::ALL.iter().find(|figure| figure.key == key)?;
        Some(figure.show(median(system, key)?))
    };
    let heading = columns.iter().map(|(_, title)| (*title).to_owned());
    let heading = std::iter::once(String::new()).chain(heading).collect();
    let rows = ROWS.iter().map(|(title, figures)| {
        let cells = columns.iter().map(|(system, _)| {
            let values: Vec<_> = figures.iter().filter_map(|key| show(system, key)).collect();
            values.join(" · ")
        });
        std::iter::once((*title).to_owned()).chain(cells).collect()
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

/// Its first row is its heading.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if index == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::targets::Target;

    #[test]
    fn only_what_was_measured_has_a_column() {
        let text = systems(|system, figure| match (system, figure) {
            ("unbound", "flat_out.qps") => Some(123_456.0),
            ("unbound", "fixed_rate.p50_us") => Some(40.0),
            ("unbound", "fixed_rate.p99_us") => Some(209.0),
            ("dns-cache-kernel", "flat_out.qps") => Some(206_985.0),
            _ => None,
        });
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("|  | kernel hit | Unbound |"));
        assert_eq!(lines.next(), Some("|---|---|---|"));
        assert_eq!(
            lines.next(),
            Some("| queries a second, all cached | 206,985 | 123,456 |")
        );
        assert!(text.contains("| p50, p99 at the fixed rate, µs |  | 40 · 209 |\n"));
    }

    #[test]
    fn what_was_not_reached_stands_out_and_is_explained() {
        let target = |title, value, reached| Target {
            title,
            wanted: "≥ 0.900".to_owned(),
            value,
            reached,
            beside: format!("beside {title}"),
        };
        let report = Report {
            machine: Machine::this(),
            quick: false,
            rounds: 5,
            seconds_per_load: 2.0,
            fixed_rate_qps: 20_000,
            dnsperf: String::new(),
            systems: Vec::new(),
            explaining: Vec::new(),
            loads: Vec::new(),
            figures: Vec::new(),
            not_measured: Vec::new(),
            targets: vec![target("a", 0.95, true), target("b", 0.5, false)],
            search_lists: Vec::new(),
            live: Vec::new(),
            standing_starts: Vec::new(),
            stages: Vec::new(),
            micro: None,
            micro_before: None,
            samples: Vec::new(),
        };
        let text = render(&report);
        assert!(
            text.starts_with("`cargo xtask bench --rounds 5`, 2 s a load"),
            "{text}"
        );
        assert!(
            text.contains("| a | ≥ 0.900 | 0.950 |\n| b | ≥ 0.900 | **0.500** |\n"),
            "{text}"
        );
        assert!(
            text.ends_with("in the same run:\n\n- b: beside b\n"),
            "{text}"
        );
    }

    #[test]
    fn its_figures_are_figures() {
        let all = ROWS.iter().flat_map(|(_, figures)| *figures);
        for key in all {
            assert!(
                figures::ALL.iter().any(|figure| figure.key == *key),
                "{key}"
            );
        }
        for (key, _) in COLUMNS {
            let systems = super::super::systems::ALL;
            assert!(systems.iter().any(|system| system.key == key), "{key}");
        }
    }
}
