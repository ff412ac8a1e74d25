//! Helm, built with Go into the tools folder.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, go};
use crate::step;
use crate::versions::{HELM, HELM_MODULE};

/// Helm.
pub(in crate::setup) struct Helm;

impl Part for Helm {
    fn name(&self) -> String {
        format!("Helm {HELM}")
    }

    fn found(&self) -> Option<String> {
        // It was told no version when it was built: the tool that built it knows.
        let output = Command::new(crate::programs::find("go")?)
            .args(["version", "-m"])
            .arg(program())
            .output()
            .ok()?;
        let right = String::from_utf8_lossy(&output.stdout).contains(&format!("\tv{HELM}\t"));
        right.then(|| program().display().to_string())
    }

    fn install(&self) -> Result<()> {
        let mut command = go::command()?;
        command.args(["install", &format!("{HELM_MODULE}@v{HELM}")]);
        command.env("GOBIN", tools::folder().join("bin"));
        let log = tools::folder().join("logs/helm.log");
        step::run_until_done(
            "Building Helm, one to five minutes",
            &mut command,
            &log,
            Duration::from_secs(900),
        )
        .context("it comes from the Go module proxy")
    }
}

/// Its binary.
pub(crate) fn program() -> PathBuf {
    tools::folder().join("bin/helm")
}
