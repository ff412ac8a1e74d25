//! A Rust tool chain with the standard library's source: core is compiled for the eBPF target.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, debian};
use crate::step;
use crate::versions::{DEBIAN_RUST, LLVM, NIGHTLY};

/// Where rustup's servers cannot be reached it is known in a moment; the source is a few megabytes.
const LIMIT: Duration = Duration::from_secs(60);

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
        if has_usable_llvm(&mut nightly_rustc()) {
            match add_source() {
                Ok(()) => return Ok(()),
                Err(error) => {
                    println!("rustup cannot add rust-src, so Debian's compiler it is: {error:#}")
                }
            }
        }
        debian::install(&DEBIAN_RUST).with_context(|| {
            format!("install a {NIGHTLY} tool chain with LLVM {LLVM} and rust-src by rustup, or Debian's compiler, and run this again")
        })
    }
}

/// Adds the source to the tool chain as it is. Never updates one: it is the user's, and a newer one may
/// have an LLVM that the linker cannot read.
fn add_source() -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rust-src", "--toolchain", NIGHTLY]);
    let log = tools::folder().join("logs/rustup.log");
    step::run(
        &format!("Adding rust-src to rustup's {NIGHTLY}"),
        &mut command,
        &log,
        LIMIT,
    )
}

fn nightly_rustc() -> Command {
    let mut command = Command::new("rustup");
    // Without this, `rustup run` may fetch what is not there.
    command
        .env("RUSTUP_AUTO_INSTALL", "0")
        .args(["run", NIGHTLY, "rustc"]);
    command
}

fn nightly() -> Option<PathBuf> {
    has_usable_llvm(&mut nightly_rustc()).then(|| source(&mut nightly_rustc()))?
}

fn debian_rust() -> Option<PathBuf> {
    let rustc = || Command::new("/usr/bin/rustc");
    let there = Path::new("/usr/bin/cargo").is_file() && has_usable_llvm(&mut rustc());
    there.then(|| source(&mut rustc()))?
}

/// Whether this compiler is there and its bitcode is of a kind that the linker reads.
fn has_usable_llvm(rustc: &mut Command) -> bool {
    let text = output(rustc.arg("-vV")).unwrap_or_default();
    llvm(&text).is_some_and(|major| major <= LLVM)
}

/// The major version in `rustc -vV`'s `LLVM version: 22.1.2`.
fn llvm(text: &str) -> Option<u32> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// The folder of the source of the library `core` that this compiler has.
fn source(rustc: &mut Command) -> Option<PathBuf> {
    let sysroot = PathBuf::from(output(rustc.args(["--print", "sysroot"]))?.trim());
    let source = sysroot.join("lib/rustlib/src/rust/library/core");
    source.join("Cargo.toml").is_file().then_some(source)
}

fn output(rustc: &mut Command) -> Option<String> {
    let output = rustc
        .env_remove("RUSTC")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_of_a_compiler() {
        assert_eq!(
            llvm("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"),
            Some(22)
        );
        assert_eq!(llvm("rustc 1.96.0\n"), None);
    }
}
