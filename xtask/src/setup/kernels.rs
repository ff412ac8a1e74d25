//! What boots another kernel, and the kernels.

use anyhow::{Context, Result};

use super::{Part, debian};
use crate::kernel::{self, Kernel, Version};

/// qemu, and the way to this machine's files.
pub(super) struct Machine;

/// Debian 12's package of qemu has virtiofsd; later it is a package of its own.
const VIRTIOFSD: &str = "virtiofsd";

impl Part for Machine {
    fn name(&self) -> String {
        "virtual machines for other kernels".to_owned()
    }

    fn found(&self) -> Option<String> {
        let programs = debian::Packages::KERNEL.found()?;
        kernel::runnable().ok().map(|_| programs)
    }

    fn install(&self) -> Result<()> {
        let missing = debian::Packages::KERNEL.missing();
        if !missing.is_empty() {
            debian::install(&missing)?;
        }
        if kernel::runnable().is_err() && debian::candidate(VIRTIOFSD).is_some() {
            debian::install(&[VIRTIOFSD])?;
        }
        kernel::runnable()
            .context("without it the tests on other kernels cannot be run; `cargo xtask test --no-kernels` leaves them out")?;
        Ok(())
    }
}

impl Part for Version {
    fn name(&self) -> String {
        format!("Linux {self}")
    }

    fn found(&self) -> Option<String> {
        Kernel::found(*self).map(|kernel| kernel.to_string())
    }

    fn install(&self) -> Result<()> {
        kernel::install(*self)
    }
}
