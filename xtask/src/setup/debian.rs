//! Debian packages.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::tools;

use super::Part;
use crate::image::Arch;
use crate::programs::find;
use crate::versions::{
    BENCH_PACKAGES, CLUSTER_PACKAGES, IMAGE_PACKAGES, KERNEL_PACKAGES, PACKAGES, Package,
    REAL_PACKAGES, TO_AMD64_PACKAGES, TO_ARM64_PACKAGES,
};
use crate::{apt, root, step};

const LIMIT: Duration = Duration::from_secs(900);
/// apt-get under a policy that starts no daemon (invoke-rc.d(8)), unless the machine has one of its own: a
/// resolver that is installed for a benchmark must not take port 53 of this machine.
const APT_GET: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get "$@"
"#;

/// Packages, found by a program of each.
pub(super) struct Packages {
    what: &'static str,
    packages: &'static [Package],
}

impl Packages {
    /// What the lab runs.
    pub(super) const LAB: Self = Self {
        what: "the lab's programs",
        packages: &PACKAGES,
    };
    /// Real clients, and what these are built with.
    pub(super) const REAL: Self = Self {
        what: "real clients",
        packages: &REAL_PACKAGES,
    };
    /// What the benchmark compares with.
    pub(super) const BENCHMARK: Self = Self {
        what: "the benchmark's resolvers",
        packages: &BENCH_PACKAGES,
    };
    /// What the node of a cluster runs.
    pub(super) const CLUSTER: Self = Self {
        what: "the cluster's programs",
        packages: &CLUSTER_PACKAGES,
    };
    /// What builds from a Containerfile.
    pub(super) const IMAGE: Self = Self {
        what: "the builder of images",
        packages: &IMAGE_PACKAGES,
    };
    /// What boots another kernel, and what is tested there alone.
    pub(super) const KERNEL: Self = Self {
        what: "virtual machines",
        packages: &KERNEL_PACKAGES,
    };

    /// What builds for another machine.
    pub(super) const fn to(arch: Arch) -> Self {
        match arch {
            Arch::Amd64 => Self {
                what: "building for amd64",
                packages: &TO_AMD64_PACKAGES,
            },
            Arch::Arm64 => Self {
                what: "building for arm64",
                packages: &TO_ARM64_PACKAGES,
            },
        }
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> = self
            .packages
            .iter()
            .filter(|p| find(p.program).is_none())
            .map(|p| p.name)
            .collect();
        missing.dedup();
        missing
    }
}

impl Part for Packages {
    fn name(&self) -> String {
        match self.missing().as_slice() {
            [] => self.what.to_owned(),
            packages => format!("{}: {}", self.what, packages.join(" ")),
        }
    }

    fn found(&self) -> Option<String> {
        self.missing().is_empty().then(|| {
            let mut programs: Vec<_> = self.packages.iter().map(|p| p.program).collect();
            programs.sort_unstable();
            programs.join(" ")
        })
    }

    fn install(&self) -> Result<()> {
        install(&self.missing())
    }
}

/// Installs packages, with fresh lists where there are none or these do not do.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        bail!(
            "this is no Debian or Ubuntu: install {} by your own means",
            packages.join(" ")
        );
    }
    if !has_lists() {
        update();
    }
    let mut result = apt(packages);
    for _ in 1..step::TRIES {
        if let Err(error) = &result {
            println!("  {error:#}");
            update();
            result = apt(packages);
        }
    }
    result.with_context(|| format!("apt-get install {}", packages.join(" ")))
}

/// The version that apt would install.
pub(super) fn candidate(package: &str) -> Option<String> {
    if !has_lists() {
        update();
    }
    let output = std::process::Command::new("apt-cache")
        .args(["policy", package])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

fn has_lists() -> bool {
    let lists = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    lists
        .into_iter()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

/// Of several sources one may fail: whether a package can be had is seen when it is installed.
fn update() {
    let what = "Fetching Debian's package lists";
    if let Err(error) = apt_get(what, &["update"], "apt-update.log") {
        println!("  {error:#}");
    }
}

fn apt(packages: &[&str]) -> Result<()> {
    let args = ["install", "--yes", "--no-install-recommends"]
        .iter()
        .chain(packages)
        .copied()
        .collect::<Vec<_>>();
    let what = format!("Installing {}", packages.join(" "));
    apt_get(&what, &args, "apt-install.log")
}

fn apt_get(what: &str, args: &[&str], log: &str) -> Result<()> {
    let mut command = root::command("env", "installing Debian packages")?;
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", APT_GET, "sh"])
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(apt::PATIENT)
        .args(args);
    step::run(
        what,
        &mut command,
        &tools::folder().join("logs").join(log),
        LIMIT,
    )
}
