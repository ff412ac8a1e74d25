//! The tables on the terminal.

use std::fmt::Write;

use super::figures::Figure;
use super::micro::{self, Micro, Record};
use super::report::{Measured, Report, show_ratio};
use super::{ledger, live, search_list, stages, standing_start, targets};

/// All of a run.
pub(super) fn render(report: &Report) -> String {
    let mut text = loads(report);
    if !report.search_lists.is_empty() {
        text += "\nQueries that a look-up by a pod's search list costs\n";
        for table in search_list::tables(&report.search_lists) {
            text += &format!("\n{}", align(&table));
        }
        text += &format!("({})\n", search_list::METHOD);
    }
    if let Some(ledger) = ledger::table(report) {
        let (title, method) = (ledger::TITLE, ledger::METHOD);
        text += &format!("\n{title}\n\n{}({method})\n", align(&ledger));
    }
    if !report.standing_starts.is_empty() {
        let table = align(&standing_start::table(&report.standing_starts));
        let (title, method) = (standing_start::TITLE, standing_start::METHOD);
        text += &format!("\n{title}\n\n{table}({method})\n");
    }
    if let Some(micro) = &report.micro {
        if !report.live.is_empty() {
            let table = align(&live::table(&report.live, &micro.sizes));
            text += &format!(
                "\nA hit of a name at random, under load\n\n{table}({})\n",
                live::METHOD
            );
        }
        if !report.stages.is_empty() {
            let table = align(&stages::table(&report.stages, &micro.stages));
            text += &format!(
                "\nA hit in the kernel stage by stage, under load\n\n{table}({})\n",
                stages::METHOD
            );
        }
        text += &test_runs(micro, report.micro_before.as_ref());
    }
    text += &ends(report);
    text
}

/// Test runs, beside the last ones.
pub(super) fn test_runs(micro: &Micro, before: Option<&Record>) -> String {
    let mut text = String::new();
    for (title, table) in micro::tables(micro, before) {
        text += &format!("\n{title}\n\n{}", align(&table));
    }
    for remark in &micro.remarks {
        text += &format!("* marked: {remark}\n");
    }
    text + &format!("({})\n{}\n", micro::METHOD, micro::compared(before))
}

/// Medians with their spread, and ratios.
fn loads(report: &Report) -> String {
    let mut text = format!(
        "\nMedians of {} round(s) of {} s a load, ± half the range in percent; the fixed rate is {} qps.\n\
         * a round of this load is marked; rounds in which others used the machine are left out where there are better ones.\n\n",
        report.rounds, report.seconds_per_load, report.fixed_rate_qps
    );
    text += &columns(report, &report.shown(), |figure, system| {
        let Some(summary) = system.summaries.get(figure.key) else {
            return "–".to_owned();
        };
        let mark = if system.is_marked(figure) { "*" } else { "" };
        let spread = if summary.rounds > 1 && figure.unit != "%" {
            format!(" ±{:.0}", summary.spread_percent())
        } else {
            String::new()
        };
        format!("{}{spread}{mark}", figure.show(summary.median))
    });
    if let Some(base) = report.base() {
        let _ = writeln!(
            text,
            "\n{} ÷ each system (qps: more is better; the rest: less is better)\n",
            base.title
        );
        text += &columns(report, &report.comparable(), |figure, system| {
            report
                .ratio(figure, system)
                .map_or_else(|| "–".to_owned(), show_ratio)
        });
    }
    text
}

/// What was promised, marked rounds, and what is missing.
fn ends(report: &Report) -> String {
    let mut text = String::new();
    if !report.targets.is_empty() {
        let table = align(&targets::table(&report.targets));
        text += &format!("\nFigures to reach\n\n{table}\nBeside them, in the same run:\n");
        for target in &report.targets {
            let _ = writeln!(text, "- {}: {}", target.title, target.beside);
        }
    }
    let marks = report.marks();
    if !marks.is_empty() {
        text += "\nMarked:\n";
    }
    for mark in marks {
        let _ = writeln!(text, "- {mark}");
    }
    if !report.not_measured.is_empty() {
        text += "\nNot measured:\n";
    }
    for what in &report.not_measured {
        let _ = writeln!(text, "- {what}");
    }
    text
}

/// A row a figure, a column a system.
fn columns(
    report: &Report,
    figures: &[&Figure],
    cell: impl Fn(&Figure, &Measured) -> String,
) -> String {
    let systems = || report.systems.iter();
    let heading = systems().map(|system| system.short.to_owned());
    let mut rows: Vec<Vec<_>> = vec![std::iter::once(String::new()).chain(heading).collect()];
    for figure in figures {
        let title = format!("{}, {}", figure.title, figure.unit);
        let cells = systems().map(|system| cell(figure, system));
        rows.push(std::iter::once(title).chain(cells).collect());
    }
    align(&rows)
}

/// The first column to the left, the others to the right.
fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            let _ = if column == 0 {
                write!(line, "{cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [
            vec!["a".to_owned(), "±1".to_owned()],
            vec!["bcd".to_owned(), "1234".to_owned()],
        ];
        assert_eq!(align(&rows), "a      ±1\nbcd  1234\n");
    }
}
