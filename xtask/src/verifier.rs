//! What the verifier says of each program: processed instructions and stack.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Prints each program's figures.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<ExitCode> {
    bail!("not there yet")
}
