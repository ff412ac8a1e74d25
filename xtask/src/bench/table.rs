//! The tables on the terminal.

use std::fmt::Write;

use super::figures::{self, Figure};
use super::report::{Measured, Report};

/// Medians with their spread, ratios, marked rounds, and what is missing.
pub(super) fn render(report: &Report) -> String {
    let figures: Vec<_> = figures::ALL
        .iter()
        .filter(|figure| {
            let mut systems = report.systems.iter();
            systems.any(|system| system.summaries.contains_key(figure.key))
        })
        .collect();
    let mut text = format!(
        "\nMedians of {} round(s) of {} s a load, ± half the range in percent; the fixed rate is {} qps.\n\
         * a round of this load is marked; rounds in which others used the machine are left out where there are better ones.\n\n",
        report.rounds, report.seconds_per_load, report.fixed_rate_qps
    );
    text += &columns(&figures, report, |figure, system| {
        let Some(summary) = system.summaries.get(figure.key) else {
            return "–".to_owned();
        };
        let mark = if system.is_marked(figure) { "*" } else { "" };
        let spread = if summary.rounds > 1 && figure.is_comparable() {
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
        text += &columns(&figures, report, |figure, system| {
            report
                .ratio(figure, system)
                .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
        });
    }
    text.push('\n');
    for figure in &figures {
        let _ = writeln!(
            text,
            "{:<10} {}, {}",
            figure.short, figure.title, figure.unit
        );
    }
    if report.marked().next().is_some() {
        text += "\nMarked:\n";
        for sample in report.marked() {
            let _ = writeln!(
                text,
                "- round {}, {}, {}: {}",
                sample.round,
                sample.load,
                sample.system,
                sample.remarks.join("; ")
            );
        }
    }
    text += "\nNot measured:\n";
    for what in &report.not_measured {
        let _ = writeln!(text, "- {what}");
    }
    text
}

fn columns(
    figures: &[&Figure],
    report: &Report,
    cell: impl Fn(&Figure, &Measured) -> String,
) -> String {
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(figures.iter().map(|figure| figure.short.to_owned()))
            .collect::<Vec<_>>(),
    ];
    for system in &report.systems {
        let cells = figures.iter().map(|figure| cell(figure, system));
        rows.push(
            std::iter::once(system.title.to_owned())
                .chain(cells)
                .collect(),
        );
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
