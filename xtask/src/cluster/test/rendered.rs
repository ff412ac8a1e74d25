//! What is rendered of the chart: whether the API server takes it, and how it does without helm.

use anyhow::{Context, Result, bail};

use super::Bed;
use super::load::under_load;
use super::lookups::{answers, forget, same, tracked};
use super::node_state::NodeState;
use super::scenarios::{POD, SERVER};
use crate::chart::{self, NAMESPACE};

/// The Prometheus Operator's kinds.
const MONITORING: &str = include_str!("../files/monitoring.yaml");

/// By the API server's own check, of every object and every field.
pub(super) fn taken(bed: &Bed) -> Result<String> {
    // One of the combinations has the DNS Service there.
    bed.node
        .apply("{apiVersion: v1, kind: Namespace, metadata: {name: dns}}")?;
    bed.node.apply(MONITORING)?;
    let ready = ["wait", "--for=condition=Established", "crd", "--all"];
    bed.node.kubectl(&ready)?;
    let all: Vec<_> = [chart::manifests()?, chart::documented()?].concat();
    for (name, text) in &all {
        bed.node
            .apply_dry(text)
            .map_err(|error| error.context(name.clone()))?;
        // The check sees into the operator's kinds as well.
        let wrong = text.replace("relabelings:", "relabellings:");
        if wrong != *text && bed.node.apply_dry(&wrong).is_ok() {
            bail!("{name}: a field that there is not is let through");
        }
    }
    Ok(format!(
        "{} of deploy/manifests and of the documented values",
        all.len()
    ))
}

/// `kubectl apply` and `kubectl delete` of a manifest that is kept, under load.
pub(super) fn applied(bed: &Bed) -> Result<String> {
    let manifests = chart::manifests()?;
    let mut manifests = manifests.iter();
    let (_, manifest) = manifests
        .find(|(name, _)| name.ends_with("transparent.yaml"))
        .context("there is no transparent.yaml")?;
    let before = NodeState::of(bed)?;
    let wanted = answers(bed, POD)?;
    bed.node.apply(manifest)?;
    let shown = bed.rolled_out().and_then(|()| serves(bed, &wanted));
    let load = under_load(&bed.node, POD, SERVER, || {
        bed.node.delete(manifest)?;
        bed.pods_ended()
    });
    let (hits, load) = (shown?, load?);
    before.comes_back(bed)?;
    let left = bed
        .node
        .kubectl(&["get", "all", "-n", NAMESPACE, "-o=name"])?;
    if left.contains("dns-cache") {
        bail!("left in the cluster:\n{left}");
    }
    Ok(format!(
        "applied: {} answers equal, {hits} from the kernel; deleted: {load}, nothing is left on the node",
        wanted.len()
    ))
}

/// The same answers, untracked; how many came from the kernel.
fn serves(bed: &Bed, wanted: &[String]) -> Result<u64> {
    forget(bed)?;
    same(wanted, &answers(bed, POD)?)?;
    let hits = bed.kernel_hits()?;
    same(wanted, &answers(bed, POD)?)?;
    let hits = bed.kernel_hits()? - hits;
    let entries = tracked(bed, POD)?;
    if hits == 0 || entries > 0 {
        bail!("{hits} answers from the kernel, {entries} conntrack entries of the pod's lookups");
    }
    Ok(hits)
}
