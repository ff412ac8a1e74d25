//! Asking the API server, by kubectl, and helm.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::node::{Node, feed, output, wait_for};
use super::pki::DIR;
use crate::setup::{helm, kubernetes};

impl Node {
    /// A command of kubectl.
    pub(super) fn kubectl(&self, args: &[&str]) -> Result<String> {
        output(self.kubectl_command().args(args))
    }

    /// kubectl, as the cluster's administrator.
    pub(super) fn kubectl_command(&self) -> Command {
        let mut command = self.command(kubernetes::program("kubectl"));
        command.arg(format!("--kubeconfig={DIR}/admin.conf"));
        command
    }

    /// Creates or changes what the text describes.
    pub(super) fn apply(&self, manifests: &str) -> Result<()> {
        feed(self.kubectl_command().args(["apply", "-f", "-"]), manifests).map(drop)
    }

    /// Removes what the text describes.
    pub(super) fn delete(&self, manifests: &str) -> Result<()> {
        feed(
            self.kubectl_command().args(["delete", "-f", "-"]),
            manifests,
        )
        .map(drop)
    }

    /// Whether the API server takes the text as it is, without doing it.
    pub(super) fn apply_dry(&self, manifests: &str) -> Result<()> {
        let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        feed(self.kubectl_command().args(args), manifests).map(drop)
    }

    /// A field of an object.
    pub(super) fn field(&self, object: &[&str], path: &str) -> Result<String> {
        let path = format!("-o=jsonpath={path}");
        self.kubectl(&[&["get"], object, &[&path]].concat())
    }

    /// A command of helm.
    pub(super) fn helm(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command(helm::program());
        command
            .arg(format!("--kubeconfig={DIR}/admin.conf"))
            .args(args);
        output(&mut command)
    }

    /// Waits until a workload is as it should be.
    pub(super) fn rolled_out(&self, workload: &[&str]) -> Result<()> {
        let what = format!("the roll-out of {}", workload.join(" "));
        wait_for(&what, Duration::from_secs(120), || {
            self.kubectl(&[&["rollout", "status", "--timeout=1s"], workload].concat())
                .map(|_| true)
        })
    }

    /// A command in a pod's container, past the API server and the kubelet: in all of its namespaces. The pod is in
    /// `default`, or it is NAMESPACE/POD.
    pub(super) fn in_pod(&self, pod: &str) -> Result<Command> {
        let path = "{.status.containerStatuses[0].containerID}";
        let id = self.field(&pod_object(pod), path)?;
        let id = id.rsplit('/').next().unwrap_or(&id);
        let tasks = self.run("ctr", &["-n", "k8s.io", "task", "ls"])?;
        let task = tasks.lines().find(|line| line.starts_with(id));
        let pid = task.and_then(|line| line.split_whitespace().nth(1));
        let pid = pid.with_context(|| format!("the pod {pod} has no process:\n{tasks}"))?;
        let mut command = self.command("nsenter");
        command.arg(format!("--target={pid}"));
        command.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--"]);
        Ok(command)
    }
}

/// What names a pod to kubectl.
pub(super) fn pod_object(pod: &str) -> [&str; 4] {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    ["-n", namespace, "pod", name]
}

/// A chart's folder as an argument.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is no UTF-8")
}
