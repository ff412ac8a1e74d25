//! `cargo xtask verifier`: what the verifier says of each program.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::{self, Want};
use crate::{build, root};

/// Print each eBPF program's processed instructions and stack, as this kernel's verifier sees them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<ExitCode> {
    setup::ensure(Want::WithoutCoreDns)?;
    let agent = build::agent()?;
    let agent = agent
        .to_str()
        .context("the target folder's path is no UTF-8")?;
    let status = root::command(agent, "loading eBPF programs")?
        .arg("verifier")
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
