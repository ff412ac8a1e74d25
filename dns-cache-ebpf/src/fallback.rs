//! What is left to the ordinary path. Where a destination has none (a link-local address is nobody's but the
//! resolver's), another address is asked in its place, and its answers come back under the name of the first.
//!
//! The way back is noted for each query and each connection: who asks both addresses gets each answer from the one
//! that was asked.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::bpf_skb_load_bytes,
    programs::TcContext,
};
use dns_cache_common::maps::{Address, Counter, Diversion, Original};

use crate::{
    counters::count,
    maps::{DIVERSIONS, INTERCEPT},
    packet::{self, DNS_PORT, End, IPPROTO_UDP, Packet, Parsed, UDP_LEN},
};

/// The packet is not ours: the next program on the interface has its turn, then the ordinary path.
/// `TC_ACT_OK` would end the chain, and with it a CNI's own programs (`TCX_PASS` and `TCX_NEXT` of
/// kernel/bpf/tcx.c; `cls_bpf_exec_opcode` of net/sched/cls_bpf.c).
pub const LEAVE: i32 = TC_ACT_UNSPEC;

/// Bytes of a message's ID.
const ID_LEN: usize = 2;

/// Leaves a packet to the ordinary path: as one to the fallback, if its destination has one.
#[inline(always)]
pub fn leave(ctx: &TcContext, packet: &Packet, ifindex: u32) -> i32 {
    let Some(fallback) = fallback(packet) else {
        // Its answer is none to a query, or in a connection, that came from the same port and was diverted.
        let _ = DIVERSIONS.remove(&sent(
            ctx,
            packet,
            ifindex,
            packet.source,
            packet.destination,
        ));
        return LEAVE;
    };
    let diversion = sent(ctx, packet, ifindex, packet.source, fallback);
    if note(packet, &diversion).is_none()
        || packet::readdress(ctx, packet, End::Destination, fallback).is_none()
    {
        return TC_ACT_SHOT;
    }
    count(Counter::Diverted);
    LEAVE
}

/// Who is asked in the place of the packet's destination.
#[inline(always)]
pub fn fallback(packet: &Packet) -> Option<Address> {
    // SAFETY: the map is not preallocated, so an element lives until the grace period after its removal.
    let fallback = unsafe { INTERCEPT.get(&packet.destination) }.copied();
    fallback.filter(|address| *address != Address::NONE)
}

/// The packet as it is sent from `client` to `server`.
#[inline(always)]
pub fn sent(
    ctx: &TcContext,
    packet: &Packet,
    ifindex: u32,
    client: Address,
    server: Address,
) -> Diversion {
    Diversion {
        ifindex,
        client,
        server,
        port: packet.source_port,
        id: id(ctx, packet),
        protocol: u32::from(packet.protocol),
    }
}

/// Notes the ends that the packet has. `None`: its answer would come from an address that was not asked.
#[inline(always)]
pub fn note(packet: &Packet, diversion: &Diversion) -> Option<()> {
    let original = Original {
        client: packet.source,
        server: packet.destination,
    };
    // SAFETY: an LRU element may be reused while it is read; then it is written anew.
    if unsafe { DIVERSIONS.get(diversion) } == Some(&original) {
        return Some(());
    }
    DIVERSIONS.insert(diversion, &original, 0).ok()
}

/// The ends that the packet had that this one answers.
#[inline(always)]
pub fn original(ctx: &TcContext, packet: &Packet, ifindex: u32) -> Option<Original> {
    if packet.source_port != DNS_PORT {
        return None;
    }
    let diversion = Diversion {
        ifindex,
        client: packet.destination,
        server: packet.source,
        port: packet.destination_port,
        id: id(ctx, packet),
        protocol: u32::from(packet.protocol),
    };
    // SAFETY: an LRU element may be reused while it is read. Then the client gets an answer from an address that it
    // did not ask, and waits for another one.
    unsafe { DIVERSIONS.get(&diversion) }.copied()
}

/// A packet on its way to a pod: an answer to what was diverted comes from the address that was asked.
#[inline(always)]
pub fn pod_egress(ctx: &TcContext) -> i32 {
    let Parsed::Packet(packet) = packet::parse(ctx) else {
        return LEAVE;
    };
    // SAFETY: the context is the kernel's.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let Some(original) = original(ctx, &packet, ifindex) else {
        return LEAVE;
    };
    if packet::readdress(ctx, &packet, End::Source, original.server).is_none() {
        return TC_ACT_SHOT;
    }
    count(Counter::DivertedBack);
    LEAVE
}

/// The ID of a DNS message over UDP, as it stands in memory; one that is cut off has none. A TCP connection goes one
/// way as a whole.
#[inline(always)]
fn id(ctx: &TcContext, packet: &Packet) -> u16 {
    if packet.protocol != IPPROTO_UDP || (packet.udp_len as usize) < UDP_LEN + ID_LEN {
        return 0;
    }
    let mut id = 0u16;
    // SAFETY: the ID is that long; if there is none, it stays as it is.
    unsafe {
        bpf_skb_load_bytes(
            ctx.as_ptr(),
            packet.payload_at as u32,
            (&raw mut id).cast(),
            ID_LEN as u32,
        )
    };
    id
}
