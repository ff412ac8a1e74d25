//! The stages of an answer in the kernel, by test runs, and what the verifier says of each program; against the last run
//! that was recorded on this machine under this kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::figures::grouped;
use super::machine::Machine;
use super::marks::Disturbance;
use super::output;

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "BPF_PROG_TEST_RUN, medians; the stages: the same packet again and again, put back for each run, which is in send; names at random: up to find, each a run of its own, with what starting a run costs. The verifier's figures do not depend on the machine";

/// Entries in the cache for hits of names at random, and how many of these.
const ENTRIES: [u32; 3] = [1_000, 100_000, 1_000_000];
const LOOKUPS: u32 = 20_000;
const QUICK_ENTRIES: [u32; 2] = [1_000, 10_000];
const QUICK_LOOKUPS: u32 = 2_000;
/// Where runs are recorded.
const FILE: &str = "micro.json";

/// What test runs and the verifier say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Micro {
    /// Nanoseconds from the packet's arrival to the end of each stage.
    pub(super) stages: Vec<Stage>,
    /// Entries, and the median nanoseconds of a hit of a name at random among them.
    pub(super) sizes: Vec<(u32, u64)>,
    pub(super) programs: Vec<Program>,
    /// Why this is not a run like another.
    pub(super) remarks: Vec<String>,
}

/// A stage, with all that comes before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) nanos: u64,
}

/// A program, as the verifier sees it; what it does not tell is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) instructions: Option<u64>,
    /// Instructions that it went through, of a million.
    pub(super) processed: Option<u64>,
    pub(super) stack: Option<u64>,
    pub(super) translated_bytes: Option<u64>,
}

/// A run, where and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    processor: String,
    kernel: String,
    pub(super) commit: String,
    pub(super) time: String,
    pub(super) micro: Micro,
}

/// What `dns-cache measure` prints.
#[derive(Debug, Deserialize)]
struct Measured {
    stages: Vec<Stage>,
    sizes: Vec<(u32, u64)>,
}

/// Measures.
pub(super) fn run(agent: &Path, quick: bool) -> Result<Micro> {
    let (Measured { stages, sizes }, disturbance) = Disturbance::during(|| {
        if quick {
            measure(agent, &QUICK_ENTRIES, QUICK_LOOKUPS)
        } else {
            measure(agent, &ENTRIES, LOOKUPS)
        }
    })?;
    let verifier = output(agent, &["verifier"])?;
    let programs = parse(&verifier);
    Ok(Micro {
        stages,
        sizes,
        programs: programs
            .with_context(|| format!("`dns-cache verifier` printed something else:\n{verifier}"))?,
        remarks: disturbance.remarks(),
    })
}

/// Stages, and hits among each number of entries.
fn measure(agent: &Path, entries: &[u32], lookups: u32) -> Result<Measured> {
    let (mut stages, mut sizes) = (Vec::new(), Vec::new());
    // A call each, so that something is seen meanwhile.
    for entries in entries {
        println!("Test runs, {entries} entries …");
        let (entries, lookups) = (entries.to_string(), lookups.to_string());
        let args = ["measure", "--entries", &entries, "--lookups", &lookups];
        let measured: Measured = serde_json::from_str(&output(agent, &args)?)
            .context("reading what `dns-cache measure` printed")?;
        stages.push(measured.stages);
        sizes.extend(measured.sizes);
    }
    Ok(Measured {
        stages: medians(&stages),
        sizes,
    })
}

/// Of each stage, over the calls that measured it.
fn medians(calls: &[Vec<Stage>]) -> Vec<Stage> {
    let names = calls.iter().flatten().map(|stage| &stage.name);
    let first = calls.first().map_or(0, Vec::len);
    names
        .take(first)
        .map(|name| {
            let stages = calls.iter().flatten().filter(|stage| stage.name == *name);
            let mut nanos: Vec<_> = stages.map(|stage| stage.nanos).collect();
            nanos.sort_unstable();
            Stage {
                name: name.clone(),
                nanos: nanos.get(nanos.len() / 2).copied().unwrap_or(0),
            }
        })
        .collect()
}

fn output(agent: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(agent)
        .args(args)
        .output()
        .with_context(|| format!("starting {}", agent.display()))?;
    if !output.status.success() {
        bail!(
            "dns-cache {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("its output is no text")
}

/// From the table of `dns-cache verifier`: a heading, and a row a program.
fn parse(table: &str) -> Option<Vec<Program>> {
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    if !lines.next()?.starts_with("program ") {
        return None;
    }
    lines
        .map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            let numbers: Option<Vec<Option<u64>>> = fields
                .map(|field| match field {
                    "?" => Some(None),
                    number => number.parse().ok().map(Some),
                })
                .collect();
            match numbers?[..] {
                [instructions, processed, stack, translated_bytes] => Some(Program {
                    name,
                    instructions,
                    processed,
                    stack,
                    translated_bytes,
                }),
                _ => None,
            }
        })
        .collect()
}

/// The last run that was recorded there on a machine and kernel like this one.
pub(super) fn before(dir: &Path, machine: &Machine) -> Option<Record> {
    records(dir)
        .into_iter()
        .find(|record| record.is_of(machine))
}

/// Records a run in the place of the last one of its machine and kernel.
pub(super) fn record(dir: &Path, machine: &Machine, micro: &Micro) -> Result<()> {
    let mut records = records(dir);
    records.retain(|record| !record.is_of(machine));
    records.push(Record {
        processor: machine.processor.clone(),
        kernel: machine.kernel.clone(),
        commit: machine.commit.clone(),
        time: machine.time.clone(),
        micro: micro.clone(),
    });
    let json = serde_json::to_string_pretty(&records).context("writing JSON")?;
    output::write_file(dir, FILE, &(json + "\n"))
}

/// None where there is no file, or one of another version of this program.
fn records(dir: &Path) -> Vec<Record> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

impl Record {
    fn is_of(&self, machine: &Machine) -> bool {
        (&self.processor, &self.kernel) == (&machine.processor, &machine.kernel)
    }
}

/// A title, and a table with its heading.
pub(super) type Titled = (&'static str, Vec<Vec<String>>);

/// Tables, each beside the last run's.
pub(super) fn tables(micro: &Micro, before: Option<&Record>) -> [Titled; 3] {
    let before = before.map(|record| &record.micro);
    [
        (
            "A hit in the kernel by test runs: ns to the end of each stage",
            stages(micro, before),
        ),
        (
            "A hit of a name at random by test runs: ns",
            sizes(micro, before),
        ),
        (
            "Instructions that the verifier goes through, of 1,000,000",
            programs(micro, before),
        ),
    ]
}

/// What is compared with.
pub(super) fn compared(before: Option<&Record>) -> String {
    before.map_or_else(
        || "No earlier run on this machine and kernel is recorded.".to_owned(),
        |Record {
             commit,
             time,
             micro,
             ..
         }| {
            let marks = match &micro.remarks[..] {
                [] => String::new(),
                remarks => format!(", marked: {}", remarks.join("; ")),
            };
            format!("The last run on this machine and kernel: {time}, source {commit}{marks}.")
        },
    )
}

fn stages(micro: &Micro, before: Option<&Micro>) -> Vec<Vec<String>> {
    let mut rows = vec![heading(&["up to", "ns", "added"])];
    let mut last = 0;
    for stage in &micro.stages {
        let earlier = before.and_then(|before| {
            let stage = before
                .stages
                .iter()
                .find(|other| other.name == stage.name)?;
            Some(stage.nanos)
        });
        let added = stage.nanos.cast_signed() - last;
        last = stage.nanos.cast_signed();
        let own = [
            stage.name.clone(),
            stage.nanos.to_string(),
            format!("{added:+}"),
        ];
        rows.push(beside(own, Some(stage.nanos), earlier));
    }
    rows
}

fn sizes(micro: &Micro, before: Option<&Micro>) -> Vec<Vec<String>> {
    let mut rows = vec![heading(&["entries", "ns", "ratio"])];
    let first = micro.sizes.first().map_or(0, |(_, nanos)| *nanos);
    for (entries, nanos) in &micro.sizes {
        let earlier = before.and_then(|before| {
            let (_, nanos) = before.sizes.iter().find(|(other, _)| other == entries)?;
            Some(*nanos)
        });
        let ratio = *nanos as f64 / first.max(1) as f64;
        let own = [
            grouped(&entries.to_string()),
            nanos.to_string(),
            format!("{ratio:.2}"),
        ];
        rows.push(beside(own, Some(*nanos), earlier));
    }
    rows
}

fn programs(micro: &Micro, before: Option<&Micro>) -> Vec<Vec<String>> {
    let titles = [
        "program",
        "instructions",
        "stack",
        "translated bytes",
        "processed",
    ];
    let mut rows = vec![heading(&titles)];
    for program in &micro.programs {
        let earlier = before.and_then(|before| {
            let mut programs = before.programs.iter();
            programs.find(|other| other.name == program.name)?.processed
        });
        let [instructions, stack, translated, processed] = [
            program.instructions,
            program.stack,
            program.translated_bytes,
            program.processed,
        ]
        .map(|number| number.map_or_else(|| "?".to_owned(), |number| number.to_string()));
        let own = [
            program.name.clone(),
            instructions,
            stack,
            translated,
            processed,
        ];
        rows.push(beside(own, program.processed, earlier));
    }
    rows
}

fn heading(titles: &[&str]) -> Vec<String> {
    let all = titles.iter().chain(&["last run", "change"]);
    all.map(|title| (*title).to_owned()).collect()
}

/// A row, with the last run's number and the change.
fn beside<const N: usize>(own: [String; N], now: Option<u64>, earlier: Option<u64>) -> Vec<String> {
    let mut row = own.to_vec();
    let nothing = || "–".to_owned();
    row.push(earlier.map_or_else(nothing, |earlier| earlier.to_string()));
    row.push(match (now, earlier) {
        (Some(now), Some(earlier)) if earlier > 0 => {
            let percent = (now as f64 / earlier as f64 - 1.0) * 100.0;
            format!("{percent:+.1} %")
        }
        _ => nothing(),
    });
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "\
program      instructions  processed (of 1000000)  stack (of 512)  translated bytes
pod_ingress          3089                  437784             408             25656
pod_egress            591                       ?             360                 ?
";

    fn micro(nanos: u64) -> Micro {
        Micro {
            stages: vec![Stage {
                name: "find".to_owned(),
                nanos,
            }],
            sizes: vec![(1000, nanos), (100_000, nanos * 2)],
            programs: parse(VERIFIER).unwrap(),
            remarks: Vec::new(),
        }
    }

    fn machine(kernel: &str) -> Machine {
        Machine {
            processor: "a".to_owned(),
            cpus: 1,
            memory_mib: 1,
            kernel: kernel.to_owned(),
            system: String::new(),
            commit: "c0ffee".to_owned(),
            time: "today".to_owned(),
        }
    }

    #[test]
    fn what_the_verifier_says() {
        let programs = parse(VERIFIER).unwrap();
        assert_eq!((programs.len(), programs[0].processed), (2, Some(437_784)));
        assert_eq!(
            (programs[1].stack, programs[1].processed),
            (Some(360), None)
        );
        assert_eq!(parse("program x\na 1 2 3\n"), None);
        assert_eq!(parse("error: no\n"), None);
    }

    #[test]
    fn a_record_is_of_its_machine_and_kernel() {
        let dir = tempfile::tempdir().unwrap();
        assert!(before(dir.path(), &machine("6.18")).is_none());
        for (kernel, nanos) in [("6.18", 100), ("6.12", 300), ("6.18", 200)] {
            record(dir.path(), &machine(kernel), &micro(nanos)).unwrap();
        }
        let nanos = |kernel| Some(before(dir.path(), &machine(kernel))?.micro.stages[0].nanos);
        assert_eq!(
            (nanos("6.18"), nanos("6.12"), nanos("5.10")),
            (Some(200), Some(300), None)
        );
        let earlier = before(dir.path(), &machine("6.12"));
        assert!(compared(earlier.as_ref()).contains("today, source c0ffee."));
    }

    #[test]
    fn all_three_tables_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), &machine("6.18"), &micro(200)).unwrap();
        let earlier = before(dir.path(), &machine("6.18"));
        let [stages, sizes, programs] = tables(&micro(150), earlier.as_ref());
        assert_eq!(stages.1[1], ["find", "150", "+150", "200", "-25.0 %"]);
        assert_eq!(sizes.1[2], ["100,000", "300", "2.00", "400", "-25.0 %"]);
        assert_eq!(programs.1[1][4..], ["437784", "437784", "+0.0 %"]);
        assert_eq!(programs.1[2][4..], ["?", "–", "–"]);
        let [stages, ..] = tables(&micro(150), None);
        assert_eq!(stages.1[1], ["find", "150", "+150", "–", "–"]);
    }

    #[test]
    fn stages_of_several_calls_have_one_median() {
        let calls = [30, 10, 20].map(|nanos| micro(nanos).stages);
        assert_eq!(medians(&calls), micro(20).stages);
        assert_eq!(medians(&[]), []);
    }
}
