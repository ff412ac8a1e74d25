//! A load generator that is a program: run to its end, for what it prints.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::{Netns, Process};

use crate::programs::find;

/// What one may take beyond its time.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a generator that is to take so long.
pub(super) fn run<'a>(
    netns: &Netns,
    name: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    time: Duration,
) -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let program = find(name).with_context(|| format!("{name} is not there"))?;
    let what = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let process = Process::start(netns, &what, &program, arguments);
    let end = Instant::now() + time + PATIENCE;
    let status = loop {
        if let Some(status) = process.exit_status() {
            break status;
        }
        if Instant::now() > end {
            bail!("{name} does not end:\n{}", process.log());
        }
        thread::sleep(Duration::from_millis(20));
    };
    let log = process.log();
    // One file a run would fill the lab's folder, which is in memory.
    let _ = fs::remove_file(process.log_path());
    if !status.success() {
        bail!("{name} ended with {status}:\n{log}");
    }
    Ok(log)
}
