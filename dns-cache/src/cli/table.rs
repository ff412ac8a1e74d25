//! Columns of text.

use std::fmt::Write;

/// A table with a header; columns whose header starts with `>` are aligned to the right.
pub(super) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let right = header.iter().map(|name| name.starts_with('>')).collect();
        let names = header
            .iter()
            .map(|name| name.trim_start_matches('>').to_owned())
            .collect();
        Self {
            right,
            rows: vec![names],
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, or nothing if it has no rows.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        if self.rows.len() == 1 {
            return text;
        }
        let width = |n: usize| {
            self.rows
                .iter()
                .filter_map(|row| Some(row.get(n)?.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                // Writing to a String does not fail.
                let _ = if *right {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
