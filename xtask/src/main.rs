//! `cargo xtask`: set-up, a local lab, tests and figures.

mod apt;
mod bench;
mod build;
mod chaos;
mod chart;
mod cluster;
mod ebpf_toolchain;
mod exec;
mod fuzz;
mod image;
mod kernel;
mod programs;
mod replay;
mod reproduce;
mod root;
mod run;
mod setup;
mod step;
mod test;
mod unit_tests;
mod verifier;
mod versions;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything that developing dns-cache needs.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Run(run::Args),
    Exec(exec::Args),
    Test(test::Args),
    Verifier(verifier::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Replay(replay::Args),
    Reproduce(reproduce::Args),
    Chaos(chaos::Args),
    Image(image::Args),
    Chart(chart::Args),
    Cluster(cluster::Args),
    Kernel(kernel::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Exec(args) => exec::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Verifier(args) => verifier::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Reproduce(args) => reproduce::main(&args),
        Command::Chaos(args) => chaos::main(&args),
        Command::Image(args) => image::main(&args),
        Command::Chart(args) => chart::main(&args),
        Command::Cluster(args) => cluster::main(&args),
        Command::Kernel(args) => kernel::main(&args),
    };
    report(result)
}

fn report(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
