//! The `dns-cache` command.

use std::process::ExitCode;

use clap::Parser;
use dns_cache::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A list of mistakes has a line for each, fit for editors: nothing is put in front.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
