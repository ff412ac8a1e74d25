//! `cargo xtask image`: the agent as a container image, without a container tool.

mod agent;
mod arch;
mod containerfile;
mod oci;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::programs::workspace;
use crate::setup::{self, Want};
pub(crate) use agent::{PROGRAM, reference};
pub(crate) use arch::Arch;
pub(crate) use oci::{Entry, Image};

/// An image that is larger holds something that it should not.
const LARGEST: u64 = 15_000_000;

/// Build the agent's image: an OCI archive with one static program, the same bytes each time
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which machines; without it, this one
    #[arg(long, value_name = "ARCH")]
    arch: Option<Arch>,
    /// The archive; without it, `target/image/dns-cache-VERSION-ARCH.tar`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Build it a second time from the beginning, and fail if one byte differs
    #[arg(long)]
    twice: bool,
    /// Build it by deploy/Containerfile too, with buildah, and fail if that makes another image
    #[arg(long)]
    check: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::ensure(Want::WithoutCoreDns)?;
    let own = Arch::own()?;
    let arch = args.arch.unwrap_or(own);
    if arch != own {
        setup::ensure_cross(arch)?;
    }
    let built = agent::build(arch, &agent::folder())?;
    if args.twice {
        let elsewhere = tempfile::tempdir_in(workspace().join("target"))?;
        let again = agent::build(arch, elsewhere.path())?;
        if fs::read(&built)? != fs::read(&again)? {
            bail!(
                "{} differs from what was built a second time",
                built.display()
            );
        }
        println!("built a second time: the same bytes");
    }
    try_out(arch, &built)?;
    let name = reference();
    let output = args.output.clone().unwrap_or_else(|| agent::archive(arch));
    let image = agent::image(arch, &built, &name);
    let digest = image.write(&output)?;
    if args.check {
        setup::ensure_buildah()?;
        containerfile::check(&image, &built)?;
    }
    let size = fs::metadata(&output)?.len();
    println!(
        "{name} for linux/{arch}: {} ({:.1} MB)\nmanifest {digest}",
        output.display(),
        size as f64 / 1e6
    );
    if size > LARGEST {
        bail!("the image has {size} bytes, more than {LARGEST}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the program a little, on this machine or as on its own: it must start, and read the example's configuration.
fn try_out(arch: Arch, program: &Path) -> Result<()> {
    let example = workspace().join("deploy/config.example.yaml");
    let example = example.display().to_string();
    for args in [&["--version"][..], &["check-config", &example]] {
        let mut command = arch.command(program)?;
        let output = command.args(args).output();
        let output = output.with_context(|| format!("running {}", program.display()))?;
        if !output.status.success() {
            bail!(
                "{command:?} ended with {}:\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    println!("run for {arch}: it starts, and understands deploy/config.example.yaml");
    Ok(())
}

/// The agent's image for this machine, built if need be: its reference and its archive.
pub(crate) fn of_agent() -> Result<(String, PathBuf)> {
    let arch = Arch::own()?;
    let built = agent::build(arch, &agent::folder())?;
    let (name, archive) = (reference(), agent::archive(arch));
    agent::image(arch, &built, &name).write(&archive)?;
    Ok((name, archive))
}
