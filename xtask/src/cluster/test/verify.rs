//! What the chart's NOTES and deploy/README.md say to look at.

use std::fs;

use anyhow::{Context, Result, bail};

use super::Bed;
use super::lookups::answers;
use super::scenarios::POD;
use crate::chart::{NAMESPACE, README, RELEASE};
use crate::programs::workspace;

/// The NOTES have the README's commands, and these say what stands there, line by line; figures are other ones each time.
pub(super) fn commands(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    // What is asked for in the last one is cached by then.
    for _ in 0..2 {
        answers(bed, POD)?;
    }
    let readme = fs::read_to_string(workspace().join(README))?;
    let shown = shown(&readme).context("deploy/README.md does not show what to verify by")?;
    let notes = bed.node.helm(&["get", "notes", RELEASE, "-n", NAMESPACE])?;
    let lines = notes.lines().map(str::trim);
    let noted: Vec<_> = lines.filter(|line| line.starts_with("kubectl ")).collect();
    let wanted: Vec<_> = shown.iter().map(|(command, _)| *command).collect();
    if noted != wanted {
        bail!("NOTES say {noted:#?}, deploy/README.md says {wanted:#?}");
    }
    for (command, expected) in &shown {
        let args: Vec<_> = command.split(' ').skip(1).collect();
        let text = bed.node.kubectl(&args)?;
        let found: Vec<_> = text.lines().filter_map(first_word).collect();
        for line in expected {
            if !first_word(line).is_none_or(|word| found.contains(&word)) {
                bail!("{command}: no line like {line:?} in\n{text}");
            }
        }
    }
    Ok(format!("{} commands say what they should", shown.len()))
}

/// The commands below "Verify" and what they print.
fn shown(readme: &str) -> Option<Vec<(&str, Vec<&str>)>> {
    let (_, rest) = readme.split_once("\n## Verify\n")?;
    let block = rest.split("```").nth(1)?;
    let commands = block.split("\n$ ").skip(1).map(|text| {
        let mut lines = text.lines();
        let command = lines.next().unwrap_or_default();
        // What is left out, and an interface, which is another one each time.
        let lines = lines.filter(|line| !line.starts_with('…') && !line.starts_with("veth"));
        (command, lines.collect())
    });
    Some(commands.collect())
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn commands_and_what_they_print() {
        let text = "# x\n\n## Verify\n\n```\n$ kubectl a b\nc  d\n\n$ kubectl e\n…\nf\nveth1  1\n```\n\n```\n$ kubectl g\n```\n";
        let expected = vec![("kubectl a b", vec!["c  d"]), ("kubectl e", vec!["f"])];
        assert_eq!(shown(text), Some(expected));
    }
}
