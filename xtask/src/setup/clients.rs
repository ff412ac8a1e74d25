//! The small programs that look names up as applications do, and one that runs the agent as on another kernel, built from `tests/clients` into the tools folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, go};
use crate::programs::workspace;
use crate::step;

/// All of them.
pub(super) struct Clients;

/// A compiler with its arguments, the source, and what is linked to it; the program's name is `client-` and the first.
const PROGRAMS: [(&str, &[&str], &str, &[&str]); 6] = [
    ("glibc", &["gcc"], "getaddrinfo.c", &[]),
    ("musl", &["musl-gcc", "-static"], "getaddrinfo.c", &[]),
    // It is started by a newer musl.
    ("musl-dynamic", &["musl-gcc"], "getaddrinfo.c", &[]),
    ("cares", &["gcc"], "cares.c", &["-lcares"]),
    ("without", &["gcc"], "without.c", &[]),
    ("go", &["go", "build"], "lookups.go", &[]),
];

impl Part for Clients {
    fn name(&self) -> String {
        "test clients".to_owned()
    }

    fn found(&self) -> Option<String> {
        let built = |name: &str, source: &str| {
            Some(changed(path(name))? >= changed(workspace().join("tests/clients").join(source))?)
        };
        PROGRAMS
            .iter()
            .all(|(name, _, source, _)| built(name, source) == Some(true))
            .then(|| tools::folder().join("bin/client-*").display().to_string())
    }

    fn install(&self) -> Result<()> {
        fs::create_dir_all(tools::folder().join("bin")).context("making the tools folder")?;
        for (name, compiler, source, libraries) in PROGRAMS {
            let mut command = match compiler {
                ["go", args @ ..] => {
                    let mut go = Command::new(go::go()?);
                    go.args(args);
                    go
                }
                [program, args @ ..] => {
                    let mut compiler = Command::new(program);
                    compiler.args(["-O1", "-Wall", "-Werror"]).args(args);
                    compiler
                }
                [] => continue,
            };
            command.arg("-o").arg(path(name)).arg(source);
            command
                .args(libraries)
                .current_dir(workspace().join("tests/clients"));
            // Go's own resolver needs no C; and a single file needs no module.
            command
                .env("CGO_ENABLED", "0")
                .env("GO111MODULE", "off")
                .env_remove("GOFLAGS");
            let log = tools::folder().join(format!("logs/client-{name}.log"));
            let what = format!("Building the test client {name}");
            step::run(&what, &mut command, &log, Duration::from_secs(600))?;
        }
        Ok(())
    }
}

fn path(name: &str) -> PathBuf {
    tools::folder().join("bin").join(format!("client-{name}"))
}

fn changed(path: PathBuf) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
