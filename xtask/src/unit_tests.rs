//! Some of the agent's unit tests, told by a variable what to do.

use std::process::ExitCode;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use crate::programs::{cargo, workspace};

/// Runs those whose names contain `filter`, one after the other, and shows what they print.
pub(crate) fn run(filter: &str, (variable, value): (&str, &str)) -> Result<ExitCode> {
    let mut command = cargo();
    command
        .current_dir(workspace())
        .args(["test", "--locked", "--package", "dns-cache", "--lib", "--"])
        .args([filter, "--nocapture", "--test-threads", "1"])
        .env(variable, value)
        .env(tools::TOOLS_VARIABLE, tools::folder());
    let status = command.status().context("running cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
