//! The linker of eBPF programs, in the tools folder.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::Part;
use crate::programs::cargo;
use crate::step;
use crate::versions::BPF_LINKER;

/// bpf-linker.
pub(super) struct BpfLinker;

impl Part for BpfLinker {
    fn name(&self) -> String {
        format!("bpf-linker {BPF_LINKER}")
    }

    fn found(&self) -> Option<String> {
        let output = Command::new(path()).arg("--version").output().ok()?;
        let right =
            String::from_utf8_lossy(&output.stdout).trim() == format!("bpf-linker {BPF_LINKER}");
        right.then(|| path().display().to_string())
    }

    fn install(&self) -> Result<()> {
        let mut command = cargo();
        command
            .args([
                "install",
                "bpf-linker",
                "--version",
                BPF_LINKER,
                "--locked",
                "--force",
                "--root",
            ])
            .arg(tools::folder());
        command
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS");
        let log = tools::folder().join("logs/bpf-linker.log");
        step::run_until_done("Building bpf-linker, about two minutes", &mut command, &log, Duration::from_secs(900))
            .context("it links the eBPF programs, so nothing can be built without it; it comes from the package registry that cargo is set up for, and needs a C compiler (`cc`)")
    }
}

fn path() -> PathBuf {
    tools::folder().join("bin/bpf-linker")
}
