//! What is shown, one claim a function. Each begins without the agent.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::procfs::cgroup2;
use serde_json::Value;

use super::load::under_load;
use super::lookups::{answers, forget, same, tracked, tracked_at};
use super::node_state::NodeState;
use super::{Bed, DAEMONSET, memory, rendered, verify};
use crate::chart::NAMESPACE;
use crate::cluster::node::{output, wait, wait_for};
use crate::cluster::settings::{DNS_IP, Family, LINK_LOCAL_IP, Pair};
use crate::cluster::{components, coredns_manifest};

type Scenario = fn(&Bed) -> Result<String>;

/// By name, in the order in which they run.
pub(super) const SCENARIOS: [(&str, Scenario); 22] = [
    (
        "no lookup is tracked, answers are the same, the kernel gives them",
        lookups,
    ),
    (
        "what NOTES and README say to verify by is so",
        verify::commands,
    ),
    (
        "more cold names under load than a small limit of memory holds",
        memory::limit,
    ),
    ("uninstalled under load", uninstall),
    ("the agent may do no more than it needs", rights),
    ("rollout restart under load", restart),
    ("agent's pod deleted by force under load", force),
    (
        "CoreDNS pod deleted, scaled to 1 and to 3 under load",
        coredns,
    ),
    ("the DNS Service is made anew at other addresses", moved),
    ("API server away for a minute under load", api_server),
    ("containerd restarted under load", containerd),
    ("kubelet restarted under load", kubelet),
    ("a pod asks at the link-local address", link_local),
    ("mode link-local alone", link_local_alone),
    (
        "a pod whose kubelet has the link-local address as clusterDNS",
        cluster_dns,
    ),
    ("a pod on the node's network", host_network),
    ("the same with host.enabled", host_enabled),
    ("pods that are excluded, by name and by namespace", excluded),
    ("metrics name the pods", pod_names),
    ("NodeLocalDNS's ConfigMap is imported", imported),
    ("the API server takes what is rendered", rendered::taken),
    (
        "the plain manifests, applied and deleted under load",
        rendered::applied,
    ),
];

pub(super) const POD: &str = "client";
pub(super) const SERVER: &str = DNS_IP.0;
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
    before.comes_back(bed)?;
    Ok(format!("{load}; nothing is left on the node"))
}

fn rights(bed: &Bed) -> Result<String> {
    /// Capabilities that are left (`linux/capability.h`): NET_BIND_SERVICE, NET_ADMIN, BPF.
    const LEFT: u64 = 1 << 10 | 1 << 12 | 1 << 39;
    const NODES: &str = "nodes [] [] [get]";
    const ENDPOINTS: &str = "endpointslices.discovery.k8s.io [] [] [get list watch]";
    bed.install(&[])?;
    for (namespace, wanted) in [
        ("kube-system", &[ENDPOINTS, NODES][..]),
        ("default", &[NODES]),
    ] {
        let found = granted(bed, namespace)?;
        if found != wanted {
            bail!("what the agent's account may do in {namespace}: {found:#?}");
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
    // A filter of system calls, no way to more rights, and nothing to write to below the root.
    let script = "for pid in $(pidof dns-cache); do grep -hE '^(NoNewPrivs|Seccomp):' /proc/$pid/task/*/status; \
                  awk '$5 == \"/\" { print substr($6, 1, 2) }' /proc/$pid/mountinfo; done | sort -u";
    let bounds = bed.node.run("sh", &["-c", script])?;
    if bounds
        .split_whitespace()
        .ne(["NoNewPrivs:", "1", "Seccomp:", "2", "ro"])
    {
        bail!("what bounds the agent's threads:\n{bounds}");
    }
    Ok(format!(
        "{ENDPOINTS}, {NODES} and nothing else; {all:#x} in all capability sets of all threads; seccomp, a root that is \
         read only"
    ))
}

/// What the agent's account may do in a namespace, beyond what any account may.
fn granted(bed: &Bed, namespace: &str) -> Result<Vec<String>> {
    let rules = |account: &str| -> Result<Vec<String>> {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        let list = ["auth", "can-i", "--list", "--no-headers", "-n", namespace];
        let text = bed.node.kubectl(&[&list[..], &[&account]].concat())?;
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines: Vec<_> = text.lines().map(words).collect();
        lines.sort();
        Ok(lines)
    };
    let ordinary = rules("nobody")?;
    let mut own = rules("dns-cache")?;
    own.retain(|rule| !ordinary.contains(rule));
    Ok(own)
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
    let failed = without_coredns(bed)?;
    scale(2)?;
    Ok(format!(
        "{load}; without CoreDNS the same load fails: {failed}"
    ))
}

/// The control: lookups of the load do need a CoreDNS pod. Returns what failed.
fn without_coredns(bed: &Bed) -> Result<String> {
    /// As long as a lookup may take, and some more.
    const LOAD: Duration = Duration::from_secs(8);
    let pods = ["pod", "-n=kube-system", "-l=k8s-app=kube-dns"];
    bed.node
        .kubectl(&[&["scale"], &COREDNS[..], &["--replicas=0"]].concat())?;
    bed.node
        .kubectl(&[&["wait", "--for=delete", "--timeout=60s"], &pods[..]].concat())?;
    bed.agent(&["cache", "flush"])?;
    let load = under_load(&bed.node, POD, SERVER, || {
        thread::sleep(LOAD);
        Ok(())
    });
    match load {
        Ok(load) => {
            bail!("without CoreDNS no lookup fails, so that this load shows nothing: {load}")
        }
        Err(error) => {
            let text = error.to_string();
            Ok(text.lines().next().unwrap_or_default().to_owned())
        }
    }
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

fn moved(bed: &Bed) -> Result<String> {
    const ELSEWHERE: Pair = Pair("10.96.0.77", "fd00:10:96::77");
    bed.install(&[])?;
    let there = service_at(bed, ELSEWHERE);
    // The other scenarios ask where it was.
    let back = service_at(bed, DNS_IP);
    Ok(format!("{}; {}", there?, back?))
}

/// Deletes the DNS Service and makes it with these addresses; the agent answers there.
fn service_at(bed: &Bed, addresses: Pair) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(120);
    const NAME: &str = "web.default.svc.cluster.local";
    let both: Vec<_> = addresses.of(Family::Dual).collect();
    let manifest = coredns_manifest(&both);
    let (_, service) = manifest
        .rsplit_once("\n---\n")
        .context("the Service stands last")?;
    bed.node
        .kubectl(&["delete", "service", "-n=kube-system", "kube-dns"])?;
    bed.node.apply(service)?;
    let start = Instant::now();
    wait_for("the agent at the Service's addresses", PATIENCE, || {
        Ok(bed.status()?["listen"] == serde_json::json!(both))
    })?;
    let waited = start.elapsed().as_secs();
    forget(bed)?;
    let hits = bed.kernel_hits()?;
    for address in both.iter().cycle().take(4) {
        let mut dig = bed.node.in_pod(POD)?;
        let answer = output(dig.args(["dig", "+short", NAME, &format!("@{address}")]))?;
        if !answer.starts_with("10.96.") {
            bail!("{NAME} at {address}: {answer}");
        }
    }
    let hits = bed.kernel_hits()? - hits;
    let entries = tracked_at(bed, POD, &both)?;
    if hits == 0 || entries > 0 {
        bail!("{hits} answers of the kernel, {entries} entries in conntrack");
    }
    Ok(format!(
        "answered at {} after {waited} s, {hits} of 4 from the kernel",
        both.join(" and ")
    ))
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

fn link_local_alone(bed: &Bed) -> Result<String> {
    let before = answers(bed, POD)?;
    bed.install(&["mode=link-local"])?;
    forget(bed)?;
    same(&before, &answers(bed, "link-local")?)?;
    same(&before, &answers(bed, POD)?)?;
    let (own, other) = (tracked(bed, "link-local")?, tracked(bed, POD)?);
    if own > 0 || other == 0 {
        bail!(
            "{own} conntrack entries of the pod at {LINK_LOCAL_IP}, {other} of the one at {SERVER}"
        );
    }
    Ok(format!(
        "{} answers at {LINK_LOCAL_IP}, none tracked; at {SERVER} {other} entries, as without the agent",
        before.len()
    ))
}

fn cluster_dns(bed: &Bed) -> Result<String> {
    let before = answers(bed, POD)?;
    bed.install(&["mode=link-local"])?;
    components::kubelet_with_dns(&bed.node, &[LINK_LOCAL_IP])?;
    let result = pod_of_kubelet(bed, &before);
    components::kubelet_with_dns(&bed.node, &[SERVER])?;
    can_exec(bed)?;
    result
}

/// A pod that says nothing of DNS.
fn pod_of_kubelet(bed: &Bed, before: &[String]) -> Result<String> {
    const NAME: &str = "by-kubelet";
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "client", "image": "localhost/client:1", "imagePullPolicy": "Never"}],
        },
    });
    bed.node.apply(&pod.to_string())?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "pod",
        NAME,
    ];
    bed.node.kubectl(&ready)?;
    forget(bed)?;
    let result = answers(bed, NAME).and_then(|after| same(before, &after));
    let entries = tracked(bed, NAME)?;
    bed.node.kubectl(&["delete", "pod", NAME])?;
    result?;
    if entries > 0 {
        bail!("{entries} conntrack entries of the pod's lookups");
    }
    Ok(format!(
        "{} answers as at {SERVER}; none is tracked",
        before.len()
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
    let node = NodeState::of(bed)?;
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
    node.comes_back(bed)?;
    Ok(format!(
        "{tracked_before} entries in conntrack before, none after; uninstalled, the same answers and nothing left on the node"
    ))
}

fn excluded(bed: &Bed) -> Result<String> {
    const EXCLUDED: [&str; 2] = ["excluded", "apart/client"];
    let all = |bed| EXCLUDED.map(|pod| answers(bed, pod));
    let before = all(bed);
    bed.install(&["exclude={default/excluded,apart}"])?;
    forget(bed)?;
    let mut said = Vec::new();
    for ((pod, before), after) in EXCLUDED.into_iter().zip(before).zip(all(bed)) {
        same(&before?, &after?)?;
        let entries = tracked(bed, pod)?;
        if entries == 0 {
            bail!("no conntrack entry of {pod}, which is left out");
        }
        said.push(format!("{pod}: {entries} entries in conntrack"));
    }
    answers(bed, POD)?;
    let other = tracked(bed, POD)?;
    if other > 0 {
        bail!("{other} conntrack entries of a pod that is not left out");
    }
    Ok(format!("{}; another pod: none", said.join(", ")))
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
