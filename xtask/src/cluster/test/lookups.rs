//! Lookups of a pod, one by one: what is answered, and what conntrack sees of it.

use anyhow::{Context, Result, bail};

use super::Bed;
use crate::cluster::kubectl::pod_object;
use crate::cluster::node::output;
use crate::cluster::settings::{DNS_IP, LINK_LOCAL_IP};

/// What an application asks for: by the system's resolver with its search list, and each kind of answer.
const GETENT: [&str; 6] = [
    "web",
    "web.default.svc.cluster.local",
    "kubernetes.default",
    "db-0.db",
    "www.example.test",
    "nothing.default.svc.cluster.local",
];
const DIG: [&str; 8] = [
    "web.default.svc.cluster.local A",
    "web.default.svc.cluster.local AAAA",
    "web.default.svc.cluster.local A +tcp",
    "db.default.svc.cluster.local A",
    "_http._tcp.web.default.svc.cluster.local SRV",
    "www.example.test A",
    "nothing.default.svc.cluster.local A",
    "-x 10.96.0.1",
];

/// What a pod is answered, in a form that the way of an answer does not change: no TTLs, no order.
pub(super) fn answers(bed: &Bed, pod: &str) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    for name in GETENT {
        // A name that there is not is an exit status.
        let output = bed
            .node
            .in_pod(pod)?
            .args(["getent", "hosts", name])
            .output()?;
        answers.push(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        ));
    }
    for question in DIG {
        let mut dig = bed.node.in_pod(pod)?;
        dig.args([
            "dig",
            "+noall",
            "+answer",
            "+comments",
            "+nocookie",
            "+nottl",
        ])
        .args(question.split(' '));
        let text = output(&mut dig).with_context(|| format!("{question} from the pod {pod}"))?;
        let rcode = text
            .split("status: ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let rcode = rcode.with_context(|| format!("no status in:\n{text}"))?;
        if rcode == "SERVFAIL" {
            bail!("{question}: SERVFAIL, with or without the agent:\n{text}");
        }
        let mut records: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with(';') && !line.is_empty())
            .collect();
        records.sort_unstable();
        answers.push(format!("{question}: {rcode} {}", records.join(" | ")));
    }
    Ok(answers)
}

/// conntrack's entries of this pod's lookups.
pub(super) fn tracked(bed: &Bed, pod: &str) -> Result<usize> {
    tracked_at(bed, pod, &[DNS_IP.0, DNS_IP.1, LINK_LOCAL_IP])
}

/// The same of those at these addresses alone.
pub(super) fn tracked_at(bed: &Bed, pod: &str, servers: &[&str]) -> Result<usize> {
    let addresses = bed.node.field(&pod_object(pod), "{.status.podIPs[*].ip}")?;
    let mut count = 0;
    for family in ["ipv4", "ipv6"] {
        let table = bed.node.run("conntrack", &["-L", "-f", family])?;
        let is_dns = |line: &&str| line.contains("dport=53 ");
        let is_own = |line: &&str| {
            let mut pairs = addresses
                .split(' ')
                .flat_map(|from| servers.iter().map(move |to| (from, to)));
            pairs.any(|(from, to)| line.contains(&format!("src={from} dst={to} ")))
        };
        count += table.lines().filter(is_dns).filter(is_own).count();
    }
    Ok(count)
}

/// Forgets what was tracked.
pub(super) fn forget(bed: &Bed) -> Result<()> {
    bed.node.run("conntrack", &["-F"]).map(drop)
}

/// Fails with the lines that differ.
pub(super) fn same(before: &[String], after: &[String]) -> Result<()> {
    let different: Vec<_> = before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after)
        .map(|(before, after)| format!("- {before}\n+ {after}"))
        .collect();
    if !different.is_empty() {
        bail!("the agent answers otherwise:\n{}", different.join("\n"));
    }
    Ok(())
}
