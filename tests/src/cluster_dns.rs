//! The cluster DNS: replicas behind the ClusterIP, and the resolver outside the cluster.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{self, Family, OUTSIDE, Pair};
use crate::client::{Client, Transport};
use crate::coredns;
use crate::embedded::Embedded;
use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::patience::{LONG, slowness};
use crate::pod::{Flavour, Pod};
use crate::process::Process;
use crate::relay::Relay;
use crate::wire::Query;
use crate::zones::{self, Zone};

/// What stands behind the ClusterIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// A hickory-server authority in this process.
    Embedded,
    /// CoreDNS from the tools folder.
    CoreDns,
    /// A given server, reached from the namespace that this process was started in.
    Address(SocketAddr),
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "coredns" => Ok(Self::CoreDns),
            _ => text
                .parse()
                .or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)))
                .map(Self::Address)
                .map_err(|_| format!("`{text}` is neither `embedded`, `coredns` nor an address (`192.0.2.1`, `192.0.2.1:53`, `[2001:db8::1]:53`)")),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::CoreDns => f.write_str("coredns"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The replicas and the outside resolver.
#[derive(Debug)]
pub struct ClusterDns {
    replicas: Vec<Replica>,
    _outside: Server,
}

impl ClusterDns {
    /// Starts `count` replicas on the node and waits until each of them answers.
    #[must_use]
    pub(crate) fn start(node: &Node, upstream: Upstream, count: u16) -> Self {
        let outside = Server::start(
            node.outside(),
            "outside",
            upstream,
            &[zones::outside()],
            None,
        );
        let replicas: Vec<_> = (0..count)
            .map(|index| Replica::new(node, upstream, index))
            .collect();
        for replica in &replicas {
            replica.wait();
        }
        Self {
            replicas,
            _outside: outside,
        }
    }

    /// The replicas.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// Their addresses: the service's endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Pair> {
        self.replicas
            .iter()
            .map(|replica| replica.pod.addresses())
            .collect()
    }
}

/// One replica: a pod, on a routed veth whatever the flavour, as its subnet is another node's.
#[derive(Debug)]
pub struct Replica {
    name: String,
    upstream: Upstream,
    pod: Pod,
    server: Mutex<Option<Server>>,
}

impl Replica {
    fn new(node: &Node, upstream: Upstream, index: u16) -> Self {
        let name = format!("dns{}", index + 1);
        let pod = Pod::new(node, &name, addresses::replica(index), Flavour::Routed);
        let replica = Self {
            name,
            upstream,
            pod,
            server: Mutex::new(None),
        };
        replica.launch();
        replica
    }

    /// Its pod.
    #[must_use]
    pub const fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The server's pid; `None` if it is no process, or stopped.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &*self.server() {
            Some(Server::Process(process)) => Some(process.pid()),
            _ => None,
        }
    }

    /// Kills the server; its port is closed: ICMP and RST.
    pub fn stop(&self) {
        *self.server() = None;
    }

    /// Starts the server anew after [`Self::stop`], and waits until it answers.
    pub fn start(&self) {
        self.launch();
        self.wait();
    }

    /// SIGSTOP: the port is open and nobody answers. CoreDNS only.
    pub fn pause(&self) {
        self.with_process(Process::pause);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.with_process(Process::resume);
    }

    /// Drops every packet at the pod: silence, no RST, no ICMP.
    pub fn black_hole(&self) {
        self.pod.black_hole();
    }

    /// Ends the silence.
    pub fn reachable(&self) {
        self.pod.reachable();
    }

    /// What the server has written; empty if it is no process.
    #[must_use]
    pub fn log(&self) -> String {
        match &*self.server() {
            Some(Server::Process(process)) => process.log(),
            _ => String::new(),
        }
    }

    fn launch(&self) {
        let netns = self.pod.netns();
        let zones = match self.upstream {
            Upstream::CoreDns => zones::rich(),
            // It forwards nothing: it knows the outside itself.
            _ => [zones::small(), vec![zones::outside()]].concat(),
        };
        *self.server() = Some(Server::start(
            netns,
            &self.name,
            self.upstream,
            &zones,
            Some(OUTSIDE.dns(Family::V4)),
        ));
    }

    fn wait(&self) {
        let name = match self.upstream {
            Upstream::Address(_) => return,
            Upstream::Embedded | Upstream::CoreDns => "kubernetes.default.svc.cluster.local",
        };
        let own = self.pod.addresses().dns(Family::V4);
        let client = Client::new(std::sync::Arc::clone(self.pod.netns()), own)
            .timeout(Duration::from_secs(1));
        let end = Instant::now() + LONG * slowness();
        while client.ask(Transport::Tcp, &Query::new(name, 1)).is_err() {
            assert!(
                Instant::now() < end,
                "{} does not answer:\n{}",
                self.name,
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn with_process(&self, act: impl FnOnce(&Process)) {
        match &*self.server() {
            Some(Server::Process(process)) => act(process),
            _ => panic!("only a CoreDNS process can be stopped and go on"),
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Server {
    Process(Process),
    Embedded { _server: Embedded },
    Relay { _relay: Relay },
}

impl Server {
    fn start(
        netns: &crate::Netns,
        what: &str,
        upstream: Upstream,
        zones: &[Zone],
        forward: Option<SocketAddr>,
    ) -> Self {
        match upstream {
            Upstream::CoreDns => Self::Process(coredns::start(netns, what, zones, forward)),
            Upstream::Embedded => Self::Embedded {
                _server: Embedded::start(netns, zones),
            },
            Upstream::Address(address) => Self::Relay {
                _relay: Relay::start(netns, address),
            },
        }
    }
}

/// The contents of a `resolv.conf` that names the resolver outside the cluster.
#[must_use]
pub fn outside_resolv_conf() -> String {
    format!("nameserver {}\nnameserver {}\n", OUTSIDE.v4, OUTSIDE.v6)
}

/// Writes it below a directory.
#[must_use]
pub(crate) fn write_outside_resolv_conf(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("resolv.conf");
    std::fs::write(&path, outside_resolv_conf())
        .or_panic(format_args!("writing {}", path.display()));
    path
}
