//! `cargo xtask setup`: what building and the lab need, in pinned versions.

mod bpf_linker;
mod clients;
mod coredns;
mod debian;
mod ebpf_rust;
mod go;
pub(crate) mod helm;
mod kernels;
pub(crate) mod kubernetes;
mod musl;

use std::process::ExitCode;

use anyhow::{Result, bail};
use dns_cache_tests::tools;

use crate::image::Arch;
use crate::kernel::Version;

/// Install what is missing for building and for the lab
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only report; exit status 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// A thing that must be there.
trait Part {
    /// What it is, and in which version.
    fn name(&self) -> String;
    /// Where it was found; `None` if it is missing.
    fn found(&self) -> Option<String>;
    /// Installs it; an error says what cannot be had, why, and what to do.
    fn install(&self) -> Result<()>;
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// All that the tests need.
    Everything,
    /// That, and the resolvers that the benchmark compares with.
    Benchmark,
    /// That of the tests, and what a cluster is made of.
    Cluster,
    /// All but CoreDNS and the other real servers and clients, and so but Go.
    WithoutCoreDns,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    println!("Tools: {}", tools::folder().display());
    if !args.check {
        ensure(Want::Everything)?;
        ensure_kernels(&Version::DEFAULT)?;
        println!("Everything is there.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut missing = false;
    for part in parts(Want::Everything)
        .into_iter()
        .chain(kernels(&Version::DEFAULT))
    {
        let found = part.found();
        missing |= found.is_none();
        println!(
            "{:<8} {}{}",
            if found.is_some() { "ok" } else { "missing" },
            part.name(),
            place(found)
        );
    }
    if missing {
        println!("`cargo xtask setup` installs what is missing.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing of what is wanted.
pub(crate) fn ensure(want: Want) -> Result<()> {
    ensure_parts(parts(want))
}

/// Installs what is missing to boot these kernels, and the kernels.
pub(crate) fn ensure_kernels(versions: &[Version]) -> Result<()> {
    ensure_parts(kernels(versions))
}

/// Installs what is missing to build for this machine, which is not the own one, and to run programs for it.
pub(crate) fn ensure_cross(arch: Arch) -> Result<()> {
    ensure_parts(vec![Box::new(debian::Packages::to(arch))])
}

/// Installs what builds from a Containerfile, if it is missing.
pub(crate) fn ensure_buildah() -> Result<()> {
    ensure_parts(vec![Box::new(debian::Packages::IMAGE)])
}

/// Goes on after a failure, so that all of them are said.
fn ensure_parts(parts: Vec<Box<dyn Part>>) -> Result<()> {
    let mut failures = Vec::new();
    for part in parts {
        if let Some(found) = part.found() {
            println!("ok: {}{}", part.name(), place(Some(found)));
            continue;
        }
        println!("missing: {}", part.name());
        let result = part.install();
        match (result, part.found()) {
            (Ok(()), Some(found)) => println!("installed: {}{}", part.name(), place(Some(found))),
            (Ok(()), None) => failures.push(format!(
                "{}: installed, but not found afterwards",
                part.name()
            )),
            (Err(error), _) => failures.push(format!("{}: {error:#}", part.name())),
        }
    }
    if !failures.is_empty() {
        bail!("set-up is not complete:\n- {}", failures.join("\n- "));
    }
    Ok(())
}

fn parts(want: Want) -> Vec<Box<dyn Part>> {
    let mut parts: Vec<Box<dyn Part>> = vec![
        Box::new(debian::Packages::LAB),
        Box::new(ebpf_rust::EbpfRust),
        Box::new(bpf_linker::BpfLinker),
    ];
    if want != Want::WithoutCoreDns {
        parts.push(Box::new(coredns::CoreDns));
        parts.push(Box::new(debian::Packages::REAL));
        parts.push(Box::new(clients::Clients));
        parts.push(Box::new(musl::NewerMusl));
        parts.push(Box::new(helm::Helm));
    }
    if want == Want::Benchmark {
        parts.push(Box::new(debian::Packages::BENCHMARK));
    }
    if want == Want::Cluster {
        parts.push(Box::new(debian::Packages::CLUSTER));
        parts.push(Box::new(kubernetes::Kubernetes));
    }
    parts
}

fn kernels(versions: &[Version]) -> Vec<Box<dyn Part>> {
    let mut parts: Vec<Box<dyn Part>> = vec![Box::new(kernels::Machine)];
    for version in versions {
        parts.push(Box::new(*version));
    }
    parts
}

fn place(found: Option<String>) -> String {
    found.map(|place| format!(" ({place})")).unwrap_or_default()
}
