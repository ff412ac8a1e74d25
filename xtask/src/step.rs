//! A long step: its output goes to a log, signs of life to the terminal, the log's end too when it fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// Runs a command to its end; fails if it fails or takes longer than `limit`.
pub(crate) fn run(what: &str, command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    println!("{what} (log: {})", log.display());
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("running {program}"))?;
    let start = Instant::now();
    let mut next = SIGN_OF_LIFE;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!(
                "{program} ended with {status}; the end of {}:\n{}",
                log.display(),
                tail(log)
            );
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "{program} did not end within {limit:?}; the end of {}:\n{}",
                log.display(),
                tail(log)
            );
        }
        if start.elapsed() > next {
            println!(
                "  … {} s: {}",
                start.elapsed().as_secs(),
                tail(log).lines().last().unwrap_or("").trim()
            );
            next += SIGN_OF_LIFE;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
