//! `cargo xtask chart`: plain manifests from the Helm chart, for those who do not use Helm.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::programs::workspace;
use crate::setup::{self, Want, helm};
use crate::versions::KUBERNETES;

/// The chart's folder; its release has the same name.
pub(crate) const CHART: &str = "deploy/helm/dns-cache";
pub(crate) const RELEASE: &str = "dns-cache";
pub(crate) const NAMESPACE: &str = "kube-system";
const MANIFESTS: &str = "deploy/manifests";

/// The manifests that are kept, and the values that make them.
const RENDERED: [(&str, &[&str]); 3] = [
    ("transparent.yaml", &[]),
    ("link-local.yaml", &["mode=link-local"]),
    ("both.yaml", &["mode=both"]),
];

/// The documented combinations of values, each with what must stand in what is rendered of it.
const COMBINATIONS: [(&[&str], &[&str]); 13] = [
    (
        &[],
        &[
            "maxEntries: 10000",
            "hostNetwork: true",
            "readOnlyRootFilesystem: true",
            "interceptService: true",
            "resources: [endpointslices]",
            "kind: ClusterRole\n",
            "resources: [nodes]\n    verbs: [get]\n",
            "fieldPath: spec.nodeName",
        ],
    ),
    (
        &["mode=link-local"],
        &[
            "    listen:\n    - 169.254.20.10\n",
            "interceptService: false",
        ],
    ),
    (
        &["mode=both"],
        &[
            "    listen:\n    - 169.254.20.10\n",
            "interceptService: true",
        ],
    ),
    (
        &[
            "serviceMonitor.enabled=true",
            "alerts.enabled=true",
            "dashboard.enabled=true",
        ],
        &[
            "kind: ServiceMonitor",
            "kind: Service\n",
            "kind: PrometheusRule",
            "grafana_dashboard",
        ],
    ),
    (
        &["podMonitor.enabled=true", "metrics.port=9999"],
        &["kind: PodMonitor", "0.0.0.0:9999", "$1:9999"],
    ),
    (
        &["exclude={payments,default/db-0}"],
        &[
            "    exclude:\n    - payments\n    - default/db-0\n",
            "path: /var/lib/cni/results",
        ],
    ),
    (
        &["metrics.perPod=true"],
        &["perPod: true", "path: /var/lib/cni/results"],
    ),
    (
        &["podDisruptionBudget.enabled=true"],
        &["kind: PodDisruptionBudget"],
    ),
    (
        &[
            "service.name=coredns",
            "service.namespace=dns",
            "rbac.nodes=false",
        ],
        &[
            "service: coredns",
            "name: dns-cache-endpoints\n  namespace: dns\n",
        ],
    ),
    (
        &["importNodeLocalDNS=true"],
        &["args: [import-corefile, --over,", "name: node-local-dns"],
    ),
    (
        &["mode=both", "host.enabled=true"],
        &["cgroup: /host/cgroup", "path: /sys/fs/cgroup\n"],
    ),
    (
        &["config.cluster.ttl.positive=60"],
        &["positive: 60", "domain: cluster.local"],
    ),
    (
        &["image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        &["dns-cache@sha256:000"],
    ),
];

/// Render the plain manifests in deploy/manifests from the Helm chart
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> Result<ExitCode> {
    setup::ensure(Want::Everything)?;
    for (name, values) in RENDERED {
        fs::create_dir_all(workspace().join(MANIFESTS))?;
        fs::write(path(name), rendered(values)?)?;
        println!("{}", path(name).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The manifests that are kept: path and text.
pub(crate) fn manifests() -> Result<Vec<(String, String)>> {
    let read = |(name, _)| {
        let path = path(name).display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Ok((path, text))
    };
    RENDERED.into_iter().map(read).collect()
}

/// What is rendered of each documented combination: values and text.
pub(crate) fn documented() -> Result<Vec<(String, String)>> {
    let render = |(values, _): (&[&str], _)| Ok((values.join(","), template(values)?));
    COMBINATIONS.into_iter().map(render).collect()
}

fn path(name: &str) -> PathBuf {
    workspace().join(MANIFESTS).join(name)
}

fn rendered(values: &[&str]) -> Result<String> {
    let objects = template(values)?;
    Ok(format!(
        "# Rendered from {CHART} by `cargo xtask chart`: change it there.\n{objects}"
    ))
}

fn template(values: &[&str]) -> Result<String> {
    run("template", &[RELEASE], values)
}

fn run(command: &str, args: &[&str], values: &[&str]) -> Result<String> {
    let mut helm = Command::new(helm::program());
    helm.arg(command).args(args).arg(workspace().join(CHART));
    helm.args(["--namespace", NAMESPACE]);
    // A helm that `go install` built takes every cluster for an old one, unless it asks one.
    helm.args(["--kube-version", KUBERNETES]);
    for value in values {
        helm.args(["--set", value]);
    }
    let output = helm.stdin(Stdio::null()).output();
    let output = output.context("running helm (`cargo xtask setup` installs it)")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!(
            "helm {command} {values:?}:\n{}",
            String::from_utf8_lossy(&text)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_are_those_of_the_chart() {
        for (name, values) in RENDERED {
            let kept = fs::read_to_string(path(name)).unwrap_or_default();
            assert_eq!(
                kept,
                rendered(values).unwrap(),
                "{name}: run `cargo xtask chart`"
            );
        }
    }

    #[test]
    fn every_documented_combination_renders() {
        for (values, wanted) in COMBINATIONS {
            run("lint", &["--strict"], values).unwrap();
            let text = template(values).unwrap();
            for words in wanted {
                assert!(text.contains(words), "{values:?} lacks {words:?}:\n{text}");
            }
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for value in [
            "mode=transparant",
            "metrics.port=0",
            "service.addresses={10.96.0.10}",
            "imagge.tag=1",
            "linkLocal.addresses={8.8.8.8}",
            "image.digest=1",
        ] {
            let error = template(&[value]).unwrap_err().to_string();
            assert!(error.contains("schema"), "{value}: {error}");
        }
    }

    #[test]
    fn the_agent_understands_what_the_chart_says() {
        for (values, _) in COMBINATIONS {
            let text = template(values).unwrap();
            let config = text.split("config.yaml: |\n").nth(1).unwrap();
            let lines = config.lines().take_while(|line| line.starts_with("    "));
            let config: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &config).unwrap();
            let agent = dns_cache_tests::tools::agent();
            let output = Command::new(agent)
                .arg("check-config")
                .arg(file.path())
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "{config}\n{}",
                String::from_utf8_lossy(&said)
            );
        }
    }
}
