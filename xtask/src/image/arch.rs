//! The machines that an image is for.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// A machine, by the name that container images have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// This machine.
    pub(crate) fn own() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("there is no image for {other}: --arch names one for another machine"),
        }
    }

    /// Rust's name of the target. The C library is linked statically, and a musl target comes with neither
    /// Debian's compiler nor with every rustup.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Debian's C compiler for it, where it is not this machine's own.
    pub(super) const fn cross_compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// What runs a program for it on another machine.
    const fn emulator(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-x86_64",
            Self::Arm64 => "qemu-aarch64",
        }
    }

    /// A command that runs this program for it here.
    pub(super) fn command(self, program: &Path) -> Result<Command> {
        if self == Self::own()? {
            return Ok(Command::new(program));
        }
        let mut command = Command::new(self.emulator());
        command.arg(program);
        Ok(command)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}
