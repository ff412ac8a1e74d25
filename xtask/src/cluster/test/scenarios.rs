//! What is shown, one claim a function. Each begins without the agent.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::procfs::cgroup2;
use serde_json::Value;

use super::load::under_load;
use super::lookups::{answers, forget, same, tracked, tracked_at};
use super::node_state::NodeState;
use super::{Bed, DAEMONSET};
use crate::chart::NAMESPACE;
use crate::cluster::node::{wait, wait_for};
use crate::cluster::settings::{DNS_IP, LINK_LOCAL_IP};

type Scenario = fn(&Bed) -> Result<String>;

/// By name, in the order in which they run.
pub(super) const SCENARIOS: [(&str, Scenario); 16] = [
    (
        "no lookup is tracked, answers are the same, the kernel gives them",
        lookups,
    ),
    ("uninstalled under load", uninstall),
    ("the agent may do no more than it needs", rights),
    ("rollout restart under load", restart),
    ("agent's pod deleted by force under load", force),
    (
        "CoreDNS pod deleted, scaled to 1 and to 3 under load",
        coredns,
    ),
    ("API server away for a minute under load", api_server),
    ("containerd restarted under load", containerd),
    ("kubelet restarted under load", kubelet),
    ("a pod asks at the link-local address", link_local),
    ("a pod on the node's network", host_network),
    ("the same with host.enabled", host_enabled),
    ("a pod that is excluded", excluded),
    ("metrics name the pods", pod_names),
    ("NodeLocalDNS's ConfigMap is imported", imported),
    ("the API server takes what is rendered", manifests),
];

const POD: &str = "client";
const SERVER: &str = DNS_IP.0;
const COREDNS: [&str; 2] = ["-n=kube-system", "deployment/coredns"];
/// As long as the issue asks for.
const API_AWAY: Duration = Duration::from_secs(60);

fn lookups(bed: &Bed) -> Result<String> {
    forget(bed)?;
    let before = answers(bed, POD)?;
    let tracked_before = tracked(bed, POD)?;
    if tracked_before == 0 {
        bail!("without the agent no lookup is tracked: the test shows nothing");
    }
    bed.install(&[])?;
    forget(bed)?;
    let after = answers(bed, POD)?;
    same(&before, &after)?;
    // What is cached by now is the kernel's.
    let hits = bed.kernel_hits()?;
    same(&before, &answers(bed, POD)?)?;
    let hits = bed.kernel_hits()? - hits;
    let tracked_after = tracked(bed, POD)?;
    if tracked_after > 0 {
        bail!("{tracked_after} conntrack entries of the pod's lookups");
    }
    if hits == 0 {
        bail!("no answer came from the kernel:\n{:#}", bed.status()?);
    }
    Ok(format!(
        "{tracked_before} entries in conntrack before, none after; {} answers equal; {hits} from the kernel",
        before.len()
    ))
}

fn uninstall(bed: &Bed) -> Result<String> {
    let before = NodeState::of(bed)?;
    bed.install(&[])?;
    let load = under_load(&bed.node, POD, SERVER, || bed.uninstall())?;
    before.same(&NodeState::of(bed)?)?;
    Ok(format!("{load}; nothing is left on the node"))
}

fn rights(bed: &Bed) -> Result<String> {
    /// Capabilities that are left (`linux/capability.h`): NET_BIND_SERVICE, NET_ADMIN, BPF.
    const LEFT: u64 = 1 << 10 | 1 << 12 | 1 << 39;
    const ALLOWED: [&str; 4] = [
        "get endpointslices -n=kube-system",
        "list endpointslices -n=kube-system",
        "watch endpointslices -n=kube-system",
        "get nodes",
    ];
    const REFUSED: [&str; 7] = [
        "list endpointslices -n=default",
        "list nodes",
        "update nodes",
        "list pods -n=kube-system",
        "get secrets -n=kube-system",
        "get configmaps -n=kube-system",
        "get daemonsets -n=kube-system",
    ];
    bed.install(&[])?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:dns-cache");
    let questions = ALLOWED.map(|what| (what, true)).into_iter();
    for (what, wanted) in questions.chain(REFUSED.map(|what| (what, false))) {
        let mut command = bed.node.kubectl_command();
        command.args(["auth", "can-i", &account, "--quiet"]);
        if command.args(what.split(' ')).status()?.success() != wanted {
            bail!("{account}: {what} should be {wanted}");
        }
    }
    let script =
        "for pid in $(pidof dns-cache); do grep -h ^Cap /proc/$pid/task/*/status; done | sort -u";
    let sets = bed.node.run("sh", &["-c", script])?;
    let masks = sets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    let masks = masks
        .map(|mask| u64::from_str_radix(mask, 16))
        .collect::<Result<Vec<_>, _>>()?;
    let all = masks.iter().fold(0, |all, mask| all | mask);
    if all == 0 || all & !LEFT != 0 {
        bail!("capabilities of the agent's threads:\n{sets}");
    }
    Ok(format!(
        "{} questions to RBAC; {all:#x} in all capability sets of all threads",
        ALLOWED.len() + REFUSED.len()
    ))
}

fn restart(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    under_load(&bed.node, POD, SERVER, || {
        bed.node
            .kubectl(&["rollout", "restart", "-n", NAMESPACE, DAEMONSET])?;
        bed.rolled_out()
    })
}

fn force(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    under_load(&bed.node, POD, SERVER, || {
        let pods = [
            "delete",
            "pod",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=dns-cache",
        ];
        bed.node
            .kubectl(&[&pods[..], &["--force", "--grace-period=0"]].concat())?;
        bed.rolled_out()
    })
}

fn coredns(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    let scale = |replicas: usize| {
        let count = format!("--replicas={replicas}");
        bed.node
            .kubectl(&[&["scale"], &COREDNS[..], &[&count]].concat())?;
        bed.node.rolled_out(&COREDNS)?;
        wait("the agent's knowledge of the replicas", || {
            Ok(replicas_known(bed)? == replicas)
        })
    };
    let load = under_load(&bed.node, POD, SERVER, || {
        let pods = bed.node.field(
            &["pod", "-n=kube-system", "-l=k8s-app=kube-dns"],
            "{.items[*].metadata.name}",
        )?;
        let first = pods.split(' ').next().unwrap_or_default();
        bed.node
            .kubectl(&["delete", "pod", "-n=kube-system", first])?;
        bed.node.rolled_out(&COREDNS)?;
        scale(1)?;
        scale(3)
    })?;
    scale(2)?;
    Ok(load)
}

/// Upstreams of the cluster's zone.
fn replicas_known(bed: &Bed) -> Result<usize> {
    let status = bed.status()?;
    let upstreams = status["resolver"]["upstreams"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let own = upstreams.iter().filter(|server| {
        server["zone"]
            .as_str()
            .is_some_and(|zone| zone.starts_with("cluster.local"))
    });
    // One line an address family.
    let v4 = own.filter(|server| {
        server["address"]
            .as_str()
            .is_some_and(|address| !address.starts_with('['))
    });
    Ok(v4.count())
}

fn api_server(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    under_load(&bed.node, POD, SERVER, || {
        bed.node.stop("kube-apiserver")?;
        thread::sleep(API_AWAY);
        bed.node.start_again("kube-apiserver")?;
        wait_for("the API server", Duration::from_secs(60), || {
            bed.node.kubectl(&["get", "--raw=/readyz"]).map(|_| true)
        })
    })
}

fn containerd(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    under_load(&bed.node, POD, SERVER, || {
        bed.node.stop("containerd")?;
        bed.node.start_again("containerd")?;
        can_exec(bed)
    })
}

fn kubelet(bed: &Bed) -> Result<String> {
    bed.install(&[])?;
    under_load(&bed.node, POD, SERVER, || {
        bed.node.stop("kubelet")?;
        bed.node.start_again("kubelet")?;
        can_exec(bed)
    })
}

/// Waits until the API server reaches a container by the kubelet and containerd.
fn can_exec(bed: &Bed) -> Result<()> {
    wait_for("kubectl exec", Duration::from_secs(60), || {
        bed.node
            .kubectl(&["exec", POD, "--", "cat", "/dev/null"])
            .map(|_| true)
    })
}

fn link_local(bed: &Bed) -> Result<String> {
    bed.install(&["mode=both"])?;
    forget(bed)?;
    let transparent = answers(bed, POD)?;
    same(&transparent, &answers(bed, "link-local")?)?;
    let (one, other) = (tracked(bed, POD)?, tracked(bed, "link-local")?);
    if one + other > 0 {
        bail!("{one} and {other} conntrack entries of the two pods' lookups");
    }
    Ok(format!(
        "{} answers at {LINK_LOCAL_IP} as at {SERVER}; none is tracked",
        transparent.len()
    ))
}

fn host_network(bed: &Bed) -> Result<String> {
    let before = answers(bed, "host-network")?;
    bed.install(&[])?;
    same(&before, &answers(bed, "host-network")?)?;
    Ok(format!("{} answers as without the agent", before.len()))
}

fn host_enabled(bed: &Bed) -> Result<String> {
    const POD: &str = "host-network";
    forget(bed)?;
    let before = answers(bed, POD)?;
    // What they send to the link-local address is tracked, and not translated.
    let translated = || tracked_at(bed, POD, &[DNS_IP.0, DNS_IP.1]);
    let tracked_before = translated()?;
    if tracked_before == 0 {
        bail!("without the agent no lookup is tracked: the test shows nothing");
    }
    // The node shares it with the machine, as a real one's processes do.
    let cgroup = cgroup2().context("there is no cgroup2 file system")?;
    let cgroup = format!("hostPaths.cgroup={}", cgroup.display());
    bed.install(&["mode=both", "host.enabled=true", &cgroup])?;
    forget(bed)?;
    same(&before, &answers(bed, POD)?)?;
    let tracked_after = translated()?;
    if tracked_after > 0 {
        bail!(
            "{tracked_after} conntrack entries of the node's own lookups:\n{:#}",
            bed.status()?
        );
    }
    let status = bed.status()?;
    if status["kubernetes"]["intercepts_endpoints"] != Value::Bool(false) {
        bail!("the agent takes its own programs for kube-proxy's:\n{status:#}");
    }
    bed.uninstall()?;
    same(&before, &answers(bed, POD)?)?;
    Ok(format!(
        "{tracked_before} entries in conntrack before, none after; the same answers when uninstalled"
    ))
}

fn excluded(bed: &Bed) -> Result<String> {
    let before = answers(bed, "excluded")?;
    bed.install(&["exclude={default/excluded}"])?;
    forget(bed)?;
    same(&before, &answers(bed, "excluded")?)?;
    let (own, other) = (tracked(bed, "excluded")?, {
        answers(bed, POD)?;
        tracked(bed, POD)?
    });
    if own == 0 || other > 0 {
        bail!("{own} conntrack entries of the pod that is left out, {other} of another one");
    }
    Ok(format!("{own} entries in conntrack; another pod: none"))
}

fn pod_names(bed: &Bed) -> Result<String> {
    bed.install(&["metrics.perPod=true"])?;
    answers(bed, POD)?;
    let url = "http://127.0.0.1:9253/metrics";
    let metrics = bed.node.run("curl", &["--silent", "--fail", url])?;
    let wanted = format!("namespace=\"default\",pod=\"{POD}\"");
    let mut lines = metrics
        .lines()
        .filter(|line| line.starts_with("dns_cache_pod_queries_total{"));
    match lines.find(|line| line.contains(&wanted)) {
        Some(line) => Ok(line.to_owned()),
        None => bail!("no sample of {wanted} in\n{metrics}"),
    }
}

fn imported(bed: &Bed) -> Result<String> {
    // An empty zone shows that it is this file that is in force.
    let corefile = "cluster.local:53 {\n cache 30\n forward . __PILLAR__CLUSTER__DNS__ {\n force_tcp\n }\n}\n\
                    gone.test:53 {\n template ANY ANY gone.test {\n rcode NXDOMAIN\n }\n}\n\
                    .:53 {\n cache 30\n forward . __PILLAR__UPSTREAM__SERVERS__\n}\n";
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "node-local-dns", "namespace": NAMESPACE},
        "data": {"Corefile": corefile},
    });
    bed.node.apply(&map.to_string())?;
    let before = answers(bed, POD)?;
    bed.install(&["importNodeLocalDNS=true", "config.cache.maxEntries=20000"])?;
    same(&before, &answers(bed, POD)?)?;
    let status = bed.status()?;
    if status["kubernetes"]["endpoints"].as_u64().unwrap_or(0) == 0 {
        bail!("the endpoints are not followed:\n{status:#}");
    }
    let agent = bed.node.field(
        &[
            "pod",
            "-n",
            NAMESPACE,
            "-l=app.kubernetes.io/name=dns-cache",
        ],
        "{.items[0].metadata.name}",
    )?;
    let lookup = [
        "exec",
        "-n",
        NAMESPACE,
        &agent,
        "--",
        "dns-cache",
        "lookup",
        "x.gone.test",
    ];
    let text = bed
        .node
        .kubectl(&lookup)
        .unwrap_or_else(|error| format!("{error:#}"));
    if !text.contains("NXDOMAIN") {
        bail!("the imported zone is not in force:\n{text}");
    }
    Ok(format!(
        "{} answers as before, and a zone of the Corefile",
        before.len()
    ))
}

fn manifests(bed: &Bed) -> Result<String> {
    // One of the combinations has the DNS Service there.
    bed.node
        .apply("{apiVersion: v1, kind: Namespace, metadata: {name: dns}}")?;
    let kept = crate::chart::manifests()?;
    let rendered = crate::chart::documented()?;
    let all = kept.into_iter().chain(rendered).collect::<Vec<_>>();
    for (name, text) in &all {
        // The Prometheus operator's kinds are not this cluster's.
        let objects: Vec<_> = text
            .split("\n---\n")
            .filter(|object| !object.contains("monitoring.coreos.com"))
            .collect();
        bed.node
            .apply_dry(&objects.join("\n---\n"))
            .map_err(|error| error.context(name.clone()))?;
    }
    Ok(format!(
        "{} of deploy/manifests and of the documented values",
        all.len()
    ))
}
