//! Becoming root, for what needs it and for no more.

use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, stdin};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use crate::build;
use crate::programs::find;
use crate::setup::{self, Want};

/// Variables that what runs elsewhere shall see as the user had them.
pub(crate) const KEPT: [&str; 5] = [
    "PATH",
    "HOME",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "RUST_TEST_THREADS",
];

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command as root that never asks for a password.
pub(crate) fn command(program: &str, why: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let allowed = find("sudo").is_some()
        && Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
    if !allowed {
        bail!(
            "{why} needs root, and `sudo` is not to be had without a password: run `sudo -v` first, or run this as root"
        );
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "env"]).args(kept()).arg(program);
    Ok(command)
}

/// Runs this program anew as root with these arguments in place of itself; `sudo` may ask at a terminal.
pub(crate) fn again(args: impl IntoIterator<Item = OsString>) -> Result<std::convert::Infallible> {
    if find("sudo").is_none() {
        bail!("network namespaces need root, and there is no `sudo`: run this as root");
    }
    let mut command = Command::new("sudo");
    if !stdin().is_terminal() {
        command.arg("-n");
    }
    let own = env::current_exe().context("finding this program's own path")?;
    Err(command.arg("env").args(kept()).arg(own).args(args).exec()).context("running sudo")
}

/// Works in a lab as root, with an agent that was built as the user: `given` is its program in this program's own call
/// of itself.
pub(crate) fn in_lab(
    given: Option<&PathBuf>,
    want: Want,
    work: impl FnOnce(PathBuf) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let agent = match given {
        None => {
            setup::ensure(want)?;
            let agent = build::agent()?;
            if !is_root() {
                return again_for_lab(agent);
            }
            agent
        }
        Some(_) if !is_root() => bail!("--agent is for this program's own call as root"),
        Some(agent) => agent.clone(),
    };
    work(agent)
}

fn again_for_lab(agent: PathBuf) -> Result<ExitCode> {
    println!("The lab needs root for its network namespaces: asking sudo.");
    let own = env::args_os()
        .skip(1)
        .chain([OsString::from("--agent"), agent.into_os_string()]);
    match again(own)? {}
}

fn kept() -> Vec<OsString> {
    let pair = |name: &str, value: OsString| {
        let mut pair = OsString::from(format!("{name}="));
        pair.push(value);
        pair
    };
    let mut kept: Vec<_> = KEPT
        .iter()
        .chain(&[tools::BINARY_VARIABLE])
        .filter_map(|name| Some(pair(name, env::var_os(name)?)))
        .collect();
    kept.push(pair(tools::TOOLS_VARIABLE, tools::folder().into()));
    kept
}
