//! `cargo xtask kernel`: a command on another Linux kernel.
//!
//! Debian's kernel boots under qemu with this machine's own files, so what was built here runs there as it is. The
//! guest's changes are in its memory and end with it. Instructions are translated (no KVM is needed), which makes it
//! 15 to 45 times slower: good for behaviour, and not for figures.

mod initramfs;
mod machine;
mod package;
pub(crate) mod suite;
mod version;

use std::env;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools::TOOLS_VARIABLE;

pub(crate) use package::{Kernel, install};
pub(crate) use version::Version;

use crate::{root, setup};

/// Run a command as root on another Linux kernel, with this machine's files
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel
    #[arg(value_name = "VERSION")]
    version: Version,
    /// How long it may take, with the kernel's start, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u64,
    /// The command; what it writes to files is lost
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::ensure_kernels(&[args.version])?;
    if !root::is_root() {
        match root::again(env::args_os().skip(1))? {}
    }
    let kernel = Kernel::found(args.version).context("the kernel was just there")?;
    let status = machine::run(
        &kernel,
        &script(&args.command)?,
        Duration::from_secs(args.limit),
    )?;
    Ok(ExitCode::from(status))
}

/// Whether this machine has what it takes; else why not.
pub(crate) fn runnable() -> Result<String> {
    if env::consts::ARCH != "x86_64" {
        bail!("other kernels were never tried on {}", env::consts::ARCH);
    }
    let qemu = machine::qemu().context("qemu-system-x86_64 is not installed")?;
    machine::virtiofsd().context("virtiofsd is not installed")?;
    Ok(qemu.display().to_string())
}

/// The command as a script, with this process's folder and environment.
fn script(command: &[String]) -> Result<String> {
    let mut script = String::new();
    for name in root::KEPT.into_iter().chain([TOOLS_VARIABLE]) {
        if let Ok(value) = env::var(name) {
            let _ = writeln!(script, "export {name}={}", quoted(&value));
        }
    }
    let folder = env::current_dir().context("finding the current folder")?;
    let folder = folder.to_str().context("the folder's path is no UTF-8")?;
    let _ = writeln!(script, "cd {}", quoted(folder));
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let _ = writeln!(script, "{}", words.join(" "));
    Ok(script)
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_shell() {
        let words = ["it's", "a $b", "", "c\\d"].map(str::to_owned);
        let script = format!(
            "printf '%s|' {}",
            words.clone().map(|w| quoted(&w)).join(" ")
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            words.join("|") + "|"
        );
    }
}
