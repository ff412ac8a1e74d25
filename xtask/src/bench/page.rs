//! The page: one file that needs nothing else.

use std::fmt::Write;

use super::escape::escape;
use super::figures::{Better, CPU, CPU_PARTS, Figure};
use super::micro;
use super::report::{Measured, Report, show_ratio};
use super::svg::{self, Bar, Curve};
use super::{ledger, live, search_list, stages, standing_start, targets};

const STYLE: &str = include_str!("page.css");
/// The colours that the style defines.
const COLORS: usize = 8;

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>dns-cache, benchmark of {time}</title>\n<style>\n{STYLE}</style>\n\
         <h1>dns-cache, benchmark</h1>\n<p class=\"soft\">{time} · source {commit} · {processor}, {cpus} CPUs, {memory} MiB · \
         Linux {kernel} · {system}<br>{rounds} round(s), {seconds} s a load, fixed rate {rate} queries/s{quick}</p>\n",
        time = escape(&machine.time),
        commit = escape(&machine.commit),
        processor = escape(&machine.processor),
        cpus = machine.cpus,
        memory = machine.memory_mib,
        kernel = escape(&machine.kernel),
        system = escape(&machine.system),
        rounds = report.rounds,
        seconds = report.seconds_per_load,
        rate = report.fixed_rate_qps,
        quick = if report.quick {
            " · <b class=\"mark\">a quick run: a check, not a measurement</b>"
        } else {
            ""
        },
    );
    if !report.targets.is_empty() {
        page += &promised(report);
    }
    page += &medians(report);
    page += &ratios(report);
    page += &plots(report);
    page += &ledger(report);
    page += &search_lists(report);
    page += &live_hits(report);
    page += &live_stages(report);
    page += &standing_starts(report);
    page += &method(report);
    page += &marked(report);
    page += &test_runs(report);
    if !report.not_measured.is_empty() {
        let what = report.not_measured.iter().map(|what| escape(what));
        page += &list("Not measured", what);
    }
    page += &raw(report);
    page + "</html>\n"
}

fn promised(report: &Report) -> String {
    let table = plain(&targets::table(&report.targets));
    let beside = report.targets.iter().map(|target| {
        let (title, beside) = (escape(target.title), escape(&target.beside));
        format!("<li><b>{title}</b>: {beside}\n")
    });
    let beside: String = beside.collect();
    format!(
        "<h2>Figures to reach</h2>\n{table}<p>Beside them, in the same run:</p>\n<ul>\n{beside}</ul>\n"
    )
}

fn search_lists(report: &Report) -> String {
    let title = "Queries that a look-up by a pod's search list costs";
    let tables = search_list::tables(&report.search_lists);
    explained(title, search_list::METHOD, &tables)
}

fn ledger(report: &Report) -> String {
    ledger::table(report).map_or_else(String::new, |table| {
        explained(ledger::TITLE, ledger::METHOD, &[table])
    })
}

fn live_hits(report: &Report) -> String {
    let runs = report.micro.as_ref().map_or(&[][..], |micro| &micro.sizes);
    let title = "A hit of a name at random, under load";
    explained(title, live::METHOD, &[live::table(&report.live, runs)])
}

fn live_stages(report: &Report) -> String {
    let runs = report.micro.as_ref().map_or(&[][..], |micro| &micro.stages);
    let title = "A hit in the kernel stage by stage, under load";
    explained(
        title,
        stages::METHOD,
        &[stages::table(&report.stages, runs)],
    )
}

fn standing_starts(report: &Report) -> String {
    let table = standing_start::table(&report.standing_starts);
    explained(standing_start::TITLE, standing_start::METHOD, &[table])
}

fn test_runs(report: &Report) -> String {
    let (Some(micro), before) = (&report.micro, report.micro_before.as_ref()) else {
        return String::new();
    };
    let mut text = format!(
        "<h2>Test runs</h2>\n<p class=\"soft\">{}. {}</p>\n",
        escape(micro::METHOD),
        escape(&micro::compared(before))
    );
    for (title, table) in micro::tables(micro, before) {
        text += &format!("<h3>{}</h3>\n{}", escape(title), plain(&table));
    }
    text
}

/// Tables under a title, and how their numbers came about.
fn explained(title: &str, method: &str, tables: &[Vec<Vec<String>>]) -> String {
    let tables: String = tables.iter().map(|table| plain(table)).collect();
    let method = escape(&capital(method));
    format!("<h2>{title}</h2>\n<p class=\"soft\">{method}.</p>\n{tables}")
}

/// A table whose first row is its heading.
fn plain(rows: &[Vec<String>]) -> String {
    let mut table = "<div class=\"scroll\"><table>\n".to_owned();
    for (index, row) in rows.iter().enumerate() {
        let cell = if index == 0 { "<th>" } else { "<td>" };
        table += "<tr>";
        for text in row {
            table += cell;
            table += &escape(text);
        }
        table.push('\n');
    }
    table + "</table></div>\n"
}

fn medians(report: &Report) -> String {
    let note = "<p class=\"soft\">Medians over the rounds; the range below them. A star: a round of this load is marked.</p>\n";
    let table = table(report, &report.shown(), |figure, system| {
        let Some(summary) = system.summaries.get(figure.key) else {
            return "<td>–".to_owned();
        };
        let mark = if system.is_marked(figure) {
            "<span class=\"mark\" title=\"a round of this load is marked\">*</span>"
        } else {
            ""
        };
        let range = if summary.rounds > 1 {
            let (min, max) = (figure.show(summary.min), figure.show(summary.max));
            format!("<br><small>{min} … {max}</small>")
        } else {
            String::new()
        };
        format!("<td>{}{mark}{range}", figure.show(summary.median))
    });
    format!("<h2>Medians</h2>\n{note}{table}")
}

fn ratios(report: &Report) -> String {
    let Some(base) = report.base() else {
        return String::new();
    };
    let table = table(report, &report.comparable(), |figure, system| {
        report.ratio(figure, system).map_or_else(
            || "<td>–".to_owned(),
            |ratio| format!("<td>{}", show_ratio(ratio)),
        )
    });
    format!(
        "<h2>{} ÷ each system</h2>\n<p class=\"soft\">Queries a second: more is better. All else: less is better.</p>\n{table}",
        escape(base.title)
    )
}

/// A row a figure, a column a system.
fn table(
    report: &Report,
    figures: &[&Figure],
    cell: impl Fn(&Figure, &Measured) -> String,
) -> String {
    let mut table = "<div class=\"scroll\"><table>\n<tr><th>".to_owned();
    for system in &report.systems {
        let (title, short) = (escape(system.title), escape(system.short));
        let _ = write!(table, "<th title=\"{title}\">{short}");
    }
    for figure in figures {
        let (title, unit) = (escape(&capital(figure.title)), escape(figure.unit));
        let _ = write!(table, "\n<tr><td>{title} <small>{unit}</small>");
        for system in &report.systems {
            table += &cell(figure, system);
        }
    }
    table + "\n</table></div>\n"
}

fn plots(report: &Report) -> String {
    let mut text = String::new();
    for figure in report.comparable() {
        if figure.key == "fixed_rate.p50_us" {
            text += &latencies(report);
        }
        let bars: Vec<_> = report
            .systems
            .iter()
            .enumerate()
            .filter_map(|(index, system)| bar(figure, index, system))
            .collect();
        let direction = match figure.better {
            Better::Higher => "more is better",
            Better::Lower => "less is better",
        };
        let kinds = if figure.key == CPU {
            "; a bar's paler end is the tc programs, the rest the processes"
        } else {
            ""
        };
        let _ = write!(
            text,
            "<h2>{title}</h2>\n<p class=\"soft\">{unit}, {direction}{kinds}; the thin line is the range over the rounds</p>\n{plot}",
            title = escape(&capital(figure.title)),
            unit = escape(figure.unit),
            plot = svg::bars(figure.title, &bars),
        );
    }
    text
}

fn bar(figure: &Figure, index: usize, system: &Measured) -> Option<Bar> {
    let summary = system.summaries.get(figure.key)?;
    let mark = if system.is_marked(figure) { " *" } else { "" };
    let programs = system.summaries.get(CPU_PARTS[1]);
    Some(Bar {
        label: system.title.to_owned(),
        color: index % COLORS,
        value: summary.median,
        // Medians of parts need not add up to that of their sums.
        paler: programs
            .filter(|_| figure.key == CPU)
            .map_or(0.0, |programs| programs.median.min(summary.median)),
        min: summary.min,
        max: summary.max,
        text: format!("{}{mark}", figure.show(summary.median)),
    })
}

fn latencies(report: &Report) -> String {
    let title = "Latency at the fixed rate";
    let curves: Vec<_> = report
        .systems
        .iter()
        .enumerate()
        .filter(|(_, system)| !system.latencies.is_empty())
        .map(|(index, system)| Curve {
            label: system.title.to_owned(),
            color: index % COLORS,
            points: system.latencies.clone(),
        })
        .collect();
    let legend: String = curves
        .iter()
        .map(|curve| {
            let label = escape(&curve.label);
            format!("<span><i class=\"c{}\"></i>{label}</span> ", curve.color)
        })
        .collect();
    format!(
        "<h2>{title}</h2>\n<p class=\"soft\">The time within which that share of the queries was answered; median over the rounds for each share; both axes logarithmic</p>\n\
         <p class=\"legend\">{legend}</p>\n{}",
        svg::curves(title, &curves)
    )
}

fn method(report: &Report) -> String {
    let all = report.systems.iter().chain(&report.explaining);
    let systems = all.map(|system| {
        format!(
            "<b>{}</b> ({}, {}): {}.",
            escape(system.title),
            escape(system.key),
            escape(&system.version),
            escape(system.about)
        )
    });
    let loads = report.loads.iter().map(|load| {
        let (title, method) = (escape(load.title), escape(load.method));
        format!("<b>{title}</b>: {method}.")
    });
    format!(
        "<h2>Method</h2>\n<p>Each system runs in a lab of its own: a node, a pod on a veth and a CoreDNS with the cluster's zones, in network \
         namespaces of one machine. All labs are up the whole time, one is under load. A round puts each load on each system, in a new order \
         each time and never twice in a row on the same; what a quick run takes anew, at the end of its sweep, may follow itself. dnsperf is called with <code>{}</code>. A round is marked if more than 0.1 % of the queries are \
         lost, if the hypervisor takes more than 1 % of the CPU time, if processes that have nothing to do with the benchmark use more than 3 % of it, or if the client cannot keep the rate. So is what is measured beside the loads. Rounds in which others used the machine are left out of medians and plots where there are other rounds; they stand below and in bench.json.</p>\n{}{}",
        escape(&report.dnsperf),
        list("Systems", systems),
        list("Loads", loads)
    )
}

fn marked(report: &Report) -> String {
    let marks = report.marks();
    if marks.is_empty() {
        return "<h2>Marked rounds</h2>\n<p>None.</p>\n".to_owned();
    }
    list("Marked rounds", marks.iter().map(|mark| escape(mark)))
}

/// A heading and a list of HTML.
fn list(title: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("<li>{item}\n")).collect();
    format!("<h2>{}</h2>\n<ul>\n{items}</ul>\n", escape(title))
}

fn raw(report: &Report) -> String {
    let mut text = "<h2>Raw numbers</h2>\n<details><summary>Every measurement, in the order in which it was taken</summary>\n\
         <div class=\"scroll\"><table>\n<tr><th>round<th class=\"text\">load<th class=\"text\">system<th>steal, %<th>others, %<th class=\"text\">figures<th class=\"text\">marks\n"
        .to_owned();
    for sample in &report.samples {
        let figures: Vec<_> = sample
            .figures
            .iter()
            .map(|(key, value)| {
                let name = key.split_once('.').map_or(*key, |(_, name)| name);
                format!("{name} {value:.2}")
            })
            .collect();
        let _ = writeln!(
            text,
            "<tr><td>{}<td class=\"text\">{}<td class=\"text\">{}<td>{:.2}<td>{:.1}<td class=\"text\">{}<td class=\"text mark\">{}",
            sample.round,
            escape(sample.load),
            escape(sample.system),
            sample.disturbance.steal_percent,
            sample.disturbance.others_percent,
            escape(&figures.join(", ")),
            escape(&sample.remarks.join("; "))
        );
    }
    for (what, unit, taken) in report.others() {
        let _ = writeln!(
            text,
            "<tr><td>{}<td class=\"text\" colspan=\"2\">{}<td>{:.2}<td>{:.1}<td class=\"text\">{:.1} {unit}<td class=\"text mark\">{}",
            taken.round,
            escape(&what),
            taken.disturbance.steal_percent,
            taken.disturbance.others_percent,
            taken.value,
            escape(&taken.remarks.join("; "))
        );
    }
    text + "</table></div></details>\n"
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_begin_with_a_capital() {
        assert_eq!(capital("a miss, median"), "A miss, median");
        assert_eq!(capital("95 % hits"), "95 % hits");
        assert_eq!(capital(""), "");
    }
}
