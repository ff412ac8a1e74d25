//! A Rust tool chain with the standard library's source: core is compiled for the eBPF target.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, debian};
use crate::programs::find;
use crate::step;
use crate::versions::{DEBIAN_RUST, NIGHTLY};

/// Where rustup's servers cannot be reached it is known in a moment; a slow line needs some minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// rustup's nightly with rust-src, else Debian's compiler.
pub(super) struct EbpfRust;

impl Part for EbpfRust {
    fn name(&self) -> String {
        format!(
            "Rust for eBPF: rustup's {NIGHTLY} with rust-src, or Debian's {}",
            DEBIAN_RUST.join(" ")
        )
    }

    fn found(&self) -> Option<String> {
        nightly()
            .or_else(debian_rust)
            .map(|path| path.display().to_string())
    }

    fn install(&self) -> Result<()> {
        if find("rustup").is_some() {
            match install_nightly() {
                Ok(()) => return Ok(()),
                Err(error) => println!(
                    "rustup cannot fetch {NIGHTLY} with rust-src, so Debian's compiler it is. rustup said: {error:#}"
                ),
            }
        }
        debian::install(&DEBIAN_RUST)
            .context("neither rustup's nightly nor Debian's rustc-web can be had; install either and run this again")
    }
}

fn install_nightly() -> Result<()> {
    let mut command = Command::new("rustup");
    // Without self-update: only the tool chain is this project's business.
    command.args([
        "toolchain",
        "install",
        NIGHTLY,
        "--no-self-update",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]);
    let log = tools::folder().join("logs/rustup.log");
    step::run(
        &format!("Fetching Rust {NIGHTLY} with rust-src"),
        &mut command,
        &log,
        LIMIT,
    )
}

fn nightly() -> Option<PathBuf> {
    source(Command::new("rustup").args(["run", NIGHTLY, "rustc"]))
}

fn debian_rust() -> Option<PathBuf> {
    Path::new("/usr/bin/cargo")
        .is_file()
        .then(|| source(&mut Command::new("/usr/bin/rustc")))?
}

/// The folder of the source of the library `core` that this compiler has.
fn source(rustc: &mut Command) -> Option<PathBuf> {
    let rustc = rustc
        .args(["--print", "sysroot"])
        .env_remove("RUSTC")
        .stdin(Stdio::null());
    let output = rustc
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let source = sysroot.join("lib/rustlib/src/rust/library/core");
    source.join("Cargo.toml").is_file().then_some(source)
}
