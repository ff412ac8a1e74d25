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
const COMBINATIONS: [(&[&str], &[&str]); 15] = [
    (
        &[],
        &[
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
        &[
            "kind: PodMonitor",
            "listen: '[::]:9999'",
            "replacement: $1:9999",
            "replacement: \"[$1]:9999\"",
        ],
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
        &["mode=both", "importNodeLocalDNS=true", "metrics.port=9453"],
        &[
            "args: [import-corefile, --kube-dns, /etc/kube-dns, --over,",
            "name: node-local-dns",
            "name: kube-dns\n            optional: true",
            "checksum/config: ",
        ],
    ),
    (
        &["cache.maxEntries=20000", "cache.maxBytes=128Mi"],
        &["    cache:\n      maxBytes: 128Mi\n      maxEntries: 20000\n"],
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
        &[
            "updateStrategy.rollingUpdate.maxSurge=0",
            "updateStrategy.rollingUpdate.maxUnavailable=1",
        ],
        &["maxSurge: 0\n      maxUnavailable: 1\n"],
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
            "linkLocal.addresses={169.254.999.1}",
            "linkLocal.addresses={fe80::1}",
            "linkLocal.addresses={fd}",
            "linkLocal.addresses={fd00:1}",
            "image.digest=1",
            "cache.maxEntries=5",
            "cache.maxBytes=1k",
            "log.level=foo",
            "updateStrategy.rollingUpdate.maxSurge=one",
            "livenessProbe.failureThreshold=0",
        ] {
            let error = template(&[value]).unwrap_err().to_string();
            assert!(error.contains("schema"), "{value}: {error}");
        }
    }

    /// What `check-config` or the API server would refuse, or what would run and not be found by probes, mounts or rights.
    #[test]
    fn values_that_do_not_go_together_are_refused() {
        const SURGE: &str = "updateStrategy.rollingUpdate.maxSurge";
        const UNAVAILABLE: &str = "updateStrategy.rollingUpdate.maxUnavailable";
        for (values, wanted) in [
            (["host.enabled=true", "mode=transparent"], "set mode to"),
            ([&format!("{SURGE}=0"), "mode=both"], "set both"),
            ([&format!("{UNAVAILABLE}=1"), "mode=both"], "set both"),
            ([&format!("{SURGE}=null"), "mode=both"], "set both"),
            ([&format!("{UNAVAILABLE}=null"), "mode=both"], "set both"),
            ([&format!("{SURGE}=0%"), "mode=both"], "set both"),
            (
                ["config.metrics.listen=0.0.0.0:9000", "mode=both"],
                "the chart's own metrics.port",
            ),
            (
                ["config.host.enabled=true", "mode=both"],
                "the chart's own host.enabled",
            ),
            (
                ["config.exclude={a}", "mode=both"],
                "the chart's own exclude",
            ),
            (
                ["config.metrics.perPod=true", "mode=both"],
                "the chart's own metrics.perPod",
            ),
            (
                ["config.stateDir=/run/x", "mode=both"],
                "the chart's own hostPaths.state",
            ),
            (
                ["config.kubernetes.service=x", "mode=both"],
                "the chart's own service.name",
            ),
        ] {
            let error = template(&values).unwrap_err().to_string();
            assert!(error.contains(wanted), "{values:?}: {error}");
        }
    }

    /// Any more is a decision, and deploy/README.md says what each is for.
    #[test]
    fn the_agent_is_given_no_more_than_it_needs() {
        const AGENT: &str = "\
allowPrivilegeEscalation: false
appArmorProfile:
  type: Unconfined
capabilities:
  add:
  - NET_ADMIN
  - BPF
  - PERFMON
  - SYS_ADMIN
  - NET_BIND_SERVICE
  - SETPCAP
  drop:
  - ALL
privileged: false
readOnlyRootFilesystem: true
runAsGroup: 0
runAsUser: 0
seccompProfile:
  type: RuntimeDefault
";
        const NODES: &str = "  - apiGroups: [\"\"]\n    resources: [nodes]\n    verbs: [get]\n";
        const ENDPOINTS: &str = "  - apiGroups: [discovery.k8s.io]\n    resources: [endpointslices]\n    verbs: [get, list, watch]\n";
        for (values, _) in COMBINATIONS {
            let text = template(values).unwrap();
            let (_, containers) = text.split_once("\n      containers:\n").unwrap();
            assert_eq!(block(containers, "securityContext:"), AGENT, "{values:?}");
            for more in ["hostPID", "hostIPC", "privileged: true", "SYS_PTRACE"] {
                assert!(!text.contains(more), "{values:?}: {more}");
            }
            let rules: String = text
                .split("\nrules:\n")
                .skip(1)
                .map(|rest| format!("{}\n", rest.split("\n---").next().unwrap()))
                .collect();
            let nodes = match values.contains(&"rbac.nodes=false") {
                true => "",
                false => NODES,
            };
            assert_eq!(rules, format!("{nodes}{ENDPOINTS}"), "{values:?}");
        }
    }

    /// What is below the first line with this key, without the indentation of its first line.
    fn block(text: &str, key: &str) -> String {
        let lines = text.lines().skip_while(|line| line.trim() != key);
        let mut lines = lines.skip(1).peekable();
        let indent = lines.peek().unwrap().find(|c| c != ' ').unwrap();
        let below = lines.map_while(|line| {
            let (space, rest) = line.split_at_checked(indent)?;
            space.trim().is_empty().then(|| format!("{rest}\n"))
        });
        below.collect()
    }

    /// The configuration in what is rendered, as a file.
    fn configuration(values: &[&str]) -> tempfile::NamedTempFile {
        let text = template(values).unwrap();
        let config = text.split("config.yaml: |\n").nth(1).unwrap();
        let lines = config.lines().take_while(|line| line.starts_with("    "));
        let config: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &config).unwrap();
        file
    }

    /// What the agent says, to standard output and to standard error.
    fn agent(args: &[&str]) -> [String; 2] {
        let output = Command::new(dns_cache_tests::tools::agent())
            .args(args)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{args:?}: {said:?}");
        said
    }

    #[test]
    fn the_agent_understands_what_the_chart_says() {
        for (values, _) in COMBINATIONS {
            agent(&[
                "check-config",
                configuration(values).path().to_str().unwrap(),
            ]);
        }
    }

    /// With the addresses that Kubespray gives it, in every mode: nobody else answers there afterwards.
    #[test]
    fn node_local_dns_s_addresses_and_cache_stay_under_the_chart_s_values() {
        let corefile = tempfile::NamedTempFile::new().unwrap();
        let text = "k8s.example:53 {\n cache {\n  success 9984 30\n  denial 9984 5\n  prefetch 5\n }\n \
                    bind 169.254.25.10\n forward . 10.233.0.3 {\n  force_tcp\n }\n}\n\
                    in-addr.arpa {\n cache 30\n forward . 10.233.0.3\n}\n\
                    .:53 {\n cache 30\n bind 169.254.25.10\n forward . /etc/resolv.conf\n}\n";
        fs::write(corefile.path(), text).unwrap();
        let corefile = corefile.path().to_str().unwrap();
        for (mode, listen) in [
            ("mode=transparent", "listen: [169.254.25.10]\n"),
            (
                "mode=link-local",
                "listen: [169.254.20.10, 169.254.25.10]\n",
            ),
            ("mode=both", "listen: [169.254.20.10, 169.254.25.10]\n"),
        ] {
            let over = configuration(&[
                mode,
                "importNodeLocalDNS=true",
                "config.cluster.ttl.positive=60",
            ]);
            let over = over.path().to_str().unwrap();
            let [config, notes] = agent(&["import-corefile", "--over", over, corefile]);
            for setting in [
                listen,
                "  maxEntries: 19968\n",
                "  prefetch: {percent: 10, minHits: 5}\n",
                "  domain: k8s.example\n",
                "  ttl: {positive: 60, negative: 5, minimum: 0}\n",
            ] {
                assert!(
                    config.contains(setting),
                    "{mode}: {setting} not in\n{config}"
                );
            }
            assert!(notes.contains("listen: 169.254.25.10: "), "{mode}: {notes}");
        }
    }
}
