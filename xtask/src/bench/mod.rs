//! `cargo xtask bench`: dns-cache and others in one run, side by side.

mod bpf_stats;
mod chase;
mod cpu;
pub(crate) mod dnsperf;
mod escape;
mod figures;
mod fill;
mod generator;
mod kxdpgun;
mod ledger;
mod live;
mod loads;
mod machine;
mod marks;
mod micro;
mod names;
mod neighbours;
mod open_loop;
mod order;
mod output;
mod page;
mod plan;
mod probe;
mod progress;
mod readme;
mod relay;
mod report;
mod sanity;
mod search_list;
mod stages;
mod standing_start;
mod statistics;
mod svg;
mod systems;
mod table;
mod targets;
mod threads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use dns_cache_tests::signals;

use crate::programs::workspace;
use crate::root;
use crate::setup::Want;
use machine::Machine;
use order::Order;
use plan::Plan;
use progress::Progress;
use report::{Report, Sample};
use sanity::Limits;
use search_list::Cost;
use systems::{Running, Setting, System};

/// Measure dns-cache, CoreDNS, NodeLocalDNS, Unbound and dnsmasq in turns, on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One short round that only checks that every system answers and loses next to nothing
    #[arg(long)]
    quick: bool,
    /// Only the test runs and the verifier's figures, against the last ones recorded on this machine
    #[arg(long, conflicts_with_all = ["rounds", "systems"])]
    micro: bool,
    /// How many rounds over all systems
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Where bench.json and bench.html go; target/bench if not said
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only these systems, separated by commas
    #[arg(long, value_name = "SYSTEMS", value_delimiter = ',', value_parser = systems::find)]
    systems: Vec<&'static System>,
    /// The agent's program, built already: set when this program calls itself as root
    #[arg(long, hide = true)]
    agent: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let want = if args.micro {
        Want::WithoutCoreDns
    } else {
        Want::Benchmark
    };
    root::in_lab(args.agent.as_ref(), want, |agent| {
        let output = args.output.clone();
        let output = output.unwrap_or_else(|| workspace().join("target/bench"));
        if args.micro {
            test_runs(args.quick, &output, &agent)
        } else {
            measure(args, &output, agent)
        }
    })
}

fn test_runs(quick: bool, output: &Path, agent: &Path) -> Result<ExitCode> {
    let (micro, machine) = (micro::run(agent, quick)?, Machine::this());
    let before = micro::before(output, &machine);
    print!("{}", table::test_runs(&micro, before.as_ref()));
    if !quick {
        micro::record(output, &machine, &micro)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, output: &Path, agent: PathBuf) -> Result<ExitCode> {
    signals::clean_up_on_signals(|| {
        eprintln!("\nCleaning up …");
        bpf_stats::restore();
    })
    .context("listening to signals")?;
    let plan = Plan::new(args.quick, args.rounds);
    let systems: Vec<&System> = if args.systems.is_empty() {
        systems::ALL.iter().collect()
    } else {
        args.systems.clone()
    };
    let setting = Setting { agent };
    let running = start(&systems, &setting)?;
    let samples = rounds(&plan, &running)?;
    let mut report = Report::new(&plan, &running, samples);
    report.search_lists = search_lists(&plan, &running, &setting)?;
    // The labs go before the others come and before the long text.
    drop(running);
    report.live = live::run(&plan, &setting)?;
    report.standing_starts = standing_start::run(&plan, &setting)?;
    let micro = micro::run(&setting.agent, plan.quick)?;
    report.micro_before = micro::before(output, &report.machine);
    report.stages = stages::run(&plan, &setting, &micro.stages)?;
    report.micro = Some(micro);
    // A quick run is a check: its figures are no measure of anything.
    if !plan.quick {
        report.targets = targets::of(&report);
    }
    print!("{}", table::render(&report));
    output::write(output, &report)?;
    // Its test runs are short.
    if !plan.quick
        && let Some(micro) = &report.micro
    {
        micro::record(output, &report.machine, micro)?;
    }
    Ok(sanity::verdict(&report))
}

fn start(systems: &[&'static System], setting: &Setting) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for system in systems {
        println!("Starting {} …", system.title);
        running.push(
            system
                .start(setting)
                .with_context(|| format!("starting {}", system.title))?,
        );
    }
    Ok(running)
}

/// On all that resolve names, and on dns-cache without cuts.
fn search_lists(plan: &Plan, running: &[Running], setting: &Setting) -> Result<Vec<Cost>> {
    let resolving = running
        .iter()
        .filter(|running| running.system.resolves && running.system.only.is_none());
    let without_cuts = start(&[&systems::WITHOUT_CUTS], setting)?;
    let systems: Vec<_> = without_cuts.iter().chain(resolving).collect();
    search_list::run(plan.search_lists, &systems)
}

/// Every load on every system, in turns: no system twice in a row, but for one that alone is taken anew.
fn rounds(plan: &Plan, running: &[Running]) -> Result<Vec<Sample>> {
    let mut order = Order::new();
    let mut samples = Vec::new();
    let limits = Limits { quick: plan.quick };
    let mut progress = Progress::new(plan.measurements(running));
    for round in 1..=plan.rounds {
        for load in plan.loads(round) {
            let mut left = load.suitable(running.iter().map(|running| running.system));
            for attempt in 1..=plan.tries {
                let mut again = Vec::new();
                for index in order.next_sweep(&left) {
                    let (system, is_last) = (&running[index], attempt == plan.tries);
                    let sound = match load.measure(round, attempt, plan, system, &samples) {
                        Err(error) if !is_last => {
                            println!("{}, {}: {error:#}", system.system.title, load.title);
                            false
                        }
                        result => {
                            let sample = result.with_context(|| {
                                format!("{}, {}", system.system.title, load.title)
                            })?;
                            progress.show(plan, load, system, &sample);
                            let sound = sanity::faults_of(&sample, limits).is_empty();
                            samples.push(sample);
                            sound
                        }
                    };
                    if sound || is_last {
                        progress.done();
                    } else {
                        again.push(index);
                    }
                }
                left = again;
            }
        }
    }
    Ok(samples)
}
