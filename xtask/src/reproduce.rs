//! `cargo xtask reproduce`: the incidents, first on the ordinary path, then with the agent.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use dns_cache_tests::incidents::{self, Incident, Setting};
use dns_cache_tests::signals;

use crate::root;
use crate::setup::Want;

/// Show the four incidents on the ordinary path, and gone with the agent; and what the agent's own end costs
///
/// The second one sets nf_conntrack_max to 64 for the whole machine, for as long as its lookups take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The post-mortems by number, what becomes of the agent by name
    #[arg(value_name = "WHICH", default_value = "all", value_parser = keys())]
    which: Vec<String>,
    /// Lookups a second at the agent's end; 20,000 if not said, 5,000 for detach
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000))]
    rate: Option<u32>,
    /// Few lookups, as in the tests
    #[arg(long)]
    quick: bool,
    /// The agent's program, built already: set when this program calls itself as root
    #[arg(long, hide = true)]
    agent: Option<PathBuf>,
}

const ALL: &str = "all";

fn keys() -> PossibleValuesParser {
    PossibleValuesParser::new(
        incidents::ALL
            .map(|incident| incident.key)
            .into_iter()
            .chain([ALL]),
    )
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    root::in_lab(args.agent.as_ref(), Want::Everything, |agent| {
        reproduce(args, agent)
    })
}

fn reproduce(args: &Args, agent: PathBuf) -> Result<ExitCode> {
    signals::clean_up_on_signals(|| eprintln!("\nCleaning up …"))
        .context("listening to signals")?;
    let setting = Setting {
        agent: Some(agent),
        full: !args.quick,
        rate: args.rate,
    };
    let wanted = |incident: &&Incident| {
        let mut which = args.which.iter();
        which.any(|which| which == ALL || which == incident.key)
    };
    let mut problems = Vec::new();
    for incident in incidents::ALL.iter().filter(wanted) {
        println!("{}: {} …", incident.key, incident.title);
        if let Some(lacks) = incident.lacks() {
            println!("  not here: {lacks}\n");
            if args.which.iter().any(|which| which == incident.key) {
                bail!("{}: {lacks}", incident.key);
            }
            continue;
        }
        let start = Instant::now();
        let report = incident.run(&setting);
        println!("\n{report}  ({} s)\n", start.elapsed().as_secs());
        let found = report.problems().into_iter();
        problems.extend(found.map(|problem| format!("{}: {problem}", incident.key)));
    }
    if !problems.is_empty() {
        bail!("not as it must be:\n{}", problems.join("\n"));
    }
    println!(
        "Every fault was shown where there was one to show, and with dns-cache there was none."
    );
    Ok(ExitCode::SUCCESS)
}
