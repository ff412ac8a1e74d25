//! The `dns-cache` command.

use std::process::ExitCode;

use clap::Parser;
use dns_cache::cli::Cli;

// What is released must end as a whole: the programs pass by an agent that is gone, not one that has lost a thread.
#[cfg(not(any(debug_assertions, test, panic = "abort")))]
compile_error!("the release profile has `panic = \"abort\"`");

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
