//! A Rust tool chain with the standard library's source: core is compiled for the eBPF target.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use super::{Part, debian};
use crate::ebpf_toolchain::{DEBIAN_PACKAGES, NEWEST_LLVM, PINNED_NIGHTLY, found};
use crate::programs::find;
use crate::step;

/// A compiler and the source are some hundred megabytes.
const LIMIT: Duration = Duration::from_secs(900);

/// The user's own nightly, else Debian's compiler, else a nightly of a known date by rustup.
pub(super) struct EbpfRust;

/// A way to get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Debian,
    Rustup,
}

impl Part for EbpfRust {
    fn name(&self) -> String {
        format!("Rust for eBPF: with the component rust-src and LLVM {NEWEST_LLVM} or older")
    }

    fn found(&self) -> Option<String> {
        found().map(|(_, source)| source.display().to_string())
    }

    fn install(&self) -> Result<()> {
        // Asked in this order: without apt nobody asks it for lists.
        let offered = find("apt-get").is_some()
            && DEBIAN_PACKAGES
                .iter()
                .all(|package| debian::candidate(package).is_some());
        let mut failed = None;
        for way in ways(offered, find("rustup").is_some()) {
            match way.install() {
                Ok(()) => return Ok(()),
                Err(error) => {
                    println!("not by {way:?}: {error:#}");
                    failed = Some(error);
                }
            }
        }
        let advice = format!(
            "install {} by rustup with the component rust-src, or Debian's {}, and run this again",
            PINNED_NIGHTLY,
            DEBIAN_PACKAGES.join(" ")
        );
        match failed {
            Some(error) => Err(error).context(advice),
            None => {
                bail!("this system's packages do not offer one and there is no rustup: {advice}")
            }
        }
    }
}

/// The ways that are open, the better one first: packages come from a source that the system trusts already.
fn ways(packages_offered: bool, rustup: bool) -> impl Iterator<Item = Way> {
    let ways = [(Way::Debian, packages_offered), (Way::Rustup, rustup)];
    ways.into_iter()
        .filter_map(|(way, open)| open.then_some(way))
}

impl Way {
    fn install(self) -> Result<()> {
        match self {
            Self::Debian => debian::install(&DEBIAN_PACKAGES),
            Self::Rustup => step::run(
                &format!("Installing {PINNED_NIGHTLY} by rustup"),
                &mut rustup_install(),
                &tools::folder().join("logs/rustup.log"),
                LIMIT,
            ),
        }
    }
}

/// A tool chain beside the user's own ones: none of them is updated, a later LLVM would be of no use.
fn rustup_install() -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["toolchain", "install", PINNED_NIGHTLY])
        .args(["--profile", "minimal", "--component", "rust-src"])
        .arg("--no-self-update");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_come_before_rustup() {
        let of = |packages, rustup| ways(packages, rustup).collect::<Vec<_>>();
        assert_eq!(of(true, true), [Way::Debian, Way::Rustup]);
        assert_eq!(of(true, false), [Way::Debian]);
        assert_eq!(of(false, true), [Way::Rustup]);
        assert_eq!(of(false, false), []);
    }

    #[test]
    fn rustup_gets_a_nightly_of_a_known_date() {
        let command = rustup_install();
        let args: Vec<_> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        assert_eq!(
            args.join(" "),
            "toolchain install nightly-2026-05-20 --profile minimal --component rust-src --no-self-update"
        );
    }
}
