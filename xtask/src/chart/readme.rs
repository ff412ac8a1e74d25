//! The values that deploy/README.md gives as examples.

use std::fs;

use super::helm::Values;
use super::{CHART, README};
use crate::programs::workspace;

/// How a fenced block with values begins.
const BLOCK: &str = "```yaml\n# values.yaml\n";
/// Words of the text that stand for the reader's own, and what is tried in their place.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("ADDRESS", "10.244.3.7"),
    ("NAMESPACE", "payments"),
    ("POD", "db-0"),
    ("NAME", "veth-infra"),
];

/// One by one; what stands in one cell of a table goes together.
pub(super) fn examples() -> Vec<Values> {
    let path = |path: &str| workspace().join(path);
    let read = |file: &str| fs::read_to_string(path(file)).unwrap_or_default();
    let values = read(&format!("{CHART}/values.yaml"));
    let keys: Vec<_> = values
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    of(&read(README), &keys)
}

/// The same of a text, by the chart's outermost keys.
fn of(text: &str, keys: &[&str]) -> Vec<Values> {
    let blocks = text.split(BLOCK).skip(1);
    let blocks = blocks.filter_map(|rest| Some(Values::File(rest.split_once("```")?.0.to_owned())));
    let flags = text.split("--set ").skip(1).map(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || c == '`');
        Values::set(
            &rest[..end.unwrap_or(rest.len())]
                .split(',')
                .collect::<Vec<_>>(),
        )
    });
    let prose = prose(text);
    let lines = prose.lines().flat_map(|line| match line.starts_with('|') {
        true => line
            .split(" | ")
            .map(|cell| settings(cell, keys, Some("true")).concat())
            .collect(),
        false => settings(line, keys, None),
    });
    let lines = lines.filter(|text| !text.is_empty()).map(Values::File);
    blocks.chain(flags).chain(lines).collect()
}

/// What is no fenced block.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The settings among a text's code spans, a file's text each: `PATH: VALUE`, and if a mention alone means something,
/// `PATH.enabled`.
fn settings(text: &str, keys: &[&str], enabled: Option<&str>) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let settings = spans.filter_map(|span| {
        let (path, value) = match span.split_once(": ") {
            Some((path, value)) => (path, value),
            None => (span.ends_with(".enabled").then_some(span)?, enabled?),
        };
        let (outer, _) = path.split_once('.').unwrap_or((path, ""));
        let is_value = value.starts_with(['[', '{']) || !value.contains(' ');
        if !keys.contains(&outer) || !is_value {
            return None;
        }
        let mut text = String::new();
        let indent = |depth| "  ".repeat(depth);
        for (depth, key) in path.split('.').enumerate() {
            let line = if depth == 0 { "" } else { "\n" };
            text += &format!("{line}{}{key}:", indent(depth));
        }
        let value = PLACEHOLDERS
            .iter()
            .fold(value.to_owned(), |value, (word, own)| {
                value.replace(word, own)
            });
        Some(format!("{text} {value}\n"))
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_a_text() {
        let text = "Do `helm install x --set mode=both,a.b=c` and say `mode: both`, not `host.enabled`, `cache: x is not`, nor `other: 1`.\n\
                    | x | y |\n| --- | --- |\n| z | `host.enabled`, `exclude: [NAMESPACE/POD]` or `exclude` |\n\
                    ```yaml\n# values.yaml\nlog: {level: debug}\n```\n\
                    ```\nnone: `mode: both`\n```\n";
        let found = of(text, &["mode", "cache", "host", "exclude", "log"]);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "log: {level: debug}\n",
                "mode=both,a.b=c",
                "mode: both\n",
                "host:\n  enabled: true\nexclude: [payments/db-0]\n",
            ]
        );
    }
}
