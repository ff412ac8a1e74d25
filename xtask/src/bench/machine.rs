//! Where it was measured.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use serde::Serialize;

use crate::programs::workspace;

/// Machine, kernel, source.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cpus: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    pub(super) system: String,
    pub(super) commit: String,
    pub(super) time: String,
}

impl Machine {
    /// This one, now.
    pub(super) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| {
                Some(
                    line.split_once(separator)?
                        .1
                        .trim()
                        .trim_matches('"')
                        .to_owned(),
                )
            })
        };
        let unknown = || "unknown".to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_else(unknown),
            cpus: available_parallelism().map_or(1, usize::from),
            memory_mib: memory
                .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_else(unknown),
            commit: output(Command::new("git").current_dir(workspace()).args([
                "describe",
                "--always",
                "--dirty",
                "--abbrev=12",
            ]))
            .unwrap_or_else(unknown),
            time: output(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M UTC"]))
                .unwrap_or_else(unknown),
        }
    }
}

/// The first line that a command prints; nothing if it fails.
pub(super) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
