//! A long step: its output goes to a log, signs of life to the terminal, the log's end too when it fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// What depends on others' servers is tried so often.
pub(crate) const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// As [`run`], again when it fails: `limit` is for each of [`TRIES`].
pub(crate) fn run_until_done(
    what: &str,
    command: &mut Command,
    log: &Path,
    limit: Duration,
) -> Result<()> {
    until_done(|| run(what, command, log, limit))
}

/// Does it again when it fails, after a moment and at most [`TRIES`] times in all.
pub(crate) fn until_done<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for left in (1..TRIES).rev() {
        match attempt() {
            Err(error) => println!("  {error:#}\n  … again, {left} more at most"),
            done => return done,
        }
        thread::sleep(PAUSE);
    }
    attempt()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_at_first_is_done_again() {
        let mut attempts = 0;
        let done = until_done(|| {
            attempts += 1;
            if attempts < 2 {
                bail!("the network is away");
            }
            Ok(attempts)
        });
        assert_eq!(done.unwrap(), 2);
    }
}
