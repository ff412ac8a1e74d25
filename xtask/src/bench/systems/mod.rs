//! The systems that are measured, a file each. A further one is a file and a line in [`ALL`].

mod agent;
mod dnsmasq;
mod kube_proxy;
mod node_local;
mod reflect;
mod unbound;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::{Agent, Family, Lab, Pod, Process, addresses, coredns};

use super::machine;
use super::names;
use super::probe::Probe;
use crate::versions::COREDNS;

/// A system to measure.
#[derive(Debug)]
pub(super) struct System {
    /// As in `--systems` and bench.json.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// A table's column.
    pub(super) short: &'static str,
    /// What it is, for whoever reads the figures.
    pub(super) about: &'static str,
    /// Whether its answers are answers, and not the queries themselves.
    pub(super) resolves: bool,
    /// Whether it has tc programs.
    pub(super) programs: bool,
    /// The one load that it is for: it explains the others' figures there, and has no column of its own.
    pub(super) only: Option<&'static str>,
    start: fn(&Setting) -> Result<Started>,
}

/// The agent in other forms, where only it is measured.
pub(super) use agent::{UDP, WITHOUT_CUTS, with_room};

/// All of them.
pub(super) const ALL: [System; 8] = [
    agent::KERNEL,
    reflect::SYSTEM,
    agent::USERSPACE,
    unbound::SYSTEM,
    dnsmasq::SYSTEM,
    node_local::SYSTEM,
    kube_proxy::SYSTEM,
    UDP,
];

/// The system with this key.
pub(super) fn find(key: &str) -> Result<&'static System, String> {
    static SYSTEMS: [System; 8] = ALL;
    SYSTEMS
        .iter()
        .find(|system| system.key == key)
        .ok_or_else(|| {
            let keys: Vec<_> = SYSTEMS.iter().map(|system| system.key).collect();
            format!("there are {}", keys.join(", "))
        })
}

/// What a system is started with.
#[derive(Debug)]
pub(super) struct Setting {
    /// The agent's program.
    pub(super) agent: PathBuf,
}

/// What a system's file makes.
struct Started {
    lab: Lab,
    /// Where the pod sends its queries.
    server: SocketAddr,
    /// The server's processes; none if the kernel answers.
    processes: Vec<i32>,
    /// The process that holds the system's tc programs.
    programs: Option<i32>,
    version: String,
    /// What must live as long as it runs.
    kept: Kept,
}

/// What makes a system beside its lab.
pub(super) enum Kept {
    /// The lab's CoreDNS is all.
    Nothing,
    Agent(Agent),
    Process(#[expect(dead_code, reason = "it is only to live")] Process),
}

/// A system that runs, in a lab of its own, and answers. Dropping it ends it.
pub(super) struct Running {
    pub(super) system: &'static System,
    pub(super) server: SocketAddr,
    pub(super) processes: Vec<i32>,
    pub(super) programs: Option<i32>,
    pub(super) version: String,
    // Before the lab that it is in.
    kept: Kept,
    pub(super) lab: Lab,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.system.key)
    }
}

impl System {
    /// Starts it and waits until it answers.
    pub(super) fn start(&'static self, setting: &Setting) -> Result<Running> {
        Running::new(self, (self.start)(setting)?)
    }
}

impl Running {
    /// What was started, once it answers.
    fn new(system: &'static System, started: Started) -> Result<Self> {
        let Started {
            lab,
            server,
            processes,
            programs,
            version,
            kept,
        } = started;
        if programs.is_some() != system.programs {
            bail!("its tc programs are not where its file says");
        }
        let running = Self {
            system,
            server,
            processes,
            programs,
            version,
            kept,
            lab,
        };
        running.wait()?;
        Ok(running)
    }

    /// The agent, where the system is one.
    pub(super) const fn agent(&self) -> Option<&Agent> {
        match &self.kept {
            Kept::Agent(agent) => Some(agent),
            Kept::Nothing | Kept::Process(_) => None,
        }
    }

    /// The pod that loads come from.
    pub(super) fn pod(&self) -> &Pod {
        self.lab.pod(0)
    }

    /// A pod beside it, whose interface a generator may change.
    pub(super) fn other_pod(&self) -> &Pod {
        self.lab.pod(1)
    }

    /// How many queries the cluster's CoreDNS and the resolver outside were asked since their start.
    pub(super) fn asked_upstream(&self) -> (u64, u64) {
        let replicas = self.lab.dns().replicas().iter();
        let cluster = replicas.map(|replica| coredns::requests(replica.pod().netns()));
        (cluster.sum(), coredns::requests(self.lab.node().outside()))
    }

    /// The lab's CoreDNS, as a pod reaches it directly.
    pub(super) fn coredns(&self) -> Result<SocketAddr> {
        coredns_of(&self.lab)
    }

    fn wait(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        let query = names::query(&names::cached(0));
        loop {
            // A port that nobody listens on yet is an error of the socket.
            let mut probe = Probe::new(self.pod().netns(), self.server)?;
            match probe.ask(&query) {
                Ok(Some(_)) => return Ok(()),
                result if Instant::now() > end => {
                    result?;
                    bail!("it does not answer");
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// How many pods a lab has.
const PODS: u16 = 2;

/// A lab with one CoreDNS, which all systems ask.
fn lab() -> Lab {
    Lab::builder().pods(PODS).replicas(1).start()
}

/// The address of the lab's CoreDNS.
fn coredns_of(lab: &Lab) -> Result<SocketAddr> {
    let replica = lab.dns().replicas().first().context("no CoreDNS")?;
    Ok(replica.pod().addresses().dns(Family::V4))
}

/// kube-dns, the service.
pub(super) fn cluster_ip() -> SocketAddr {
    addresses::CLUSTER_IP.dns(Family::V4)
}

fn coredns_version() -> String {
    format!("CoreDNS {COREDNS}")
}

/// The first line of what a program says of its version.
fn version(program: &Path, argument: &str) -> String {
    machine::output(Command::new(program).arg(argument)).unwrap_or_else(|| "unknown".to_owned())
}

/// A server on the node's link-local address.
fn on_link_local(lab: Lab, process: Process, version: String) -> Started {
    Started {
        server: dns_cache_tests::node_local::ADDRESS.into(),
        processes: vec![process.pid()],
        programs: None,
        version,
        kept: Kept::Process(process),
        lab,
    }
}
