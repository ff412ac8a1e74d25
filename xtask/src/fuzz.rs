//! `cargo xtask fuzz`: any bytes for what reads bytes from outside, on the stable compiler.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;
use dns_cache_tests::tools;

use crate::programs::{cargo, workspace};
use crate::setup::{self, Want};

/// Run the fuzz targets: their corpus (dns-cache/fuzz/corpus), and mutations of it
///
/// An input that makes a target panic is kept in the corpus. cargo-fuzz runs the same targets, on nightly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this one
    target: Option<Target>,
    /// For each target
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    seconds: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// Queries, as resolver and eBPF programs read them
    Query,
    /// Responses of upstreams, their way into the caches, and what clients are given of them
    Response,
    /// Requests on the control socket
    Control,
    /// Configuration files
    Config,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::ensure(Want::WithoutCoreDns)?;
    let mut command = Command::new(cargo());
    command.current_dir(workspace());
    command.args(["test", "--locked", "--package", "dns-cache", "--lib", "--"]);
    let all = "fuzz::run::".to_owned();
    let name = |target: Target| {
        target
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
    };
    command.arg(match args.target.and_then(name) {
        Some(target) => all + &target,
        None => all,
    });
    command.args(["--nocapture", "--test-threads", "1"]);
    command
        .env("DNS_CACHE_FUZZ_SECONDS", args.seconds.to_string())
        .env(tools::TOOLS_VARIABLE, tools::folder());
    let status = command.status().context("running cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
