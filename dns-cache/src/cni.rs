//! Which pod an interface leads to, by the results that container runtimes keep of their CNI plugins (libcni's cache, a
//! file a pod's interface): no right to list pods is needed for it. Of an interface without a result, nothing is known but
//! the addresses that have asked through it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::future::pending;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::sleep;

use crate::config::{Config, Excluded, InterfacePattern};

/// More than a node has pods.
const MOST_FILES: usize = 4_096;
/// A result has one or two kilobytes.
const MOST_BYTES: u64 = 256 * 1024;

/// Between two looks at the directory: for so long a new pod is served although it is excluded.
const LOOK: Duration = Duration::from_millis(250);

/// A pod's name and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The interfaces of which there is no result, and an address that has asked through each.
pub(crate) type Senders = BTreeMap<String, IpAddr>;

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
    #[serde(default)]
    ips: Vec<Assigned>,
}

/// An address with the length of its network.
#[derive(Debug, Deserialize)]
struct Assigned {
    address: String,
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
pub(crate) fn exclude(config: &mut Config, senders: &Senders) {
    if config.exclude.is_empty() {
        return;
    }
    let is_meant = |pod: &Pod| {
        let is_at = |ip: &IpAddr| is_excluded(config, *ip);
        config.exclude.iter().any(|excluded| match excluded {
            Excluded::Named(pods) => {
                pods.namespace == pod.namespace
                    && pods.name.as_ref().is_none_or(|name| *name == pod.name)
            }
            Excluded::At(_) => pod.addresses.iter().any(is_at),
        })
    };
    let pods = pods(&config.cni_results);
    let senders = senders.iter().filter(|(interface, address)| {
        !pods.contains_key(*interface) && is_excluded(config, **address)
    });
    let senders = senders.map(|(interface, _)| interface.clone());
    let meant = pods.iter().filter(|(_, pod)| is_meant(pod));
    let meant = meant.map(|(interface, _)| interface.clone());
    let mut names: Vec<_> = meant.chain(senders).collect();
    names.sort();
    let patterns = names.into_iter().map(|glob| InterfacePattern {
        exclude: true,
        glob,
    });
    config.interfaces.extend(patterns);
}

/// Whether pods with this address are left alone.
pub(crate) fn is_excluded(config: &Config, address: IpAddr) -> bool {
    let mut excluded = config.exclude.iter();
    excluded.any(|excluded| matches!(excluded, Excluded::At(network) if network.contains(address)))
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
        let address = |ip: &Assigned| ip.address.split('/').next()?.parse().ok();
        let pod = Pod {
            namespace,
            name,
            addresses: self.result.ips.iter().filter_map(address).collect(),
        };
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
            addresses: vec!["10.244.0.5".parse().unwrap()],
        };
        assert_eq!(found.get("veth12345678"), Some(&pod));
        assert!(!found.contains_key("eth0") && !found.contains_key("veth2"));
        assert!(pods(Path::new("/nonexistent")).is_empty());

        let excluded = |pods: &str| {
            let text = format!(
                "listen: [10.96.0.10]\ncluster: {{upstreams: [10.0.0.1]}}\ninterfaces: [\"veth*\"]\n\
                 exclude: [{pods}]\ncniResults: {:?}",
                dir.path()
            );
            let mut config = crate::config::parse(&text, "f".as_ref()).unwrap();
            // Who has a result is known by that alone.
            let senders = [("veth9", "10.244.0.9"), ("veth12345678", "10.244.0.9")];
            let senders = senders.map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()));
            exclude(&mut config, &senders.into());
            let patterns = config
                .interfaces
                .into_iter()
                .filter(|pattern| pattern.exclude);
            patterns.map(|pattern| pattern.glob).collect::<Vec<_>>()
        };
        assert_eq!(excluded("db"), [""; 0]);
        // The bridge stands in the result, too, and carries no program in any case.
        assert_eq!(excluded("default/db-0"), ["cni0", "veth12345678"]);
        assert_eq!(excluded("10.244.0.5"), ["cni0", "veth12345678"]);
        assert_eq!(excluded("10.244.0.8/29"), ["veth9"]);
        assert_eq!(excluded("10.244.0.0/16"), ["cni0", "veth12345678", "veth9"]);
        assert_eq!(excluded("\"fd00::/8\""), [""; 0]);
    }
}
