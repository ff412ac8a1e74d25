//! `cargo xtask fuzz`: any bytes for what reads bytes from outside, on the stable compiler.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Want};
use crate::unit_tests;

/// The variable that says how long each target has.
const SECONDS: &str = "DNS_CACHE_FUZZ_SECONDS";

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
    let name = args.target.and_then(|target| target.to_possible_value());
    let name = name.as_ref().map_or("", |value| value.get_name());
    let seconds = args.seconds.to_string();
    unit_tests::run(&format!("fuzz::run::{name}"), (SECONDS, &seconds))
}
