//! `cargo xtask chaos`: everything that can happen, at random, while clients check every answer.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use dns_cache_tests::chaos::Chaos;
use dns_cache_tests::signals;

use crate::programs::workspace;
use crate::root;
use crate::setup::Want;

/// Kill, stop, restart, detach, upgrade and reload the agent, break its servers, and churn pods, at random; check every answer
///
/// Now and then it sets nf_conntrack_max for the whole machine, so that its own node's table is full for some seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What happens and when; without it, something else each time
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The agent's program, built already: set when this program calls itself as root
    #[arg(long, hide = true)]
    agent: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    root::in_lab(args.agent.as_ref(), Want::WithoutCoreDns, |agent| {
        chaos(args, agent)
    })
}

fn chaos(args: &Args, agent: PathBuf) -> Result<ExitCode> {
    signals::clean_up_on_signals(|| eprintln!("\nCleaning up …"))
        .context("listening to signals")?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = args.seed.unwrap_or(since_1970.as_secs());
    println!("seed {seed}, {} s …", args.seconds);
    let outcome = Chaos {
        seed,
        time: Duration::from_secs(args.seconds),
        agent: Some(agent),
    }
    .run();
    println!("{outcome}");
    if outcome.faults.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let log = workspace().join(format!("target/chaos-{seed}.log"));
    fs::write(&log, &outcome.log).with_context(|| format!("writing {}", log.display()))?;
    println!("What the agents have logged is in {}.", log.display());
    bail!(
        "again: cargo xtask chaos --seconds {} --seed {seed}",
        args.seconds
    )
}
