//! The maps, as the object file declares them. The agent sets the size of INTERCEPT.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray},
};
use dns_cache_common::maps::{
    Address, BridgePort, Client, Connection, Counter, Flow, Interface, Resolver,
};

#[map]
pub static INTERCEPT: HashMap<Address, u32> = HashMap::with_max_entries(1, 0);

#[map]
pub static INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[map]
pub static BRIDGE_PORTS: HashMap<BridgePort, u32> =
    HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[map]
pub static CLIENTS: LruHashMap<Address, Client> = LruHashMap::with_max_entries(8192, 0);

#[map]
pub static FLOWS: LruHashMap<Flow, Client> = LruHashMap::with_max_entries(4096, 0);

#[map]
pub static CONNECTIONS: LruHashMap<Connection, u32> = LruHashMap::with_max_entries(16384, 0);

#[map]
pub static RESOLVER: Array<Resolver> = Array::with_max_entries(1, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);
