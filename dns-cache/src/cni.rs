//! Which pod an interface leads to, by the results that container runtimes keep of their CNI plugins (libcni's cache, a
//! file a pod's interface): no right to list pods is needed for it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::future::pending;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::sleep;

use crate::config::{Config, InterfacePattern};

/// More than a node has pods.
const MOST_FILES: usize = 4_096;
/// A result has one or two kilobytes.
const MOST_BYTES: u64 = 256 * 1024;

/// Between two looks at the directory: for so long a new pod is served although it is excluded.
const LOOK: Duration = Duration::from_millis(250);

/// A pod's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A file of the cache, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    result: Added,
}

/// What a plugin has made.
#[derive(Debug, Deserialize)]
struct Added {
    #[serde(default)]
    interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    /// The pod's namespace; nothing for what is in the node's.
    #[serde(default)]
    sandbox: String,
}

/// Pods by the names of the interfaces in the node's namespace that lead to them. What cannot be read is left out.
pub(crate) fn pods(dir: &Path) -> HashMap<String, Pod> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let cached = entries
        .take(MOST_FILES)
        .filter_map(|entry| read(&entry.path()));
    cached.flat_map(|cached| cached.named()).collect()
}

/// Leaves the interfaces of excluded pods out.
pub(crate) fn exclude(config: &mut Config) {
    if config.exclude.is_empty() {
        return;
    }
    let is_meant = |pod: &Pod| {
        config.exclude.iter().any(|excluded| {
            excluded.namespace == pod.namespace
                && excluded.name.as_ref().is_none_or(|name| *name == pod.name)
        })
    };
    let pods = pods(&config.cni_results);
    let meant = pods.into_iter().filter(|(_, pod)| is_meant(pod));
    let mut names: Vec<_> = meant.map(|(interface, _)| interface).collect();
    names.sort();
    let patterns = names.into_iter().map(|glob| InterfacePattern {
        exclude: true,
        glob,
    });
    config.interfaces.extend(patterns);
}

/// The directory with the results, which may change.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<(SystemTime, usize)>,
    /// A file that has just come may not have been whole.
    again: bool,
}

impl Watch {
    /// Returns when pods have come or gone; never, if that does not matter.
    pub(crate) async fn changed(&mut self, config: &Config) {
        if config.exclude.is_empty() {
            return pending().await;
        }
        loop {
            sleep(LOOK).await;
            let now = version(&config.cni_results);
            let has_changed = now != self.seen;
            self.seen = now;
            if std::mem::replace(&mut self.again, has_changed) || has_changed {
                return;
            }
        }
    }
}

/// When a directory was written, and how many files it has: the clock of a file system is coarse.
fn version(dir: &Path) -> Option<(SystemTime, usize)> {
    let written = fs::metadata(dir).and_then(|metadata| metadata.modified());
    Some((written.ok()?, fs::read_dir(dir).ok()?.count()))
}

fn read(path: &Path) -> Option<Cached> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Cached {
    /// The node's interfaces of this pod. A bridge stands in the results of all pods on it; it has no program, so that
    /// nobody asks for it.
    fn named(self) -> Vec<(String, Pod)> {
        let arg = |key| {
            let found = self.cni_args.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone())
        };
        let (Some(namespace), Some(name)) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) else {
            return Vec::new();
        };
        let pod = Pod { namespace, name };
        let of_node = self
            .result
            .interfaces
            .into_iter()
            .filter(|interface| interface.sandbox.is_empty());
        of_node
            .map(|interface| (interface.name, pod.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_pods() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        // As containerd has it of the plugin bridge.
        write(
            "pods-0a1b-eth0",
            r#"{"kind":"cniCacheV1","containerId":"0a1b","config":"e30=","ifName":"eth0","networkName":"pods",
            "cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","default"],["K8S_POD_NAME","db-0"],["K8S_POD_UID","x"]],
            "result":{"cniVersion":"1.0.0","dns":{},"interfaces":[{"mac":"0a:58","name":"cni0"},
            {"mac":"c6:00","name":"veth12345678"},{"mac":"06:00","name":"eth0","sandbox":"/var/run/netns/cni-1"}],
            "ips":[{"address":"10.244.0.5/24","interface":2}]}}"#,
        );
        write("no-args", r#"{"result":{"interfaces":[{"name":"veth2"}]}}"#);
        write("no-json", "{");
        let found = pods(dir.path());
        let pod = Pod {
            namespace: "default".to_owned(),
            name: "db-0".to_owned(),
        };
        assert_eq!(found.get("veth12345678"), Some(&pod));
        assert!(!found.contains_key("eth0") && !found.contains_key("veth2"));
        assert!(pods(Path::new("/nonexistent")).is_empty());
    }
}
