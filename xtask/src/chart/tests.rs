//! What the chart renders, and what it refuses.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::helm::run;
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
    for values in all() {
        run("lint", &["--strict"], &values).unwrap();
    }
    for (values, wanted) in COMBINATIONS {
        let text = template(&Values::set(values)).unwrap();
        for words in wanted {
            assert!(text.contains(words), "{values:?} lacks {words:?}:\n{text}");
        }
    }
}

/// What is in deploy/README.md is found there, and not only some of it.
#[test]
fn the_readme_s_examples_are_among_the_combinations() {
    let examples: Vec<_> = readme::examples().iter().map(ToString::to_string).collect();
    for words in [
        "image.repository=REGISTRY/dns-cache",
        "importNodeLocalDNS=true",
        "config:\n  zones: [{zone: corp.example,",
        "config:\n  queries: {",
        "config:\n  interfaces: [",
        "host:\n  enabled: true",
        "alerts:\n  enabled: true",
        "rbac:\n  create: false",
        "transport: tls",
        "extraVolumeMounts:",
    ] {
        let is_there = examples.iter().any(|example| example.contains(words));
        assert!(is_there, "{words:?} is not among {examples:#?}");
    }
}

#[test]
fn the_readme_explains_each_alert_and_no_other() {
    const PREFIX: &str = "DnsCache";
    let read = |file: String| fs::read_to_string(workspace().join(file)).unwrap();
    let readme = read(README.to_owned());
    let spans = readme.split('`').filter(|span| span.starts_with(PREFIX));
    let explained: BTreeSet<_> = spans.collect();
    let alerts = read(format!("{CHART}/files/alerts.yaml"));
    let rules: Vec<_> = alerts.split("- alert: ").skip(1).collect();
    let names: BTreeSet<_> = rules
        .iter()
        .map(|rule| rule.lines().next().unwrap())
        .collect();
    assert_eq!(explained, names);
    // CoreDNS's own instances would be taken for the agent's.
    for rule in rules {
        let is_shared = rule.contains("coredns_") || rule.contains("process_");
        assert!(
            !is_shared || rule.contains(" and on (instance) dns_cache_ready\n"),
            "{rule}"
        );
    }
}

/// "All" are the values of the variable, and not whatever else has metrics of these names, as CoreDNS has.
#[test]
fn the_dashboard_asks_for_the_agents_alone() {
    let file = workspace().join(format!("{CHART}/files/dashboard.json"));
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let instance = variables
        .iter()
        .find(|it| it["name"] == "instance")
        .unwrap();
    assert_eq!(
        instance["query"]["query"],
        "label_values(dns_cache_build_info, instance)"
    );
    assert_eq!(instance["allValue"], Value::Null);
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let mut asked = 0;
    for target in targets {
        let expr = target["expr"].as_str().unwrap();
        let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["coredns_", "dns_cache_", "process_"];
        let metrics = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
        let chosen = expr.matches("{instance=~\"$instance\"}").count();
        assert_eq!(metrics.count(), chosen, "{expr}");
        asked += 1;
    }
    assert!(asked > 15, "{asked}");
}

#[test]
fn every_value_has_a_comment() {
    let text = fs::read_to_string(workspace().join(CHART).join("values.yaml")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let is_key = |line: &str| {
        let (key, _) = line.split_once(':').unwrap_or_default();
        !is_comment(line) && !key.is_empty()
    };
    let bare = lines
        .windows(2)
        .filter(|pair| is_key(pair[1]) && !is_comment(pair[0]) && !pair[1].contains(" #"));
    let bare: Vec<_> = bare.map(|pair| pair[1]).collect();
    assert!(bare.is_empty(), "no comment above: {bare:#?}");
    assert!(lines.iter().filter(|line| is_key(line)).count() > 90);
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
        "service.name=a.b",
        "service.namespace=a.b",
        "clusterDomain=a..b",
        "config.lisen={10.96.0.10}",
        "config.cluster.ttl.positiv=60",
        "config.queries.missesPerSecond=many",
    ] {
        let error = template(&Values::set(&[value])).unwrap_err().to_string();
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
        (["config.afterHandOver=exit", "mode=both"], "leave standBy"),
    ] {
        let error = template(&Values::set(&values)).unwrap_err().to_string();
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
    /// Documented for nodes that enforce it; what may be done is the other lines' all the same.
    const SELINUX: &str = "seLinuxOptions:\n  type: spc_t\n";
    const NODES: &str = "  - apiGroups: [\"\"]\n    resources: [nodes]\n    verbs: [get]\n";
    const ENDPOINTS: &str = "  - apiGroups: [discovery.k8s.io]\n    resources: [endpointslices]\n    verbs: [get, list, watch]\n";
    for values in all() {
        let text = template(&values).unwrap();
        let (_, containers) = text.split_once("\n      containers:\n").unwrap();
        let context = block(containers, "securityContext:");
        assert_eq!(context.replace(SELINUX, ""), AGENT, "{values}");
        for more in ["hostPID", "hostIPC", "privileged: true", "SYS_PTRACE"] {
            assert!(!text.contains(more), "{values}: {more}");
        }
        let rules: String = text
            .split("\nrules:\n")
            .skip(1)
            .map(|rest| format!("{}\n", rest.split("\n---").next().unwrap()))
            .collect();
        // Of a file as of `--set`.
        let said = values.to_string().replace(":\n  ", ".").replace(": ", "=");
        let wanted = match () {
            () if said.contains("rbac.create=false") => String::new(),
            () if said.contains("rbac.nodes=false") => ENDPOINTS.to_owned(),
            () => format!("{NODES}{ENDPOINTS}"),
        };
        assert_eq!(rules, wanted, "{values}");
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
fn configuration(values: &Values) -> tempfile::NamedTempFile {
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
    for values in all() {
        let file = configuration(&values);
        agent(&["check-config", file.path().to_str().unwrap()]);
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
        let over = configuration(&Values::set(&[
            mode,
            "importNodeLocalDNS=true",
            "config.cluster.ttl.positive=60",
        ]));
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
