//! The resolver's packet: find the client's interface and deliver it there.
//!
//! Nothing that the resolver's namespace sends may reach the node's stack, where netfilter is, but the answers to the
//! node's own processes.

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::generated::{bpf_redirect, bpf_redirect_peer},
    programs::TcContext,
};
use aya_log_ebpf::debug;
use dns_cache_common::maps::{Client, Counter, Interface};

use crate::{
    counters::count,
    fallback::LEAVE,
    host,
    maps::{CLIENTS, FLOWS, INTERCEPT, LEFT},
    packet::{self, DNS_PORT, Parsed},
    source,
};

#[inline(always)]
pub fn resolver_ingress(ctx: &TcContext) -> i32 {
    let Parsed::Packet(packet) = packet::parse(ctx) else {
        return other();
    };
    // SAFETY: only presence counts.
    let is_ours =
        || unsafe { INTERCEPT.get(&packet.source).is_some() || LEFT.get(&packet.source).is_some() };
    if packet.source_port != DNS_PORT || !is_ours() {
        return if host::is_diverted(&packet) {
            LEAVE
        } else {
            other()
        };
    }
    // An entry outlives its interface: the agent cannot take it out without the risk that it is another pod's by then.
    let there = |client: Client| Some((client, source::interface(client.ifindex)?));
    // SAFETY: an LRU element may be reused while it is read. The copy is of one client or, in a race
    // of nanoseconds, of two; the interface is checked, and a wrong MAC address is not answered to.
    let known = unsafe { CLIENTS.get(&packet.destination) }.copied();
    let known = known.and_then(there);
    if known.is_none() && host::has_asked(&packet) {
        count(Counter::Replies);
        return LEAVE;
    }
    let client = known.or_else(|| {
        let flow = source::flow(packet.destination, packet.destination_port, &packet);
        // SAFETY: as above.
        unsafe { FLOWS.get(&flow) }.copied().and_then(there)
    });
    let Some((client, interface)) = client else {
        return unknown(ctx);
    };
    if packet::set_macs(ctx, client.pod, client.gateway).is_none() {
        return other();
    }
    count(Counter::Replies);
    // SAFETY: plain integers; a device that is gone drops the packet.
    (unsafe {
        if interface.flags & Interface::PEER != 0 {
            bpf_redirect_peer(client.ifindex, 0)
        } else {
            bpf_redirect(client.ifindex, 0)
        }
    }) as i32
}

#[inline(always)]
fn unknown(ctx: &TcContext) -> i32 {
    count(Counter::RepliesUnknownClient);
    debug!(ctx, "reply to a client that is not known: dropped");
    TC_ACT_SHOT
}

#[inline(always)]
fn other() -> i32 {
    count(Counter::ResolverOther);
    TC_ACT_SHOT
}
