//! Debian packages.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use super::Part;
use crate::programs::find;
use crate::versions::PACKAGES;
use crate::{root, step};

const LIMIT: Duration = Duration::from_secs(900);

/// The programs that the lab runs.
pub(super) struct Packages;

impl Part for Packages {
    fn name(&self) -> String {
        let missing = missing();
        match missing.as_slice() {
            [] => "the lab's programs".to_owned(),
            packages => format!("the lab's programs: {}", packages.join(" ")),
        }
    }

    fn found(&self) -> Option<String> {
        missing().is_empty().then(|| {
            let mut programs = PACKAGES.map(|package| package.program);
            programs.sort_unstable();
            programs.join(" ")
        })
    }

    fn install(&self) -> Result<()> {
        install(&missing())
    }
}

fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> = PACKAGES
        .iter()
        .filter(|p| find(p.program).is_none())
        .map(|p| p.name)
        .collect();
    missing.dedup();
    missing
}

/// Installs packages, with fresh lists where there are none or these do not do.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        bail!(
            "this is no Debian or Ubuntu: install {} by your own means",
            packages.join(" ")
        );
    }
    let mut updated = false;
    if !has_lists() {
        update()?;
        updated = true;
    }
    let mut result = apt(packages);
    if result.is_err() && !updated {
        update()?;
        result = apt(packages);
    }
    result.with_context(|| format!("apt-get install {}", packages.join(" ")))
}

/// The version that apt would install.
pub(super) fn candidate(package: &str) -> Option<String> {
    if !has_lists() {
        update().ok()?;
    }
    let output = std::process::Command::new("apt-cache")
        .args(["policy", package])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

fn has_lists() -> bool {
    let lists = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    lists
        .into_iter()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

fn update() -> Result<()> {
    apt_get(
        "Fetching Debian's package lists",
        &["update"],
        "apt-update.log",
    )
    .context("apt-get update")
}

fn apt(packages: &[&str]) -> Result<()> {
    let args = ["install", "--yes", "--no-install-recommends"]
        .iter()
        .chain(packages)
        .copied()
        .collect::<Vec<_>>();
    apt_get(
        &format!("Installing {}", packages.join(" ")),
        &args,
        "apt-install.log",
    )
}

fn apt_get(what: &str, args: &[&str], log: &str) -> Result<()> {
    let mut command = root::command("env", "installing Debian packages")?;
    command
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(args);
    step::run(
        what,
        &mut command,
        &tools::folder().join("logs").join(log),
        LIMIT,
    )
}
