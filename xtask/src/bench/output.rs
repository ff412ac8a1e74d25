//! The files of a run.

use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{Context, Result};

use super::page;
use super::readme;
use super::report::Report;

/// Writes `bench.json`, `bench.html`, and what the README shows, if anything was to be reached.
pub(super) fn write(dir: &Path, report: &Report) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("writing JSON")?;
    println!();
    write_file(dir, "bench.json", &(json + "\n"))?;
    write_file(dir, "bench.html", &page::render(report))?;
    if report.targets.is_empty() {
        return Ok(());
    }
    write_file(dir, readme::FILE, &readme::render(report))
}

/// Writes one of them, and says so.
pub(super) fn write_file(dir: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    give(dir);
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    give(&path);
    println!("wrote {}", path.display());
    Ok(())
}

/// Under sudo, what is in the target folder belongs to the user who called it.
fn give(path: &Path) {
    let id = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        // A file system without owners is no reason to fail.
        let _ = chown(path, Some(user), Some(group));
    }
}
