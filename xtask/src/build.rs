//! Building with cargo, as the user.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;
use serde_json::Value;

use crate::programs::{cargo, workspace};

/// A program that cargo built.
#[derive(Debug)]
pub(crate) struct Executable {
    /// The target's name.
    pub(crate) name: String,
    /// `lib`, `bin`, `test` …
    pub(crate) kind: String,
    /// The package's folder: where cargo runs tests.
    pub(crate) dir: PathBuf,
    pub(crate) path: PathBuf,
    /// Built with libtest's main; false for a program that integration tests run.
    is_test: bool,
}

/// The release build of the agent.
pub(crate) fn agent() -> Result<PathBuf> {
    println!("Building the agent …");
    let built = executables(&["build", "--release", "--package", "dns-cache"])?;
    let agent = built
        .into_iter()
        .find(|e| e.kind == "bin" && e.name == "dns-cache");
    Ok(agent
        .context("cargo built no program named dns-cache")?
        .path)
}

/// All test programs of the workspace. (The eBPF crate has none: it is no program of this machine.)
pub(crate) fn tests() -> Result<Vec<Executable>> {
    println!("Building the tests …");
    let mut built = executables(&[
        "test",
        "--workspace",
        "--exclude",
        "dns-cache-ebpf",
        "--no-run",
    ])?;
    built.retain(|executable| executable.is_test);
    Ok(built)
}

fn executables(args: &[&str]) -> Result<Vec<Executable>> {
    let mut command = cargo();
    command.current_dir(workspace()).args(args).args([
        "--locked",
        "--quiet",
        "--message-format",
        "json-render-diagnostics",
    ]);
    command.env(tools::TOOLS_VARIABLE, tools::folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("running cargo")?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let mut built = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        built.extend(executable(&message));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(built)
}

fn executable(message: &Value) -> Option<Executable> {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    Some(Executable {
        path: text("/executable")?.into(),
        is_test: message.pointer("/profile/test")?.as_bool()?,
        name: text("/target/name")?.to_owned(),
        kind: text("/target/kind/0")?.to_owned(),
        dir: Path::new(text("/manifest_path")?).parent()?.to_owned(),
    })
}
