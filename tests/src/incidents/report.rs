//! What was seen, side by side.

use std::fmt;

use super::{Incident, of};
use crate::addresses::Family;
use crate::load::Outcome;

/// A table: a line a figure, on the ordinary path and with the agent.
#[derive(Debug, Clone, Default)]
pub struct Report {
    lines: Vec<Line>,
    notes: Vec<String>,
}

#[derive(Debug, Clone)]
struct Line {
    what: String,
    ordinary: Seen,
    agent: Seen,
    bound: String,
}

/// A figure, and whether it is as it has to be: on the ordinary path the fault must show, with the agent it must not.
#[derive(Debug, Clone)]
pub struct Seen {
    text: String,
    right: bool,
}

/// A figure on which something depends.
pub(super) fn seen(text: impl Into<String>, right: bool) -> Seen {
    let text = text.into();
    Seen { text, right }
}

/// A figure for the reader.
pub(super) fn told(text: impl Into<String>) -> Seen {
    seen(text, true)
}

/// Lookups that failed, and all.
pub(super) fn failed(both: &[Outcome; 2]) -> (u64, u64) {
    let sum = |number: fn(&Outcome) -> u64| both.iter().map(number).sum();
    (sum(Outcome::failed), sum(|o| o.lookups.len() as u64))
}

impl Report {
    /// Adds a line: what, on the ordinary path, with the agent, and what must hold there.
    pub(super) fn line(
        &mut self,
        what: impl Into<String>,
        ordinary: Seen,
        agent: Seen,
        bound: &str,
    ) {
        self.lines.push(Line {
            what: what.into(),
            ordinary,
            agent,
            bound: bound.to_owned(),
        });
    }

    /// Adds a line about the agent alone.
    pub(super) fn agent_line(&mut self, what: impl Into<String>, agent: Seen, bound: &str) {
        self.line(what, told("–"), agent, bound);
    }

    /// Adds a line a family: answers to UDP queries from elsewhere than was asked.
    pub(super) fn elsewhere(&mut self, ordinary: &[Outcome; 2], agent: &[Outcome; 2]) {
        for (index, family) in Family::BOTH.into_iter().enumerate() {
            let [ordinary, agent] = [ordinary, agent].map(|both| {
                let udp = &both[index];
                (udp.wrong_source, udp.answered() + udp.wrong_source)
            });
            self.line(
                format!("answers from elsewhere, UDP {}", family.name()),
                seen(of(ordinary.0, ordinary.1), ordinary.0 > 0),
                seen(of(agent.0, agent.1), agent.0 == 0),
                "0",
            );
        }
    }

    /// Adds a line: lookups that failed, over UDP and both families.
    pub(super) fn failed(&mut self, what: &str, ordinary: &[Outcome; 2], agent: &[Outcome; 2]) {
        let [ordinary, agent] = [ordinary, agent].map(failed);
        self.line(
            what,
            seen(of(ordinary.0, ordinary.1), ordinary.0 > 0),
            seen(of(agent.0, agent.1), agent.0 == 0),
            "0",
        );
    }

    /// Adds a sentence below the table.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// What is not as it has to be.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for line in &self.lines {
            let Line { what, bound, .. } = line;
            if !line.ordinary.right {
                let text = &line.ordinary.text;
                problems.push(format!(
                    "the ordinary path does not show the fault: {what}: {text}"
                ));
            }
            if !line.agent.right {
                let text = &line.agent.text;
                problems.push(format!(
                    "with the agent: {what}: {text}; must hold: {bound}"
                ));
            }
        }
        problems
    }

    /// The table as text, under the incident's title.
    #[must_use]
    pub fn table(&self, incident: &Incident) -> String {
        let title = [incident.key, incident.title].join(": ");
        format!("{title}\n{self}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |seen: &Seen, mark: &str| match seen.right {
            true => seen.text.clone(),
            false => format!("{} {mark}", seen.text),
        };
        let mut rows =
            vec![["", "ordinary path", "with dns-cache", "must hold"].map(str::to_owned)];
        rows.extend(self.lines.iter().map(|line| {
            [
                line.what.clone(),
                mark(&line.ordinary, "← NOT SHOWN"),
                mark(&line.agent, "← BROKEN"),
                line.bound.clone(),
            ]
        }));
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        for row in &rows {
            let cells = row.iter().zip(widths);
            let cells: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "  {}", cells.join("   ").trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_right_is_marked_and_told() {
        let mut report = Report::default();
        report.line("lost", seen("0 of 9", false), seen("1 of 9", false), "0");
        report.line("other", told("x"), told("–"), "");
        let text = report.to_string();
        assert!(
            text.contains("0 of 9 ← NOT SHOWN   1 of 9 ← BROKEN   0"),
            "{text}"
        );
        assert_eq!(report.problems().len(), 2);
    }
}
