//! The loaded programs and their maps.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{
    Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues, ProgramArray,
};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use aya_obj::Object;
use dns_cache_common::hash::Seed;
use dns_cache_common::hits::{Code, Hit};
use dns_cache_common::maps::{
    Address, BridgePort, Client, Counter, HEARTBEATS, Instead, Interface, Resolver,
    STAGE_TO_RESOLVER, Traffic, globals, names,
};
use tokio::task::JoinHandle;
use tracing::{Level, warn};

use super::access::Access;
use super::bridge_ports::BridgePorts;
use super::error::{Error, Step as _};
use super::namespace::ResolverLink;
use super::pins::Pins;
use super::undisturbed::{Undisturbed, verified};
use super::{Consent, KernelSide, host_sockets};
use crate::config::{Destination, Network};
use crate::kernel_cache::{self, KernelCache, Size};
use crate::serve::Heartbeats;
use crate::sys::SharedWords;

/// How often log records are fetched; debugging needs no more, and no descriptor to poll.
const LOG_INTERVAL: Duration = Duration::from_millis(20);
/// The object file that build.rs made of dns-cache-ebpf.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("DNS_CACHE_EBPF_OBJECT"));

/// The programs in it.
pub(super) const NAMES: [&str; 5] = [
    "pod_ingress",
    "pod_egress",
    "to_resolver",
    "resolver_ingress",
    "host_egress",
];

/// One that interfaces carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    PodIngress,
    PodEgress,
    ResolverIngress,
    HostEgress,
}

impl Carried {
    const fn name(self) -> &'static str {
        match self {
            Self::PodIngress => "pod_ingress",
            Self::PodEgress => "pod_egress",
            Self::ResolverIngress => "resolver_ingress",
            Self::HostEgress => "host_egress",
        }
    }

    pub(super) const fn direction(self) -> TcAttachType {
        match self {
            Self::PodIngress | Self::ResolverIngress => TcAttachType::Ingress,
            Self::PodEgress | Self::HostEgress => TcAttachType::Egress,
        }
    }
}

/// The programs, loaded, and the maps that the agent writes.
pub(super) struct Programs {
    ebpf: Ebpf,
    intercept: HashMap<MapData, [u8; 16], [u8; 16]>,
    left: HashMap<MapData, [u8; 16], u32>,
    instead: Array<MapData, [u8; 32]>,
    interfaces: HashMap<MapData, u32, [u8; 8]>,
    bridge_ports: BridgePorts,
    resolver: Array<MapData, [u8; 16]>,
    counters: PerCpuArray<MapData, u64>,
    hits: PerCpuArray<MapData, u64>,
    traffic: PerCpuHashMap<MapData, u32, [u8; 24]>,
    access: Access,
    cpus: usize,
    /// Where the array of the programs' stages is pinned. `ebpf` holds it, so that it has its programs as long as this
    /// agent lives, whatever becomes of the pin.
    stages: PathBuf,
    /// The programs for the node's own processes are loaded, and attached here as soon as anything is.
    host: Option<host_sockets::Place>,
    kernel_side: Option<KernelSide>,
}

/// The kernel cache that there shall be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cache {
    pub(super) size: Size,
    /// What its answers depend on; see [`KernelCache::open`].
    pub(super) contents: u64,
}

/// What the programs are loaded with.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `aya_log`'s level; 0 leaves the log statements out.
    pub log_level: u8,
    /// Without a heartbeat for so long, listeners are taken for dead; zero: never.
    pub patience: Duration,
    /// Size of the kernel cache, if there shall be one.
    pub cache: Option<Size>,
    /// The seed of its hash.
    pub seed: Seed,
    /// The cookie of the node's network namespace; 0: not known.
    pub node: u64,
    /// Takes out the guard against entries that change while they are read. For the test that shows that it is
    /// needed.
    pub unguarded: bool,
}

/// Loads the object and its programs into the kernel.
///
/// # Errors
///
/// Says what the kernel refused.
pub fn load(options: &LoadOptions) -> Result<Ebpf, Error> {
    load_with(options, &sizes(options.cache)?, None)
}

fn load_with(
    options: &LoadOptions,
    sizes: &[(&'static str, u32)],
    pins: Option<&Pins>,
) -> Result<Ebpf, Error> {
    let _undisturbed = Undisturbed::new();
    let buckets = options.cache.map_or(0, |size| size.buckets);
    let unguarded = u32::from(options.unguarded);
    let patience = u64::try_from(options.patience.as_nanos()).unwrap_or(u64::MAX);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(aya_log::LEVEL, &options.log_level, true)
        .override_global(globals::BUCKETS, &buckets, true)
        .override_global(globals::SEED, &options.seed.0, true)
        .override_global(globals::PATIENCE, &patience, true)
        .override_global(globals::NODE, &options.node, true)
        .override_global(globals::UNGUARDED, &unguarded, true);
    for (name, entries) in sizes {
        loader.map_max_entries(name, *entries);
    }
    for (name, path) in pins.into_iter().flat_map(Pins::paths) {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(OBJECT).step_hint(
        || "load the eBPF programs".to_owned(),
        "needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON or root, and Linux 5.10 or newer",
    )?;
    for name in NAMES {
        let program: &mut SchedClassifier = program(&mut ebpf, name)?;
        verified(|| program.load()).step(|| format!("load the eBPF program {name}"))?;
    }
    Ok(ebpf)
}

/// Entries of the maps whose number depends on the machine and the configuration.
fn sizes(cache: Option<Size>) -> Result<Vec<(&'static str, u32)>, Error> {
    let cpus = cpus()?;
    let mut sizes = vec![
        (names::CLIENTS, lru_entries(4096, cpus)),
        (names::FLOWS, lru_entries(2048, cpus)),
        (names::CONNECTIONS, lru_entries(4096, cpus)),
        (names::DIVERSIONS, lru_entries(8192, cpus)),
        (names::HOST_FLOWS, lru_entries(2048, cpus)),
        (names::BELIEVED, lru_entries(8192, cpus)),
    ];
    if let Some(size) = cache {
        sizes.extend([(names::INDEX, size.buckets), (names::ARENA, size.elements)]);
    }
    Ok(sizes)
}

/// Entries of an LRU map that shall hold so many: each CPU keeps up to 128 free ones to itself
/// (`LOCAL_FREE_TARGET` of kernel/bpf/bpf_lru_list.c), which on a large machine would be all of them.
fn lru_entries(entries: u32, cpus: usize) -> u32 {
    entries.saturating_add(u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(128))
}

fn cpus() -> Result<usize, Error> {
    nr_cpus()
        .map_err(|(file, error)| format!("{file}: {error}"))
        .step(|| "count the CPUs".to_owned())
}

/// The kernel cache in the maps of loaded programs that have this size and seed; see [`KernelCache::open`].
///
/// # Errors
///
/// The maps are of another size, or the kernel does not let them be shared.
pub fn kernel_cache(
    ebpf: &Ebpf,
    size: Size,
    seed: Seed,
    contents: u64,
) -> Result<KernelCache, Error> {
    KernelCache::open(
        array(ebpf, names::INDEX)?,
        array(ebpf, names::ARENA)?,
        size,
        seed,
        contents,
    )
    .step(|| "share the kernel cache's memory".to_owned())
}

fn array<'a>(ebpf: &'a Ebpf, name: &str) -> Result<BorrowedFd<'a>, Error> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Ok(map.fd().as_fd()),
        _ => Err("the object file lacks it").step(|| format!("open the eBPF array {name}")),
    }
}

/// The seed of the answers that an earlier agent left.
fn left_seed(pins: &Pins) -> Option<Seed> {
    let arena = MapData::from_pin(pins.path(names::ARENA)?).ok()?;
    // Without it the answers are lost, and no more.
    kernel_cache::seed_of(arena.fd().as_fd()).ok().flatten()
}

/// Lets `pod_ingress` go on in the other programs, as long as `ebpf` or a pin of the array is there.
///
/// # Errors
///
/// The kernel refuses it.
pub fn link_stages(ebpf: &mut Ebpf) -> Result<(), Error> {
    let step = || "link the programs' stages".to_owned();
    let to_resolver: &mut SchedClassifier = program(ebpf, "to_resolver")?;
    let to_resolver = to_resolver.fd().step(step)?.try_clone().step(step)?;
    let stages = ebpf.map_mut(names::STAGES);
    let stages = stages.ok_or("the object file lacks them").step(step)?;
    let mut stages: ProgramArray<_> = stages.try_into().step(step)?;
    stages.set(STAGE_TO_RESOLVER, &to_resolver, 0).step(step)
}

impl Programs {
    /// Loads the object into the kernel, with what an earlier agent left, with these destinations, and a
    /// kernel cache that answers the networks in `allowed`, or all if there are none; nothing is attached yet. `host`:
    /// with the programs for the node's own processes, which belong there.
    /// `consent` is asked for before anything of an earlier agent's is changed.
    pub(super) fn load(
        pins: &Pins,
        intercepted: &[Destination],
        allowed: &[Network],
        patience: Duration,
        cache: Option<Cache>,
        host: Option<host_sockets::Place>,
        consent: &mut Consent,
    ) -> Result<Self, Error> {
        // The verifier removes log statements of levels that are off: they cost nothing then.
        let log_level = if tracing::enabled!(target: "dns_cache_ebpf", Level::DEBUG) {
            4u8
        } else {
            0u8
        };
        let size = cache.map(|cache| cache.size);
        let sizes = sizes(size)?;
        let object = Object::parse(OBJECT).step(|| "read the object file".to_owned())?;
        consent.ask()?;
        pins.fit(&object, &sizes)?;
        let seed = left_seed(pins).unwrap_or_else(kernel_cache::random_seed);
        let options = LoadOptions {
            log_level,
            patience,
            cache: size,
            seed,
            node: host.as_ref().map_or(0, |place| place.node),
            unguarded: false,
        };
        let mut ebpf = load_with(&options, &sizes, Some(pins))?;
        let host = host.filter(|_| host_sockets::load(&mut ebpf).map_err(no_host).is_ok());
        let mut access = Access::of(&mut ebpf)?;
        access.set(allowed)?;
        link_stages(&mut ebpf)?;
        // The verifier has taken its time, and the maps' contents come next.
        consent.ask()?;
        let kernel_side = match cache {
            Some(Cache { size, contents }) => Some(KernelSide {
                cache: Arc::new(kernel_cache(&ebpf, size, seed, contents)?),
                refreshes: take(&mut ebpf, names::REFRESH)?,
            }),
            None => None,
        };
        let mut programs = Self {
            cpus: cpus()?,
            stages: pins.stages().to_owned(),
            host,
            kernel_side,
            access,
            traffic: take(&mut ebpf, names::TRAFFIC)?,
            intercept: hash_map(&mut ebpf, names::INTERCEPT)?,
            left: hash_map(&mut ebpf, names::LEFT)?,
            instead: take(&mut ebpf, names::INSTEAD)?,
            interfaces: hash_map(&mut ebpf, names::INTERFACES)?,
            bridge_ports: BridgePorts::new(hash_map(&mut ebpf, names::BRIDGE_PORTS)?),
            resolver: take(&mut ebpf, names::RESOLVER)?,
            counters: take(&mut ebpf, names::COUNTERS)?,
            hits: take(&mut ebpf, names::HITS)?,
            ebpf,
        };
        programs.set_intercepted(intercepted)?;
        Ok(programs)
    }

    /// Makes sure that the programs' stages are there, and stay when this agent is gone: before the programs are
    /// attached.
    pub(super) fn keep_stages(&mut self) -> Result<(), Error> {
        link_stages(&mut self.ebpf)?;
        if self.stages.exists() {
            return Ok(());
        }
        let step = || format!("pin the programs' stages at {}", self.stages.display());
        match self.ebpf.map(names::STAGES) {
            Some(Map::ProgramArray(stages)) => stages.pin(&self.stages).step(step),
            _ => Err("the object file lacks them").step(step),
        }
    }

    /// Brings the programs' log records into the agent's log, at debug level.
    pub(super) fn forward_logs(&mut self) -> Option<JoinHandle<()>> {
        if !tracing::enabled!(target: "dns_cache_ebpf", Level::DEBUG) {
            return None;
        }
        match EbpfLogger::init(&mut self.ebpf) {
            Ok(mut logger) => Some(tokio::spawn(async move {
                let mut ticks = tokio::time::interval(LOG_INTERVAL);
                loop {
                    ticks.tick().await;
                    logger.flush();
                }
            })),
            Err(error) => {
                warn!(%error, "the eBPF programs' log records cannot be read");
                None
            }
        }
    }

    pub(super) fn carried(&mut self, which: Carried) -> Result<&mut SchedClassifier, Error> {
        program(&mut self.ebpf, which.name())
    }

    /// What the kernel calls it.
    pub(super) fn id(&mut self, which: Carried) -> Result<u32, Error> {
        let info = self.carried(which)?.info();
        let step = || format!("ask for the id of the eBPF program {}", which.name());
        Ok(info.step(step)?.id())
    }

    /// Sets who is answered from the kernel cache: these networks, or all if there are none.
    pub(super) fn set_allowed(&mut self, networks: &[Network]) -> Result<(), Error> {
        self.access.set(networks)
    }

    /// Sets the destinations that are intercepted: these, and no others any more.
    pub(super) fn set_intercepted(&mut self, destinations: &[Destination]) -> Result<(), Error> {
        for Destination { address, fallback } in destinations {
            let fallback = fallback.map_or(Address::NONE, Address::from);
            self.intercept
                .insert(Address::from(*address).0, fallback.0, 0)
                .step(|| format!("intercept {address}"))?;
        }
        self.set_instead(destinations)?;
        let known = |ip| destinations.iter().any(|known| known.address == ip);
        let gone: Vec<_> = self
            .intercept
            .keys()
            .filter_map(Result::ok)
            .filter(|key| !known(Address(*key).to_ip()))
            .collect();
        // What was left before has had its last replies, or is here again.
        let left: Vec<_> = self.left.keys().filter_map(Result::ok).collect();
        for key in left {
            let _ = self.left.remove(&key);
        }
        for key in gone {
            let step = || format!("leave {} alone", Address(key).to_ip());
            self.left.insert(key, 0, 0).step(step)?;
            self.intercept.remove(&key).step(step)?;
        }
        Ok(())
    }

    /// The node's own processes ask the first address of each family to which there is a route.
    fn set_instead(&mut self, destinations: &[Destination]) -> Result<(), Error> {
        let own = destinations.iter().filter(|to| to.is_own());
        let first = |ipv4| {
            let mut own = own.clone().filter(|to| to.address.is_ipv4() == ipv4);
            own.next()
                .map_or(Address::NONE, |to| Address::from(to.address))
        };
        let instead = Instead {
            v4: first(true),
            v6: first(false),
        };
        self.instead
            .set(0, instead.to_bytes(), 0)
            .step(|| "tell the programs what the node's own processes ask".to_owned())
    }

    /// Attaches the programs for the node's own processes to their cgroup, in place of another agent's, if they are
    /// loaded. Pods are served without.
    pub(super) fn attach_to_cgroup(&mut self) {
        let place = self.host.take();
        self.host = place.filter(|place| {
            let attached = host_sockets::attach(&mut self.ebpf, place);
            attached.map_err(no_host).is_ok()
        });
    }

    /// Whether those are attached.
    pub(super) const fn has_host_sockets(&self) -> bool {
        self.host.is_some()
    }

    /// Tells the programs where the resolver is: from here on they hand packets over.
    pub(super) fn set_resolver(&mut self, link: &ResolverLink) -> Result<(), Error> {
        self.write_resolver(link, 0)
    }

    /// Tells the programs to hand over nothing new.
    pub(super) fn set_closing(&mut self, link: &ResolverLink) -> Result<(), Error> {
        self.write_resolver(link, Resolver::CLOSING)
    }

    fn write_resolver(&mut self, link: &ResolverLink, flags: u16) -> Result<(), Error> {
        let value = Resolver {
            ifindex: link.ifindex,
            netns_id: link.netns_id,
            mac: link.inner_mac,
            flags,
        };
        self.resolver
            .set(0, value.to_bytes(), 0)
            .step(|| "tell the programs where the resolver is".to_owned())
    }

    pub(super) fn set_interface(
        &mut self,
        ifindex: u32,
        interface: Interface,
    ) -> Result<(), Error> {
        let step = || format!("register interface {ifindex}");
        // Counts that it has already stay.
        if interface.flags & Interface::BRIDGE == 0 && self.traffic.get(&ifindex, 0).is_err() {
            let zeros = vec![Traffic::default().to_bytes(); self.cpus];
            let zeros = PerCpuValues::try_from(zeros).step(step)?;
            self.traffic.insert(ifindex, zeros, 0).step(step)?;
        }
        self.interfaces
            .insert(ifindex, interface.to_bytes(), 0)
            .step(step)
    }

    /// What came through an interface, over all CPUs.
    pub(super) fn traffic(&self, ifindex: u32) -> Traffic {
        let Ok(values) = self.traffic.get(&ifindex, 0) else {
            return Traffic::default();
        };
        values.iter().map(|bytes| Traffic::from_bytes(*bytes)).fold(
            Traffic::default(),
            |sum, cpu| Traffic {
                hits: sum.hits + cpu.hits,
                misses: sum.misses + cpu.misses,
                bypasses: sum.bypasses + cpu.bypasses,
            },
        )
    }

    /// The addresses that have asked, and the interfaces through which they did.
    pub(super) fn clients(&self) -> Result<Vec<(IpAddr, u32)>, Error> {
        let step = || "read the clients' addresses".to_owned();
        let clients = self.ebpf.map(names::CLIENTS).ok_or("there is no such map");
        let clients: HashMap<_, [u8; 16], [u8; 16]> = clients.step(step)?.try_into().step(step)?;
        let entries = clients.iter().filter_map(Result::ok);
        let client = |(key, value)| (Address(key).to_ip(), Client::from_bytes(value).ifindex);
        Ok(entries.map(client).collect())
    }

    /// Where the listeners say that they make progress.
    pub(super) fn heartbeats(&self) -> Result<Heartbeats, Error> {
        let words = SharedWords::map(array(&self.ebpf, names::HEARTBEATS)?, HEARTBEATS as usize);
        words
            .map(Heartbeats::new)
            .step(|| "share the heartbeats' memory".to_owned())
    }

    /// The kernel cache, if there is one; once.
    pub(super) fn take_kernel_side(&mut self) -> Option<KernelSide> {
        self.kernel_side.take()
    }

    /// Interfaces that are registered: an earlier agent's among them.
    pub(super) fn interfaces(&self) -> Vec<u32> {
        self.interfaces.keys().filter_map(Result::ok).collect()
    }

    /// Forgets an interface, and the MAC addresses behind it. Clients' addresses are not taken out: between a look and the
    /// removal another pod may have come with the address. The programs find the interface gone.
    pub(super) fn remove_interface(&mut self, ifindex: u32) {
        // Absent is as good as removed.
        let _ = self.interfaces.remove(&ifindex);
        let _ = self.traffic.remove(&ifindex);
        self.bridge_ports.forget(ifindex);
    }

    /// Notes behind which port of a bridge a MAC address lives.
    pub(super) fn set_bridge_port(&mut self, key: BridgePort, port: u32) -> Result<(), Error> {
        self.bridge_ports.set(key, port)
    }

    /// The programs' counters, summed over the CPUs, and those of the queries that they answered.
    pub(super) fn counters(&self, hits: &[(Hit, u64)]) -> Result<Vec<(&'static str, u64)>, Error> {
        let of = |code| {
            let hits = hits.iter().filter(|(hit, _)| hit.outcome.code == code);
            (code.counter(), hits.map(|(_, count)| count).sum())
        };
        let counters = Counter::ALL
            .iter()
            .map(|counter| Ok((counter.name(), sum(&self.counters, *counter as u32)?)));
        counters.chain(Code::ALL.map(of).map(Ok)).collect()
    }

    /// How many queries they answered, of each kind.
    pub(super) fn hits(&self) -> Result<Vec<(Hit, u64)>, Error> {
        let of = |hit: Hit| Ok((hit, sum(&self.hits, hit.slot())?));
        Hit::all().map(of).collect()
    }
}

/// One of the programs' counts, over all CPUs.
fn sum(counts: &PerCpuArray<MapData, u64>, slot: u32) -> Result<u64, Error> {
    let values = counts.get(&slot, 0);
    let values = values.step(|| "read the programs' counters".to_owned())?;
    Ok(values.iter().sum())
}

fn no_host(error: Error) {
    warn!(%error, "the node's own processes are served at addresses with a route only");
}

/// The program of this name, of the type that the caller wants.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let step = || format!("find the eBPF program {name}");
    ebpf.program_mut(name)
        .ok_or("the object file lacks it")
        .step(step)?
        .try_into()
        .step(step)
}

fn hash_map<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<HashMap<MapData, K, V>, Error> {
    take(ebpf, name)
}

pub(super) fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let step = || format!("open the eBPF map {name}");
    ebpf.take_map(name)
        .ok_or("the object file lacks it")
        .step(step)?
        .try_into()
        .step(step)
}
