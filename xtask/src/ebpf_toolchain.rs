//! The Rust tool chain that compiles the eBPF programs: core is built for their target, so it needs the
//! standard library's source. Set-up installs one and dns-cache's build script, which has this file by
//! `#[path]`, uses it. The only place where names and versions of it stand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The newest LLVM whose bitcode that bpf-linker reads: a later compiler is of no use.
pub(crate) const NEWEST_LLVM: u32 = 22;
/// rustup's channel; the user's own, which nobody here changes.
const NIGHTLY: &str = "nightly";
/// The nightly that set-up installs by rustup; its LLVM is [`NEWEST_LLVM`].
pub(crate) const PINNED_NIGHTLY: &str = "nightly-2026-05-20";
/// Debian's compiler with the standard library's source (1.96 in Debian 12).
pub(crate) const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A place that a tool chain comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// By this name, from rustup.
    Rustup(&'static str),
    /// In /usr/bin.
    Debian,
}

impl Toolchain {
    /// In the order in which they are looked for.
    const ALL: [Self; 3] = [
        Self::Rustup(NIGHTLY),
        Self::Debian,
        Self::Rustup(PINNED_NIGHTLY),
    ];

    /// Its cargo or rustc.
    pub(crate) fn program(self, program: &str) -> Command {
        match self {
            Self::Rustup(name) => {
                let mut command = Command::new("rustup");
                // Without this, `rustup run` may fetch what is not there.
                command
                    .env("RUSTUP_AUTO_INSTALL", "0")
                    .args(["run", name, program]);
                command
            }
            Self::Debian => Command::new(Path::new("/usr/bin").join(program)),
        }
    }

    /// Where the source of its library `core` is; `None` if it is not there or does not do.
    fn source(self) -> Option<PathBuf> {
        // Debian has cargo in a package of its own.
        output(self.program("cargo").arg("-V"))?;
        let version = output(self.program("rustc").arg("-vV"))?;
        if llvm(&version)? > NEWEST_LLVM {
            return None;
        }
        let sysroot = output(self.program("rustc").args(["--print", "sysroot"]))?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        source.join("Cargo.toml").is_file().then_some(source)
    }
}

/// The tool chain to use, and where its source of `core` is.
pub(crate) fn found() -> Option<(Toolchain, PathBuf)> {
    first(Toolchain::source)
}

fn first(source: impl Fn(Toolchain) -> Option<PathBuf>) -> Option<(Toolchain, PathBuf)> {
    let mut all = Toolchain::ALL.into_iter();
    all.find_map(|toolchain| Some((toolchain, source(toolchain)?)))
}

/// The major version in `rustc -vV`'s `LLVM version: 22.1.2`.
fn llvm(text: &str) -> Option<u32> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command
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

    #[test]
    fn the_users_nightly_then_debians_then_the_pinned_one() {
        let of = |there: &[Toolchain]| {
            let found = first(|toolchain| there.contains(&toolchain).then(PathBuf::new));
            found.map(|(toolchain, _)| toolchain)
        };
        let [nightly, debian, pinned] = Toolchain::ALL;
        assert_eq!(of(&[pinned, debian, nightly]), Some(nightly));
        assert_eq!(of(&[pinned, debian]), Some(debian));
        assert_eq!(of(&[pinned]), Some(Toolchain::Rustup(PINNED_NIGHTLY)));
        assert_eq!(of(&[]), None);
    }
}
