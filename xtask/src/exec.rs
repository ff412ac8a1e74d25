//! `cargo xtask exec`: a command in a pod of a running lab.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use dns_cache_tests::scope;

use crate::root;

/// Run a command, or a shell, in a pod of a running lab
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lab's id; without it, the newest lab that runs
    #[arg(long, value_name = "ID")]
    lab: Option<String>,
    /// Where: `pod1`, `pod2`, `dns1`, `outside` or `node`
    #[arg(value_name = "POD")]
    pod: String,
    /// The command; without it, a shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if !root::is_root() {
        match root::again(env::args_os().skip(1))? {}
    }
    let labs = scope::running();
    let lab = match &args.lab {
        Some(id) if labs.contains(id) => id,
        Some(id) => bail!("no lab {id} runs; {}", known(&labs)),
        None => labs
            .last()
            .context("no lab runs; `cargo xtask run` starts one")?,
    };
    if args.lab.is_none() && labs.len() > 1 {
        eprintln!("{}; this is {lab}", known(&labs));
    }
    let name = scope::netns_name(lab, &args.pod);
    let path = Path::new(scope::NETNS).join(&name);
    if !path.exists() {
        bail!(
            "the lab {lab} has no {}; it has {}",
            args.pod,
            places(lab).join(", ")
        );
    }
    // `ip netns exec` lays the pod's resolv.conf over /etc, but hides /sys/fs/bpf.
    let mut command = if args.pod == "node" {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net={}", path.display()));
        nsenter
    } else {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &name]);
        ip
    };
    match args.command.as_slice() {
        [] => command.arg(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
        words => command.args(words),
    };
    // The command keeps this pid: it ends with the lab at the latest.
    scope::record_process(lab, nix::unistd::getpid().as_raw(), &args.pod);
    Err(command.exec()).context("running the command")
}

fn known(labs: &[String]) -> String {
    match labs {
        [] => "none does".to_owned(),
        labs => format!("running: {}", labs.join(", ")),
    }
}

fn places(lab: &str) -> Vec<String> {
    let prefix = scope::netns_name(lab, "");
    let entries = std::fs::read_dir(scope::NETNS)
        .into_iter()
        .flatten()
        .flatten();
    let mut places: Vec<_> = entries
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix(&prefix)?
                    .to_owned(),
            )
        })
        .collect();
    places.sort();
    places
}
