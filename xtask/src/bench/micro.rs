//! The stages of an answer in the kernel, by test runs, against the last run on this machine; and what the
//! verifier says of each program.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// Entries in the cache for hits of names at random.
const ENTRIES: &str = "1000,100000,1000000";
const LOOKUPS: &str = "20000";

/// What test runs and the verifier say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Micro {
    /// Nanoseconds from the packet's arrival to the end of each stage.
    pub(super) stages: Vec<Stage>,
    /// Entries, and the median nanoseconds of a hit of a name at random among them.
    pub(super) sizes: Vec<(u32, u64)>,
    /// `dns-cache verifier`, as it prints it.
    pub(super) verifier: String,
}

/// A stage, with all that comes before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) nanos: u64,
}

/// The part of an earlier bench.json that is compared with.
#[derive(Debug, Deserialize)]
struct Earlier {
    machine: EarlierMachine,
    micro: Micro,
}

#[derive(Debug, Deserialize)]
struct EarlierMachine {
    processor: String,
    kernel: String,
}

/// Measures.
pub(super) fn run(agent: &Path, quick: bool) -> Result<Micro> {
    #[derive(Deserialize)]
    struct Measured {
        stages: Vec<Stage>,
        sizes: Vec<(u32, u64)>,
    }
    let (entries, lookups) = if quick {
        ("1000,10000", "2000")
    } else {
        (ENTRIES, LOOKUPS)
    };
    let measured = output(
        agent,
        &["measure", "--entries", entries, "--lookups", lookups],
    )?;
    let Measured { stages, sizes } =
        serde_json::from_str(&measured).context("reading what `dns-cache measure` printed")?;
    Ok(Micro {
        stages,
        sizes,
        verifier: output(agent, &["verifier"])?,
    })
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

/// The last run that was recorded there, if it was on a machine and kernel like this one.
pub(super) fn before(dir: &Path, machine: &Machine) -> Option<Micro> {
    let text = fs::read_to_string(dir.join("bench.json")).ok()?;
    let earlier: Earlier = serde_json::from_str(&text).ok()?;
    let same = (earlier.machine.processor, earlier.machine.kernel)
        == (machine.processor.clone(), machine.kernel.clone());
    same.then_some(earlier.micro)
}

/// Tables for a terminal.
pub(super) fn render(micro: &Micro, before: Option<&Micro>) -> String {
    let mut text =
        "\nA hit in the kernel by test runs, the same packet again and again: ns to the end of each stage\n\n"
            .to_owned();
    let mut last = 0;
    for stage in &micro.stages {
        let earlier = before
            .and_then(|before| before.stages.iter().find(|other| other.name == stage.name))
            .map_or_else(String::new, |other| {
                format!("   (last run {})", other.nanos)
            });
        let _ = writeln!(
            text,
            "{:<8} {:>5}  +{:<4}{earlier}",
            stage.name,
            stage.nanos,
            stage.nanos.saturating_sub(last)
        );
        last = stage.nanos;
    }
    text += "send includes what puts the packet back for the next run.\n\nA hit of a name at random, up to `find`, each a run of its own (median ns)\n\n";
    let first = micro.sizes.first().map_or(0, |(_, nanos)| *nanos);
    for (entries, nanos) in &micro.sizes {
        let _ = writeln!(
            text,
            "{entries:>9} entries {nanos:>5}  × {:.2}",
            *nanos as f64 / first.max(1) as f64
        );
    }
    let _ = writeln!(text, "\n{}", micro.verifier);
    text
}
