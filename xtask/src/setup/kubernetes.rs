//! All programs of Kubernetes and etcd as one, built with Go from their modules (`xtask/kubernetes`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::tools;

use super::{Part, go};
use crate::programs::workspace;
use crate::step;
use crate::versions::KUBERNETES;

const COMPONENTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// Kubernetes.
pub(super) struct Kubernetes;

impl Part for Kubernetes {
    fn name(&self) -> String {
        format!("Kubernetes {KUBERNETES}")
    }

    fn found(&self) -> Option<String> {
        let output = Command::new(program("kubectl"))
            .args(["version", "--client"])
            .output()
            .ok()?;
        let right = String::from_utf8_lossy(&output.stdout).contains(&format!("v{KUBERNETES}\n"));
        right.then(|| folder().display().to_string())
    }

    fn install(&self) -> Result<()> {
        fs::create_dir_all(folder())?;
        let (major, minor) = KUBERNETES.split_once('.').context("a version has a dot")?;
        let minor = minor.split('.').next().unwrap_or(minor);
        // Servers say this version, and kubectl refuses to read what they say without it.
        let variables = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
            format!(
                "-X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
            )
        });
        let mut command = go::command()?;
        command
            .current_dir(workspace().join("xtask/kubernetes"))
            .args([
                "build",
                "-ldflags",
                &format!("-s -w {}", variables.join(" ")),
                "-o",
            ])
            .arg(all_in_one())
            .arg(".");
        let log = tools::folder().join("logs/kubernetes.log");
        step::run_until_done(
            "Building Kubernetes, five to fifteen minutes",
            &mut command,
            &log,
            Duration::from_secs(1800),
        )
        .context("it comes from the Go module proxy")?;
        for name in COMPONENTS {
            // Left by an earlier version.
            let _ = fs::remove_file(program(name));
            symlink(all_in_one(), program(name)).with_context(|| format!("making {name}"))?;
        }
        Ok(())
    }
}

/// The binary of a component.
pub(crate) fn program(name: &str) -> PathBuf {
    folder().join(name)
}

fn all_in_one() -> PathBuf {
    folder().join("all-in-one")
}

fn folder() -> PathBuf {
    tools::folder().join(format!("kubernetes-{KUBERNETES}"))
}
