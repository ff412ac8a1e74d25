//! The loaded programs and their maps.

use std::net::IpAddr;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use dns_cache_common::maps::{Address, BridgePort, Client, Counter, Interface, Resolver, names};
use tokio::task::JoinHandle;
use tracing::{Level, warn};

use super::error::{Error, Step as _};
use super::namespace::ResolverLink;

/// How often log records are fetched; debugging needs no more, and no descriptor to poll.
const LOG_INTERVAL: Duration = Duration::from_millis(20);
/// The object file that build.rs made of dns-cache-ebpf.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("DNS_CACHE_EBPF_OBJECT"));

/// The programs in it.
pub(super) const NAMES: [&str; 2] = ["pod_ingress", "resolver_ingress"];

/// Both programs, loaded, and the maps that the agent writes.
pub(super) struct Programs {
    ebpf: Ebpf,
    intercept: HashMap<MapData, [u8; 16], u32>,
    interfaces: HashMap<MapData, u32, [u8; 8]>,
    bridge_ports: HashMap<MapData, [u8; 12], u32>,
    clients: HashMap<MapData, [u8; 16], [u8; 16]>,
    resolver: Array<MapData, [u8; 16]>,
    counters: PerCpuArray<MapData, u64>,
}

impl Programs {
    /// Loads the object into the kernel, with `intercepted` as destinations; nothing is attached yet.
    pub(super) fn load(intercepted: &[IpAddr]) -> Result<Self, Error> {
        // The verifier removes log statements of levels that are off: they cost nothing then.
        let log_level = if tracing::enabled!(target: "dns_cache_ebpf", Level::DEBUG) {
            4u8
        } else {
            0u8
        };
        let mut ebpf = EbpfLoader::new()
            .override_global(aya_log::LEVEL, &log_level, true)
            .map_max_entries(
                names::INTERCEPT,
                u32::try_from(intercepted.len()).unwrap_or(u32::MAX).max(1),
            )
            .load(OBJECT)
            .step_hint(
                || "load the eBPF programs".to_owned(),
                "needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON or root, and Linux 5.10 or newer",
            )?;
        for name in NAMES {
            program(&mut ebpf, name)?
                .load()
                .step(|| format!("load the eBPF program {name}"))?;
        }
        let mut programs = Self {
            intercept: hash_map(&mut ebpf, names::INTERCEPT)?,
            interfaces: hash_map(&mut ebpf, names::INTERFACES)?,
            bridge_ports: hash_map(&mut ebpf, names::BRIDGE_PORTS)?,
            clients: hash_map(&mut ebpf, names::CLIENTS)?,
            resolver: take(&mut ebpf, names::RESOLVER)?,
            counters: take(&mut ebpf, names::COUNTERS)?,
            ebpf,
        };
        programs.set_intercepted(intercepted)?;
        Ok(programs)
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

    pub(super) fn pod_ingress(&mut self) -> Result<&mut SchedClassifier, Error> {
        program(&mut self.ebpf, "pod_ingress")
    }

    pub(super) fn resolver_ingress(&mut self) -> Result<&mut SchedClassifier, Error> {
        program(&mut self.ebpf, "resolver_ingress")
    }

    /// Sets the destinations that are intercepted.
    fn set_intercepted(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        for address in addresses {
            self.intercept
                .insert(Address::from(*address).0, 0, 0)
                .step(|| format!("intercept {address}"))?;
        }
        Ok(())
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
        self.interfaces
            .insert(ifindex, interface.to_bytes(), 0)
            .step(|| format!("register interface {ifindex}"))
    }

    /// Forgets an interface and what was learnt behind it.
    pub(super) fn remove_interface(&mut self, ifindex: u32) {
        // Absent is as good as removed.
        let _ = self.interfaces.remove(&ifindex);
        let gone: Vec<_> = self
            .clients
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, client)| Client::from_bytes(*client).ifindex == ifindex)
            .map(|(address, _)| address)
            .collect();
        for address in gone {
            let _ = self.clients.remove(&address);
        }
        let gone: Vec<_> = self
            .bridge_ports
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, port)| {
                *port == ifindex || BridgePort::from_bytes(*key).bridge == ifindex
            })
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            let _ = self.bridge_ports.remove(&key);
        }
    }

    /// Notes behind which port of a bridge a MAC address lives.
    pub(super) fn set_bridge_port(&mut self, key: BridgePort, port: u32) -> Result<(), Error> {
        self.bridge_ports
            .insert(key.to_bytes(), port, 0)
            .step(|| format!("note a MAC address behind bridge port {port}"))
    }

    /// The programs' counters, summed over the CPUs.
    pub(super) fn counters(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        Counter::ALL
            .iter()
            .map(|counter| {
                let values = self
                    .counters
                    .get(&(*counter as u32), 0)
                    .step(|| "read the programs' counters".to_owned())?;
                Ok((counter.name(), values.iter().sum()))
            })
            .collect()
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Error> {
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

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let step = || format!("open the eBPF map {name}");
    ebpf.take_map(name)
        .ok_or("the object file lacks it")
        .step(step)?
        .try_into()
        .step(step)
}
