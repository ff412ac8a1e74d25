//! Is the source address behind the interface that the packet came from?
//!
//! The reverse path is asked of the routing table (`bpf_fib_lookup`); for a pod behind a bridge, the
//! route ends at the bridge, and the neighbour table (address → MAC) and the bridge's own table
//! (MAC → port, mirrored by the agent) say the rest.

use core::mem;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_NOEXIST, bpf_fib_lookup as FibLookup,
    },
    helpers::generated::bpf_fib_lookup,
    maps::lpm_trie::Key,
    programs::TcContext,
};
use dns_cache_common::maps::{Address, BridgePort, Client, Counter, Flow, Interface};

use crate::{
    counters::count,
    maps::{ALLOWED, BRIDGE_PORTS, CLIENTS, FLOWS, INTERFACES},
    packet::Packet,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `-ENODEV`.
const NO_DEVICE: i64 = -19;

pub enum Source {
    /// It is; replies to the address find their way.
    Verified,
    /// It belongs to another pod.
    Forged,
    /// Nothing says so, nothing says otherwise; replies to this flow find their way.
    Unproven,
    /// Not to be served.
    Unserved,
}

/// What the routing table says of a source.
enum Path {
    Here,
    AnotherPod,
    Unknown,
}

/// Checks the packet's source and learns where replies to it go.
///
/// A verified address is learnt for all of its flows. What is neither proven nor refuted is learnt for
/// this flow alone, if no other interface has it, and counts for nothing once the address is verified
/// elsewhere: so a pod that is unknown to the node's tables is served, and one that forges an address
/// gets answers to its own questions, not to another's.
#[inline(always)]
pub fn check(
    ctx: &TcContext,
    packet: &Packet,
    ifindex: u32,
    pod: [u8; 6],
    gateway: [u8; 6],
) -> Source {
    let now = Client {
        ifindex,
        pod,
        gateway,
    };
    // SAFETY: LRU elements may be reused while they are read; a mixture of two clients' values would
    // have to equal `now` in every byte to matter.
    let known = unsafe { CLIENTS.get(&packet.source) };
    let mut known_at = 0;
    if let Some(known) = known {
        if *known == now {
            return Source::Verified;
        }
        known_at = known.ifindex;
    }
    let Some(Interface { bridge, .. }) = interface(ifindex) else {
        return Source::Unserved;
    };
    if is_link_local(packet) {
        // Not unique among pods, and not reachable by the resolver's default route.
        return Source::Unserved;
    }
    match reverse_path(ctx, packet, ifindex, bridge, pod) {
        Path::Here => learn(packet, &now),
        Path::AnotherPod => Source::Forged,
        // The address was verified at this interface: only the MAC address behind it is new.
        Path::Unknown if known_at == ifindex => learn(packet, &now),
        // It is known at another interface that is still there: that one keeps it.
        Path::Unknown if known_at != 0 && is_there(ctx, packet, known_at) => Source::Forged,
        Path::Unknown => {
            if known_at != 0 {
                // The replies go to this flow's interface, not to one that the agent only believes to be there.
                let _ = CLIENTS.remove(&packet.source);
            }
            unproven(packet, &now)
        }
    }
}

/// Whether the packet's source may be answered where not everybody may: it was verified at this interface, so that
/// nobody is answered for another's address, and it is in a network that is allowed.
#[inline(always)]
pub fn may_ask(packet: &Packet, ifindex: u32) -> bool {
    // SAFETY: an LRU element may be reused while it is read; then the resolver decides.
    let Some(client) = (unsafe { CLIENTS.get(&packet.source) }) else {
        return false;
    };
    client.ifindex == ifindex && ALLOWED.get(&Key::new(128, packet.source.0)) == Some(&1)
}

#[inline(always)]
fn learn(packet: &Packet, client: &Client) -> Source {
    if CLIENTS.insert(&packet.source, client, 0).is_err() {
        return unproven(packet, client);
    }
    count(Counter::Learnt);
    Source::Verified
}

/// First come, first served: whoever claims a flow later than another interface takes the ordinary path.
#[inline(always)]
fn unproven(packet: &Packet, client: &Client) -> Source {
    let flow = flow(packet.source, packet.source_port, packet);
    // SAFETY: an LRU element may be reused while it is read; the flow is left to the ordinary path then.
    if let Some(holder) = unsafe { FLOWS.get(&flow) } {
        if *holder == *client {
            return Source::Unproven;
        }
        let holder = holder.ifindex;
        if holder != client.ifindex && interface(holder).is_some() {
            return Source::Unserved;
        }
    }
    if FLOWS.insert(&flow, client, 0).is_err() {
        return Source::Unserved;
    }
    Source::Unproven
}

/// The flow of `packet`'s protocol with that client.
#[inline(always)]
pub fn flow(address: Address, port: u16, packet: &Packet) -> Flow {
    Flow {
        address,
        port,
        protocol: packet.protocol as u16,
    }
}

/// fe80::/10
#[inline(always)]
fn is_link_local(packet: &Packet) -> bool {
    !packet.ipv4 && packet.source.0[0] == 0xfe && packet.source.0[1] & 0xc0 == 0x80
}

#[inline(always)]
fn reverse_path(ctx: &TcContext, packet: &Packet, ifindex: u32, bridge: u32, pod: [u8; 6]) -> Path {
    // SAFETY: all zero is a valid value of this plain C struct.
    let mut fib: FibLookup = unsafe { mem::zeroed() };
    // A port's packets are routed as coming from its bridge.
    fib.ifindex = if bridge != 0 { bridge } else { ifindex };
    if packet.ipv4 {
        fib.family = AF_INET;
        fib.__bindgen_anon_3.ipv4_src = v4_word(packet.destination);
        fib.__bindgen_anon_4.ipv4_dst = v4_word(packet.source);
    } else {
        fib.family = AF_INET6;
        fib.__bindgen_anon_3.ipv6_src = words(packet.destination);
        fib.__bindgen_anon_4.ipv6_dst = words(packet.source);
    }
    // SAFETY: context and struct are valid, the length is the struct's.
    let found = unsafe {
        bpf_fib_lookup(
            ctx.as_ptr(),
            &mut fib,
            mem::size_of::<FibLookup>() as i32,
            0,
        )
    } as u32;
    let neighbour_known = match found {
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_FRAG_NEEDED => true,
        BPF_FIB_LKUP_RET_NO_NEIGH => false,
        _ => return Path::Unknown,
    };
    let towards = fib.ifindex;
    if towards == ifindex {
        return Path::Here;
    }
    match interface(towards) {
        _ if towards == bridge => {}
        // The agent hears a little later than of an interface that this is a bridge's port: one that it has for none may be.
        Some(other) if bridge == 0 && other.flags & Interface::BRIDGE != 0 => {}
        Some(_) => return Path::AnotherPod,
        None => return Path::Unknown,
    }
    if !neighbour_known {
        return Path::Unknown;
    }
    let key = BridgePort::new(towards, fib.dmac);
    if fib.dmac != pod {
        // The neighbour entry outlives its pod: this one may have the address of one that is gone.
        return match port(&key) {
            Some(port) if port != ifindex && is_there(ctx, packet, port) => Path::AnotherPod,
            _ => Path::Unknown,
        };
    }
    match port(&key) {
        Some(port) if port == ifindex => Path::Here,
        Some(_) => Path::AnotherPod,
        // The bridge learns from the first frame as well; the agent's mirror of its table lags behind.
        None if bridge != 0
            && BRIDGE_PORTS
                .insert(&key, &ifindex, u64::from(BPF_NOEXIST))
                .is_ok() =>
        {
            Path::Here
        }
        None => Path::Unknown,
    }
}

/// The bridge's port behind which a MAC address lives, as far as that is there.
#[inline(always)]
fn port(key: &BridgePort) -> Option<u32> {
    // SAFETY: an element that is replaced while it is read gives the old port or the new one.
    let port = unsafe { BRIDGE_PORTS.get(key) }.copied()?;
    interface(port).map(|_| port)
}

/// Whether the interface is there at this moment: the agent hears of its end a little later, and its address may have
/// become another pod's by then.
#[inline(always)]
fn is_there(ctx: &TcContext, packet: &Packet, ifindex: u32) -> bool {
    if interface(ifindex).is_none() {
        return false;
    }
    // SAFETY: all zero is a valid value of this plain C struct.
    let mut fib: FibLookup = unsafe { mem::zeroed() };
    fib.ifindex = ifindex;
    fib.family = if packet.ipv4 { AF_INET } else { AF_INET6 };
    let size = mem::size_of::<FibLookup>() as i32;
    // It is looked for first of all (`bpf_ipv4_fib_lookup` and `bpf_ipv6_fib_lookup` of net/core/filter.c).
    // SAFETY: context and struct are valid, the length is the struct's.
    unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut fib, size, 0) != NO_DEVICE }
}

#[inline(always)]
pub fn interface(ifindex: u32) -> Option<Interface> {
    // SAFETY: the map is not preallocated, so an element lives until the grace period after its removal.
    unsafe { INTERFACES.get(&ifindex) }.copied()
}

#[inline(always)]
pub fn v4_word(address: Address) -> u32 {
    let [.., a, b, c, d] = address.0;
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
pub fn words(address: Address) -> [u32; 4] {
    // SAFETY: sixteen bytes without padding on both sides; Address is aligned for it.
    unsafe { mem::transmute(address) }
}

/// Whether this is an IPv4 address.
#[inline(always)]
pub fn is_ipv4(address: Address) -> bool {
    let [a, b, c, _] = words(address);
    a | b == 0 && c == 0xffff_u32.to_be()
}

/// The inverse of [`words`].
#[inline(always)]
pub fn from_words(words: [u32; 4]) -> Address {
    // SAFETY: sixteen bytes without padding on both sides.
    unsafe { mem::transmute(words) }
}
