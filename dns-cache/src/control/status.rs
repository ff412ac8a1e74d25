//! What `dns-cache status` shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel_cache;
use crate::resolver::Loop;

pub use crate::datapath::{Attached as AttachedInterface, HostStatus, Lack, Mechanism};
pub use crate::resolver::UpstreamStatus;

/// An agent at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// Its configuration's file; none if flags gave all of it.
    pub config_path: Option<PathBuf>,
    /// How reading it anew went.
    pub reload: ReloadStatus,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Addresses that it answers at.
    pub listen: Vec<IpAddr>,
    /// What the cluster tells; none without Kubernetes.
    pub kubernetes: Option<KubernetesStatus>,
    /// The packet's way.
    pub datapath: DatapathStatus,
    /// The answers.
    pub resolver: ResolverStatus,
}

/// How reading the configuration anew went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// Seconds since the configuration in force was read.
    pub loaded_seconds_ago: u64,
    /// How often it was taken over since the start.
    pub succeeded: u64,
    /// How often it was refused.
    pub failed: u64,
    /// Why, if it was refused the last time; the one from before is in force.
    pub error: Option<String>,
    /// Keys whose new values wait for a restart.
    pub needs_restart: Vec<String>,
}

/// The kernel's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathStatus {
    /// How programs are attached; none while none is.
    pub mechanism: Option<Mechanism>,
    /// The kernel's release (`uname -r`).
    pub kernel: String,
    /// What that kernel lacks, and what is done instead.
    #[serde(default)]
    pub lacks: Vec<Lack>,
    /// Interfaces with a program.
    pub interfaces: Vec<AttachedInterface>,
    /// How the node's own processes are served.
    #[serde(default)]
    pub host: HostStatus,
    /// What is in the kernel cache; none if it is switched off.
    pub cache: Option<kernel_cache::Usage>,
    /// Bytes of all the programs' maps, as the kernel accounts for them; none if it does not say.
    #[serde(default)]
    pub map_bytes: Option<u64>,
    /// The programs' counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// A file that names the resolver's network namespace, in the agent's /proc; none before it is made.
    pub resolver_netns: Option<PathBuf>,
}

/// Userspace's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// Answers in the cache.
    pub cache_entries: u64,
    /// Their bytes, keys included.
    pub cache_bytes: u64,
    /// The most answers that the configuration allows, here and in the kernel.
    #[serde(default)]
    pub cache_max_entries: u64,
    /// The most bytes that it allows, here and in the kernel together.
    #[serde(default)]
    pub cache_max_bytes: u64,
    /// The resolver's counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Every server of every zone.
    pub upstreams: Vec<UpstreamStatus>,
    /// Resolvers that ask this cache what it asks them.
    #[serde(default)]
    pub loops: Vec<Loop>,
    /// Why resolv.conf gives no servers for what lies outside all zones; none if it does, or is not asked.
    #[serde(default)]
    pub resolv_conf_error: Option<String>,
}

/// What the cluster tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesStatus {
    /// The DNS Service, `NAMESPACE/NAME`.
    pub service: String,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Its endpoints that take queries; those that were last known, if there are none.
    pub endpoints: usize,
    /// Whether queries to the endpoints' own addresses are intercepted.
    pub intercepts_endpoints: bool,
    /// Why the API server is not heard; none if it is.
    pub api_error: Option<String>,
    /// How often it could not be asked, or did not answer as it should.
    pub api_errors: u64,
    /// For how many seconds it has been heard, or not.
    pub api_since_seconds: u64,
}
