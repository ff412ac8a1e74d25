//! What `dns-cache status` shows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Addresses that it answers at.
    pub listen: Vec<IpAddr>,
    /// The packet's way.
    pub datapath: DatapathStatus,
    /// The answers.
    pub resolver: ResolverStatus,
}

/// The kernel's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathStatus {
    /// How programs are attached; none while none is.
    pub mechanism: Option<Mechanism>,
    /// The kernel's release (`uname -r`).
    pub kernel: String,
    /// Interfaces with a program.
    pub interfaces: Vec<AttachedInterface>,
    /// The programs' counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Where the resolver's network namespace is mounted; none before it is made.
    pub resolver_netns: Option<PathBuf>,
}

/// How a program hangs on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// A TCX link (kernel 6.6).
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

/// An interface that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedInterface {
    /// Its name.
    pub name: String,
    /// Its index in the node's namespace.
    pub ifindex: u32,
    /// How the program hangs on it.
    pub mechanism: Mechanism,
}

/// Userspace's side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// Answers in the cache.
    pub cache_entries: u64,
    /// Their bytes, keys included.
    pub cache_bytes: u64,
    /// The resolver's counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Every server of every zone.
    pub upstreams: Vec<UpstreamStatus>,
}

/// A server as one zone sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The zone; `.` for what the servers of resolv.conf answer.
    pub zone: String,
    /// The server.
    pub address: SocketAddr,
    /// Open connections.
    pub connections: u64,
    /// Queries without an answer yet.
    pub in_flight: u64,
    /// Queries sent.
    pub queries: u64,
    /// Queries that failed.
    pub failures: u64,
    /// Smoothed round-trip time in microseconds; none before the first answer.
    pub rtt_micros: Option<u64>,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}
