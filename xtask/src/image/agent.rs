//! The agent as one static program with the eBPF object inside, and the image of it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use super::{Arch, Entry, Image};
use crate::ebpf_toolchain::{self, Toolchain};
use crate::programs::{cargo, workspace};

pub(crate) const PROGRAM: &str = "/usr/bin/dns-cache";
/// The label that names the commit.
pub(super) const REVISION: &str = "org.opencontainers.image.revision";

/// Where images and what they are made of are.
pub(super) fn folder() -> PathBuf {
    workspace().join("target/image")
}

/// Under which name the image is imported.
pub(crate) fn reference() -> String {
    format!("localhost/dns-cache:{}", env!("CARGO_PKG_VERSION"))
}

/// The archive's usual place.
pub(super) fn archive(arch: Arch) -> PathBuf {
    folder().join(format!(
        "dns-cache-{}-{arch}.tar",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Builds the program in `folder`; it does not depend on the folder, nor on where the sources are.
pub(super) fn build(arch: Arch, folder: &Path) -> Result<PathBuf> {
    println!("Building the static agent for {arch} …");
    let mut command = if arch == Arch::own()? {
        cargo()
    } else {
        cross(arch)?
    };
    let target = arch.target();
    command
        .current_dir(workspace())
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--package", "dns-cache", "--target", target])
        .arg("--target-dir")
        .arg(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags())
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env(tools::TOOLS_VARIABLE, tools::folder());
    let status = command.status().context("running cargo")?;
    if !status.success() {
        bail!("building the static agent for {arch}: cargo ended with {status}");
    }
    Ok(folder.join(target).join("release/dns-cache"))
}

/// The image with this program.
pub(super) fn image(arch: Arch, program: &Path, reference: &str) -> Image {
    let label =
        |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    let mut labels = BTreeMap::from([
        label("title", "dns-cache"),
        label(
            "description",
            "A node-local DNS cache for Kubernetes that answers before conntrack",
        ),
        label("version", env!("CARGO_PKG_VERSION")),
        label("licenses", "Apache-2.0 OR MIT"),
    ]);
    let source = Some(env!("CARGO_PKG_REPOSITORY").to_owned()).filter(|url| !url.is_empty());
    labels.extend(source.map(|source| label("source", &source)));
    labels.extend(revision(workspace()).map(|commit| (REVISION.to_owned(), commit)));
    Image {
        reference: reference.to_owned(),
        arch,
        entries: BTreeMap::from([(PROGRAM.to_owned(), Entry::File(program.to_owned()))]),
        entrypoint: vec![PROGRAM.to_owned()],
        labels,
    }
}

/// The commit that a folder is a checkout of; nothing if it is none, or if something differs from that commit.
fn revision(folder: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // A checkout of somebody else's, as root sees it, is one too.
        command
            .arg("-C")
            .arg(folder)
            .args(["-c", "safe.directory=*"]);
        let output = command.args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Not one that the folder happens to be below.
    let is_top = git(&["rev-parse", "--show-cdup"])?.is_empty();
    let is_clean = git(&["status", "--porcelain"])?.is_empty();
    (is_top && is_clean).then(|| git(&["rev-parse", "HEAD"]))?
}

/// Static, and without this machine's paths in messages of panics.
fn flags() -> OsString {
    let home = |variable: &str, folder: &str| {
        env::var_os(variable)
            .map(PathBuf::from)
            .or_else(|| Some(env::home_dir()?.join(folder)))
    };
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    let paths = [
        (Some(workspace().to_owned()), "/dns-cache"),
        (home("CARGO_HOME", ".cargo"), "/cargo"),
    ];
    for (path, name) in paths {
        let Some(path) = path else { continue };
        flags.push("\x1f--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    flags
}

/// A cargo that builds for another machine: the standard library from the source that the eBPF programs need too.
fn cross(arch: Arch) -> Result<Command> {
    let compiler = arch.cross_compiler();
    let (toolchain, _) = ebpf_toolchain::found().context(
        "an image for another machine needs the standard library's source: run `cargo xtask setup`",
    )?;
    let mut command = toolchain.program("cargo");
    if toolchain == Toolchain::Debian {
        command.env("RUSTC", toolchain.program("rustc").get_program());
    }
    let variable = arch.target().replace('-', "_");
    command
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()),
            compiler,
        )
        .env(format!("CC_{variable}"), compiler)
        .env("CARGO_UNSTABLE_BUILD_STD", "std");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_containerfile_has_the_same_labels() {
        let file = fs::read_to_string(workspace().join("deploy/Containerfile")).unwrap();
        let mut labels = image(Arch::own().unwrap(), Path::new("x"), "x").labels;
        // Whoever builds with it names the commit by --build-arg.
        labels.insert(REVISION.to_owned(), "${REVISION}".to_owned());
        for (name, value) in &labels {
            assert!(
                file.contains(&format!("{name}=\"{value}\"")),
                "{name}={value}"
            );
        }
        assert_eq!(file.matches("org.opencontainers").count(), labels.len());
        let tag = format!("REGISTRY/dns-cache:{}", env!("CARGO_PKG_VERSION"));
        assert!(file.contains(&tag), "{tag}");
    }
    #[test]
    fn a_revision_is_of_a_clean_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(dir.path());
            command.args(["-c", "user.name=a", "-c", "user.email=a@b.example"]);
            assert!(command.args(args).output().unwrap().status.success());
        };
        assert_eq!(revision(dir.path()), None);
        git(&["init"]);
        fs::write(dir.path().join("file"), "one").unwrap();
        git(&["add", "."]);
        git(&["commit", "-m", "one"]);
        assert_eq!(revision(dir.path()).unwrap().len(), 40);
        fs::create_dir(dir.path().join("below")).unwrap();
        assert_eq!(revision(&dir.path().join("below")), None);
        fs::write(dir.path().join("file"), "two").unwrap();
        assert_eq!(revision(dir.path()), None);
    }
}
