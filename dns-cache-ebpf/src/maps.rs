//! The maps, as the object file declares them. The agent sets the sizes of INDEX, ARENA and of the LRU maps.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf,
    },
};
use dns_cache_common::{
    cached::{Bucket, ELEMENT},
    hits::Hit,
    maps::{
        self, Address, BridgePort, Client, Connection, Counter, Diversion, Flow, Instead,
        Interface, Original, Resolver, Traffic,
    },
};

use crate::{packet::Packet, scratch::Memory};

#[map]
pub static INTERCEPT: HashMap<Address, Address> =
    HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

#[map]
pub static LEFT: HashMap<Address, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

#[map]
pub static INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[map]
pub static BRIDGE_PORTS: HashMap<BridgePort, u32> =
    HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[map]
pub static CLIENTS: LruHashMap<Address, Client> = LruHashMap::with_max_entries(4096, 0);

#[map]
pub static FLOWS: LruHashMap<Flow, Client> = LruHashMap::with_max_entries(2048, 0);

#[map]
pub static CONNECTIONS: LruHashMap<Connection, u32> = LruHashMap::with_max_entries(4096, 0);

#[map]
pub static DIVERSIONS: LruHashMap<Diversion, Original> = LruHashMap::with_max_entries(8192, 0);

#[map]
pub static HOST_FLOWS: LruHashMap<Flow, u32> = LruHashMap::with_max_entries(2048, 0);

#[map]
pub static INSTEAD: Array<Instead> = Array::with_max_entries(1, 0);

#[map]
pub static BELIEVED: LruHashMap<u64, Address> = LruHashMap::with_max_entries(8192, 0);

#[map]
pub static RESOLVER: Array<Resolver> = Array::with_max_entries(1, 0);

#[map]
pub static HEARTBEATS: Array<u64> = Array::with_max_entries(maps::HEARTBEATS, BPF_F_MMAPABLE);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

#[map]
pub static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Hit::SLOTS, 0);

#[map]
pub static TRAFFIC: PerCpuHashMap<u32, Traffic> =
    PerCpuHashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[map]
pub static INDEX: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static ARENA: Array<[u8; ELEMENT]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static ALLOWED: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);

#[map]
pub static REFRESH: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

#[map]
pub static SCRATCH: PerCpuArray<Memory> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static PACKET: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(1, 0);
