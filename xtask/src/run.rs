//! `cargo xtask run`: a lab with the agent in it, and a demonstration.

mod demonstration;
mod lookup;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::{Agent, AgentConfig, Lab, Upstream, signals};

use crate::root;
use crate::setup::Want;

/// Start a lab, show the way of a handful of lookups without the agent and with it, and stay up
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the demonstration; exit status 0 only if every lookup was right
    #[arg(long)]
    once: bool,
    /// The cluster DNS: `embedded`, `coredns`, or the address of a server to forward to
    #[arg(long, value_name = "WHICH", default_value_t = Upstream::Embedded)]
    upstream: Upstream,
    /// How many pods
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    pods: u16,
    /// The agent's program, built already: set when this program calls itself as root
    #[arg(long, hide = true)]
    agent: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let want = if args.upstream == Upstream::CoreDns {
        Want::Everything
    } else {
        Want::WithoutCoreDns
    };
    root::in_lab(args.agent.as_ref(), want, |agent| lab(args, agent))
}

fn lab(args: &Args, binary: PathBuf) -> Result<ExitCode> {
    signals::clean_up_on_signals(|| eprintln!("\nCleaning up …"))
        .context("listening to signals")?;
    println!(
        "Making a lab: {} pods, cluster DNS: {} …",
        args.pods, args.upstream
    );
    let lab = Lab::builder()
        .pods(args.pods)
        .upstream(args.upstream)
        .start();
    println!("The lab's id is {}.\n", lab.id());

    let without = demonstration::show("Without the agent", &lab, args.upstream, None, None);
    let agent = lab.agent(&AgentConfig {
        binary: Some(binary.clone()),
        wedged_after: None,
        ..AgentConfig::default()
    });
    let with = demonstration::show(
        "With the agent",
        &lab,
        args.upstream,
        Some(&agent),
        Some(&without),
    );
    let right = without.is_right() && with.is_right();
    println!(
        "{}",
        match (without.is_right(), with.is_right()) {
            (true, true) =>
                "All lookups were right; without the agent conntrack saw each, with it none.",
            (false, _) =>
                "WITHOUT the agent not all lookups were right and seen by conntrack: the lab does not show what the agent spares the node.",
            (true, false) => "WITH the agent NOT all lookups were right and unseen by conntrack.",
        }
    );
    if args.once {
        return Ok(if right {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    println!("{}", hints(&lab, &agent, &binary));
    loop {
        if let Some(status) = agent.process().exit_status() {
            bail!("the agent ended with {status}:\n{}", agent.log());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn hints(lab: &Lab, agent: &Agent, binary: &std::path::Path) -> String {
    let id = lab.id();
    format!(
        "\nThe lab stays up until Ctrl-C. In another terminal:\n  \
         cargo xtask exec --lab {id} pod1 -- dig +search web        a lookup from a pod\n  \
         cargo xtask exec --lab {id} pod1                           a shell in the pod\n  \
         cargo xtask exec --lab {id} node -- conntrack -L           the node's conntrack table\n  \
         cargo xtask exec --lab {id} node -- iptables-save -t nat   kube-proxy's rules\n  \
         {} status --state-dir {}   what the agent counts (as root)\n  \
         tail -f {}   its log\n",
        binary.display(),
        agent.state_dir().display(),
        agent.process().log_path().display(),
    )
}
