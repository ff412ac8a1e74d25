//! The packet's way: the eBPF programs, the interfaces they sit on, and the resolver's namespace.
//!
//! Minimum kernel: 5.10 (`bpf_redirect_peer`); TCX from 6.6, clsact below.

mod access;
mod attach;
mod bpffs;
mod bridge_ports;
mod capabilities;
mod consent;
mod error;
mod filters;
mod host_routes;
mod host_sockets;
mod inspect;
mod interfaces;
mod lock;
mod measure;
mod namespace;
mod pins;
mod programs;
mod reflect;
mod sockets;
mod undisturbed;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use dns_cache_common::hits::Hit;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::debug;

pub use access::Access;
pub use attach::Mechanism;
pub use capabilities::{Capabilities, Lack, release};
pub use consent::Consent;
pub use error::Error;
pub use inspect::{Figures, inspect};
pub use interfaces::Attached;
pub use measure::{Measured, Stage, Stages, measure};
pub use programs::{LoadOptions, OBJECT, kernel_cache, link_stages, load};
pub use reflect::Reflector;
pub use undisturbed::{Undisturbed, verified};

use crate::config::{Config, Destination, InterfacePattern, Network, is_link_local};
use crate::kernel_cache::{KernelCache, Size};
use crate::privileges::Resident;
use crate::serve::{Heartbeats, Sockets};
use crate::sys;
use attach::Attacher;
use error::Step as _;
use host_routes::HostRoutes;
pub use lock::NodeLock;
use namespace::Namespace;
pub use namespace::ResolverLink;
use pins::Pins;
use programs::{Cache, Programs};
use sockets::Slots;

/// The running datapath; dropping it leaves the programs where they are (see [`detach`]). The resolver's namespace goes
/// with its resident and its sockets.
pub struct Datapath {
    state: Arc<Mutex<interfaces::State>>,
    watcher: JoinHandle<()>,
    logger: Option<JoinHandle<()>>,
    host_routes: tokio::sync::Mutex<HostRoutes>,
    namespace: Namespace,
    /// Of its sockets' heartbeats.
    slots: Mutex<Slots>,
    pins: Pins,
    bpffs: PathBuf,
    lock: NodeLock,
}

/// What another agent, which still runs, has handed over.
#[derive(Debug)]
pub struct Inherited {
    /// The resolver's network namespace.
    pub namespace: OwnedFd,
    /// The way there.
    pub link: ResolverLink,
    /// The resolver's sockets.
    pub sockets: Sockets,
    /// Whether that agent still leaves it all.
    pub consent: Consent,
}

/// What the resolver listens with.
pub struct Listening {
    /// Open, and bound to the addresses that are intercepted, or were by the agent before.
    pub sockets: Sockets,
    /// The addresses that only the agent before intercepted.
    pub left: Vec<IpAddr>,
    /// Where it shows that it does so.
    pub heartbeats: Heartbeats,
}

/// What the programs need of the resolver, to answer by themselves.
pub struct KernelSide {
    /// Where it puts its answers.
    pub cache: Arc<KernelCache>,
    /// By which they ask it for new ones.
    pub refreshes: RingBuf<MapData>,
}

/// What `dns-cache status` shows of the datapath.
#[derive(Debug, Clone)]
pub struct Status {
    /// How programs are attached to new interfaces.
    pub mechanism: Mechanism,
    /// What the kernel lacks, and what is done instead.
    pub lacks: Vec<Lack>,
    /// Interfaces that lead to pods and carry the program.
    pub interfaces: Vec<Attached>,
    /// Those that should carry it and do not: it could not be attached.
    pub missing: Vec<String>,
    /// How often it could not be attached since the start.
    pub failed_interfaces: u64,
    /// The programs' counters, over all CPUs.
    pub counters: Vec<(&'static str, u64)>,
    /// The queries that they answered, which are among the counters by their codes.
    pub hits: Vec<(Hit, u64)>,
}

/// How the node's own processes reach the resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The addresses to which they have a route.
    pub routes: Vec<IpAddr>,
    /// Whether they are served at all others as well: the programs are on their cgroup.
    pub sockets: bool,
}

impl Datapath {
    /// Makes the resolver's namespace and its sockets, or takes another agent's; loads the programs and attaches them,
    /// in place of another agent's. With a kernel cache, the resolver must be told of it. When all stands, the resident
    /// gives up what it needed for that.
    ///
    /// Must be called from within a tokio runtime whose threads are in the node's namespace.
    ///
    /// # Errors
    ///
    /// Says which step failed, on what, and why. What was made until then is taken away again, but not what others have
    /// left: an agent that runs has its own still, and what a dead one left serves on without it.
    pub async fn start(
        config: &Config,
        lock: NodeLock,
        resident: Resident,
        capabilities: Capabilities,
        inherited: Option<Inherited>,
    ) -> Result<(Self, Listening, Option<KernelSide>), Error> {
        let (is_first, is_alone) = (inherited.is_none(), !bpffs::has_pins(&config.bpffs));
        let started =
            Self::start_steps(config, lock, resident.clone(), capabilities, inherited).await;
        let started = started.and_then(|started| {
            let settled = resident.settle();
            if settled.is_err() {
                started.0.stop();
            }
            settled.step(|| "give up the privileges of the start".to_owned())?;
            Ok(started)
        });
        if started.is_err() && is_first {
            // The first error is the one to report.
            let _ = match is_alone {
                true => detach(config, &resident).await.map(drop),
                // As if this agent had been killed: programs that it may have replaced by then find no socket.
                false => withdraw().await,
            };
        }
        started
    }

    async fn start_steps(
        config: &Config,
        lock: NodeLock,
        resident: Resident,
        capabilities: Capabilities,
        inherited: Option<Inherited>,
    ) -> Result<(Self, Listening, Option<KernelSide>), Error> {
        let bpffs = config.bpffs.clone();
        let dirs = resident.run(move || bpffs::prepare(&bpffs))?;
        let pins = Pins::new(dirs.maps.clone());
        let is_first = inherited.is_none();
        let listen = &config.listen;
        let (namespace, sockets, mut consent) = match inherited {
            None => (
                Namespace::create(listen, resident).await?,
                Sockets::default(),
                Consent::of_nobody(),
            ),
            Some(Inherited {
                namespace,
                link,
                sockets,
                consent,
            }) => (
                Namespace::join(listen, resident, namespace, link).await?,
                sockets,
                consent,
            ),
        };
        let mut slots = Slots::default();
        let (sockets, left) = sockets::complete(namespace.resident(), listen, sockets, &mut slots)?;

        let cache = config.cache.kernel.then(|| Cache {
            size: Size::new(&config.cache),
            contents: config.fingerprint(),
        });
        let patience = Duration::from_millis(config.queries.wedged_after_millis.into());
        let (destinations, access) = (config.destinations(), config.access.clone());
        let host = config.host.enabled.then(|| host_sockets::Place {
            cgroup: config.host.cgroup.clone(),
            pins: dirs.host.clone(),
            // Not the resident's, which is the resolver's. Where the kernel tells none, no socket is taken for the node's.
            node: sys::netns_cookie().unwrap_or_default(),
        });
        let (mut programs, pins, mut consent) = namespace.resident().run(move || {
            let programs = Programs::load(
                &pins,
                &destinations,
                &access,
                patience,
                cache,
                host,
                &mut consent,
            )?;
            Ok::<_, Error>((programs, pins, consent))
        })?;
        let logger = programs.forward_logs();
        let mut host_routes = HostRoutes::new(*namespace.link());
        if config.host.enabled {
            programs.attach_to_cgroup();
        } else {
            bpffs::remove_host(&config.bpffs)?;
        }
        let heartbeats = programs.heartbeats()?;
        let kernel = programs.take_kernel_side();
        programs.keep_stages()?;
        programs.set_resolver(namespace.link())?;
        let mut state = interfaces::State::new(
            config.interfaces.clone(),
            has_fallback(&config.destinations()),
            programs,
            Attacher::new(config.attach, capabilities, dirs.links, &config.state_dir),
            *namespace.link(),
        );
        // Replies first have a way back, or keep the one that they have: the old program knows the clients of the
        // queries under way, which this one does not if its maps are new.
        let events = if is_first {
            state.attach_resolver()?;
            interfaces::Events::connect(&mut state).await?
        } else {
            let events = interfaces::Events::connect(&mut state).await?;
            state.attach_resolver()?;
            events
        };
        host_routes.set(&config.own_addresses()).await?;
        // With many interfaces that took its time, and from here on the resolver writes to the kernel cache.
        consent.ask()?;
        let state = Arc::new(Mutex::new(state));
        let watcher = tokio::spawn(interfaces::watch(events, Arc::clone(&state)));
        Ok((
            Self {
                state,
                watcher,
                logger,
                host_routes: tokio::sync::Mutex::new(host_routes),
                namespace,
                slots: Mutex::new(slots),
                pins,
                bpffs: config.bpffs.clone(),
                lock,
            },
            Listening {
                sockets,
                left,
                heartbeats,
            },
            kernel,
        ))
    }

    /// Removes what earlier agents left and this one does not use: pins, and the node's own routes to the resolver. None of
    /// them may run any more.
    ///
    /// # Errors
    ///
    /// A pin cannot be removed, or the routes cannot be looked at.
    pub async fn forget_predecessors(&self) -> Result<(), Error> {
        self.pins.keep_only_own();
        bpffs::remove_other_layouts(&self.bpffs)?;
        self.host_routes.lock().await.remove_others().await
    }

    /// The node's lock, the resolver's namespace and the way there, for another process.
    ///
    /// # Errors
    ///
    /// There are no more descriptors.
    pub fn duplicate(&self) -> io::Result<(OwnedFd, OwnedFd, ResolverLink)> {
        let (lock, namespace) = (self.lock.duplicate()?, self.namespace.duplicate()?);
        Ok((lock, namespace, *self.namespace.link()))
    }

    /// Leaves the node's interfaces to a successor.
    pub fn pause(&self) {
        interfaces::lock(&self.state).pause();
    }

    /// Takes everything back from a successor that has ended: these destinations are intercepted again, by this agent's
    /// programs.
    ///
    /// # Errors
    ///
    /// The kernel refuses to attach a program or to write a map.
    pub async fn take_back(&self, destinations: &[Destination]) -> Result<(), Error> {
        let has_host_sockets = interfaces::lock(&self.state).has_host_sockets();
        interfaces::take_back(&self.state, destinations).await?;
        if !has_host_sockets {
            bpffs::remove_host(&self.bpffs)?;
        }
        // No program of the successor's is attached any more.
        self.pins.keep_only_own();
        Ok(())
    }

    /// What is attached, and what was counted.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read a map.
    pub fn status(&self) -> Result<Status, Error> {
        interfaces::lock(&self.state).status()
    }

    /// Of each interface that leads to a pod, by its name, an address that has asked through it: the lowest, IPv4 before
    /// IPv6.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read a map.
    pub fn senders(&self) -> Result<BTreeMap<String, IpAddr>, Error> {
        interfaces::lock(&self.state).senders()
    }

    /// What is there for the node's own processes. Not for tasks: it may block.
    #[must_use]
    pub fn host(&self) -> HostStatus {
        HostStatus {
            routes: self.host_routes.blocking_lock().present().collect(),
            sockets: interfaces::lock(&self.state).has_host_sockets(),
        }
    }

    /// Sockets at further addresses. Nothing is handed to them before [`intercept`](Self::intercept) says so.
    ///
    /// # Errors
    ///
    /// The kernel refuses an address or a socket.
    pub async fn open(&self, addresses: &[IpAddr]) -> Result<Sockets, Error> {
        self.namespace.add_addresses(addresses).await?;
        sockets::open(self.namespace.resident(), addresses, &mut self.slots())
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Each change is complete in itself.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on packets to these addresses are handed to the resolver, and to no others. An address that is
    /// left out stays in the resolver's namespace, where late answers come from it.
    ///
    /// # Errors
    ///
    /// The kernel refuses to write a map.
    pub fn intercept(&self, destinations: &[Destination]) -> Result<(), Error> {
        interfaces::lock(&self.state).set_intercepted(destinations)?;
        self.slots()
            .retain(|ip| destinations.iter().any(|to| to.address == ip));
        Ok(())
    }

    /// From here on the kernel answers these networks, and no others; all if there are none.
    ///
    /// # Errors
    ///
    /// The kernel refuses to write a map.
    pub fn allow(&self, networks: &[Network]) -> Result<(), Error> {
        interfaces::lock(&self.state).set_allowed(networks)
    }

    /// From here on the node's own processes reach these addresses at the resolver, and no others.
    ///
    /// # Errors
    ///
    /// The node's routes cannot be changed.
    pub async fn route(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.host_routes.lock().await.set(addresses).await
    }

    /// From here on the interfaces that these patterns mean carry the program, and no others.
    ///
    /// # Errors
    ///
    /// The node's interfaces cannot be listed; then those that come from now on are judged by the patterns.
    pub async fn follow(&self, patterns: Vec<InterfacePattern>) -> Result<(), Error> {
        interfaces::follow_patterns(&self.state, patterns).await
    }

    /// The file that names the resolver's namespace.
    pub fn namespace_path(&self) -> &Path {
        self.namespace.path()
    }

    /// From here on nothing new is handed to the resolver: queries and SYNs take the ordinary path, open
    /// connections go on. What the sockets hold can then be answered without more coming in.
    ///
    /// # Errors
    ///
    /// The kernel refuses to write a map.
    pub fn close(&self) -> Result<(), Error> {
        interfaces::lock(&self.state).close()
    }

    /// Stops watching for interfaces. Programs stay: without the resolver's sockets they step aside.
    pub fn stop(&self) {
        self.watcher.abort();
        if let Some(logger) = &self.logger {
            logger.abort();
        }
    }
}

/// The addresses with an ordinary path that the agent before has intercepted, or told the programs to fall back to: one
/// that hands over, and one that was killed and had the maps that this one has. Addresses that are each link's own are
/// never among them.
#[must_use]
pub fn served_before(
    bpffs: &Path,
    resident: &Resident,
    inherited: Option<&Inherited>,
) -> Vec<IpAddr> {
    let bpffs = bpffs.to_owned();
    let pinned = resident.run(move || bpffs::intercepted(&bpffs));
    let pinned = pinned.unwrap_or_else(|error| {
        debug!(%error, "not known what was intercepted before");
        Vec::new()
    });
    let sockets = inherited.map(|inherited| &inherited.sockets.udp);
    let sockets = sockets.into_iter().flatten();
    let sockets = sockets.filter_map(|socket| Some(socket.local_addr().ok()?.ip()));
    let diverted = |ip: &IpAddr| pinned.iter().any(|to| to.address == *ip && to.is_own());
    let mut served: Vec<_> = pinned
        .iter()
        .map(|to| to.fallback.unwrap_or(to.address))
        .chain(sockets)
        .filter(|ip| !is_link_local(*ip) && !diverted(ip))
        .collect();
    served.sort();
    served.dedup();
    served
}

/// Whether what goes to pods must be looked at as well.
fn has_fallback(destinations: &[Destination]) -> bool {
    destinations.iter().any(|to| to.fallback.is_some())
}

/// Removes the way to the resolver, which would go by itself when its namespace does.
async fn withdraw() -> Result<(), Error> {
    let _lock = NodeLock::take()?;
    namespace::remove().await.map(drop)
}

/// Removes every program, pin, namespace and interface that an agent with this configuration may have
/// left behind, and says what that was. Nothing to remove is no error.
///
/// # Errors
///
/// An agent runs in this network namespace, whatever its configuration; or the first thing that could not be
/// removed, and then the rest is removed all the same.
pub async fn detach(config: &Config, resident: &Resident) -> Result<Vec<String>, Error> {
    let _lock = NodeLock::take()?;
    let mut removed = Vec::new();
    let mut first_error = None;
    let mut note = |result: Result<Vec<String>, Error>| match result {
        Ok(what) => removed.extend(what),
        Err(error) => {
            first_error.get_or_insert(error);
        }
    };
    let bpffs = config.bpffs.clone();
    note(resident.run(move || bpffs::switch_off(&bpffs).map(|()| Vec::new())));
    note(attach::detach_all(&config.state_dir).await);
    let bpffs = config.bpffs.clone();
    note(resident.run(move || bpffs::remove(&bpffs)));
    note(namespace::remove().await);
    first_error.map_or(Ok(removed), Err)
}
