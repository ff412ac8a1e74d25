//! Real CoreDNS, built with Go into the tools folder.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, go};
use crate::step;
use crate::versions::{COREDNS, COREDNS_MODULE};

const WITHOUT: &str =
    "the tests and `cargo xtask run --upstream coredns` need it, `cargo xtask run` does not";

/// CoreDNS.
pub(super) struct CoreDns;

impl Part for CoreDns {
    fn name(&self) -> String {
        format!("CoreDNS {COREDNS}")
    }

    fn found(&self) -> Option<String> {
        let output = Command::new(path()).arg("-version").output().ok()?;
        let right =
            String::from_utf8_lossy(&output.stdout).contains(&format!("CoreDNS-{COREDNS}\n"));
        right.then(|| path().display().to_string())
    }

    fn install(&self) -> Result<()> {
        let mut command = go::command().context(WITHOUT)?;
        command.args(["install", &format!("{COREDNS_MODULE}@v{COREDNS}")]);
        command.env("GOBIN", tools::folder().join("bin"));
        let log = tools::folder().join("logs/coredns.log");
        step::run_until_done(
            "Building CoreDNS, two to five minutes",
            &mut command,
            &log,
            Duration::from_secs(900),
        )
        .with_context(|| format!("{WITHOUT}; it comes from the Go module proxy"))
    }
}

fn path() -> PathBuf {
    tools::folder().join("bin/coredns")
}
