//! Debian's package of a kernel, unpacked into the tools folder. Nothing of it is installed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use super::version::Version;
use crate::{apt, step};

/// The kernels for virtual machines: all that the lab needs, at a third of the size.
const FLAVOUR: &str = "cloud-amd64";
/// What the packages of one kernel begin with. From 7.1 on they are several.
const PARTS: [&str; 4] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
];
const LIMIT: Duration = Duration::from_secs(600);

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `uname -r`.
    pub(super) release: String,
    /// The kernel itself.
    pub(super) image: PathBuf,
    /// The folder that holds the folder of its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The one of this line that was unpacked, if any was.
    pub(crate) fn found(version: Version) -> Option<Self> {
        let folder = folder(version);
        let modules = ["usr/lib/modules", "lib/modules"]
            .map(|dir| folder.join(dir))
            .into_iter()
            .find(|dir| dir.is_dir())?;
        let entry = fs::read_dir(&modules).ok()?.next()?.ok()?;
        let release = entry.file_name().into_string().ok()?;
        let image = [
            folder.join(format!("boot/vmlinuz-{release}")),
            entry.path().join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.is_file())?;
        Some(Self {
            release,
            image,
            modules,
        })
    }

    /// The folder under which `lib/modules` is, as depmod(8) and modprobe(8) want it.
    pub(super) fn base(&self) -> &Path {
        self.modules
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("/"))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.release)
    }
}

/// Fetches and unpacks the newest kernel of a line.
pub(crate) fn install(version: Version) -> Result<()> {
    let (suite, log) = (version.suite(), log(version));
    apt::unpack(suite, "linux-", &folder(version), &log, |names| {
        let packages = newest(version, names);
        if packages.is_empty() {
            bail!(
                "this machine's apt sources have no linux-image-{version}*-{FLAVOUR} in the suite {suite}: \
                 the tests on other kernels need a mirror of Debian that has it (old suites move to archive.debian.org); \
                 `cargo xtask test --no-kernels` leaves them out"
            );
        }
        Ok(packages)
    })?;
    let kernel = Kernel::found(version).context("the packages hold no kernel")?;
    if !kernel
        .modules
        .join(&kernel.release)
        .join("modules.dep")
        .is_file()
    {
        let mut depmod = Command::new("depmod");
        depmod.arg("-b").arg(kernel.base()).arg(&kernel.release);
        step::run("Listing its modules", &mut depmod, &log, LIMIT)?;
    }
    Ok(())
}

fn folder(version: Version) -> PathBuf {
    tools::folder().join("kernels").join(version.number())
}

fn log(version: Version) -> PathBuf {
    tools::folder().join(format!("logs/kernel-{version}-apt.log"))
}

/// The packages of the newest kernel of a line.
fn newest(version: Version, names: &[String]) -> Vec<&str> {
    let release = |name: &str| -> Option<String> {
        let release = PARTS.iter().find_map(|part| name.strip_prefix(part))?;
        let rest = release.strip_prefix(version.number())?;
        let number = release.strip_suffix(&format!("-{FLAVOUR}"))?;
        (rest.starts_with(['.', '-'])
            && number
                .chars()
                .all(|c| !c.is_alphabetic() || "deb".contains(c)))
        .then(|| number.to_owned())
    };
    let Some(newest) = names
        .iter()
        .filter_map(|name| release(name))
        .max_by_key(|release| numbers(release))
    else {
        return Vec::new();
    };
    let mut packages: Vec<_> = names
        .iter()
        .filter(|name| release(name).as_ref() == Some(&newest))
        .map(String::as_str)
        .collect();
    packages.sort_unstable();
    packages
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_line_with_all_its_parts() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.118+deb13-rt-cloud-amd64",
            "linux-headers-6.1.0-58-cloud-amd64",
            "linux-base-7.2.12+deb14-cloud-amd64",
            "linux-image-7.2.12+deb14-cloud-amd64",
            "linux-modules-7.2.12+deb14-cloud-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            newest(Version::V6_1, &names),
            ["linux-image-6.1.0-56-cloud-amd64"]
        );
        assert_eq!(
            newest(Version::V6_12, &names),
            ["linux-image-6.12.117+deb13-cloud-amd64"]
        );
        assert_eq!(newest(Version::V7_2, &names).len(), 3);
        assert!(newest(Version::V5_10, &names).is_empty());
    }
}
