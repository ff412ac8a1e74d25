//! The node's own processes ask the link-local addresses by a route to the resolver's veth; nothing is NATed there.
//!
//! While the agent is away, their packets come back to the node as if they had come in by the veth, to the fallback
//! and from an address that stands for the client: so they take the ordinary path, and the answers come by the veth
//! again, where they get back both ends.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT},
    helpers::generated::bpf_redirect,
    programs::TcContext,
};
use dns_cache_common::maps::{Address, Counter, Original, STAND_IN_V4, STAND_IN_V6};

use crate::{
    counters::count,
    fallback::{self, LEAVE},
    maps::{CONNECTIONS, HOST_FLOWS, INTERCEPT, RESOLVER},
    packet::{self, DNS_PORT, End, Packet, Parsed, Transport},
    source,
    steer::{self, Taken},
};

/// A packet that the node sends by the resolver's veth.
#[inline(always)]
pub fn host_egress(ctx: &TcContext) -> i32 {
    let Parsed::Packet(packet) = packet::parse(ctx) else {
        return other();
    };
    let Some(packet) = packet.keep() else {
        return other();
    };
    // SAFETY: the context is the kernel's.
    let (ifindex, from) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).ingress_ifindex) };
    // Whatever others have sent to these addresses did not pass the check of its source.
    if from != 0 {
        let Some(original) = fallback::original(ctx, packet, ifindex) else {
            return other();
        };
        return answered(ctx, packet, ifindex, original);
    }
    // SAFETY: only presence counts.
    if packet.destination_port != DNS_PORT
        || unsafe { INTERCEPT.get(&packet.destination) }.is_none()
    {
        return other();
    }
    let flow = source::flow(packet.source, packet.source_port, packet);
    // SAFETY: only presence counts.
    if unsafe { HOST_FLOWS.get(&flow) }.is_none() && HOST_FLOWS.insert(&flow, &0, 0).is_err() {
        return other();
    }
    let Some(resolver) = RESOLVER.get(0) else {
        return other();
    };
    if steer::taken(ctx, packet, resolver) != Taken::Yes {
        return divert(ctx, packet, ifindex);
    }
    if packet.transport == (Transport::Tcp { syn: true }) {
        // One that is not remembered costs no more than its connection's last reset.
        let _ = CONNECTIONS.insert(&steer::connection(packet), &0, 0);
    }
    count(Counter::FromHost);
    LEAVE
}

/// Whether the packet, come in by the resolver's veth, is what [`divert`] made.
#[inline(always)]
pub fn is_diverted(packet: &Packet) -> bool {
    packet.destination_port == DNS_PORT && packet.source == stand_in(packet)
}

/// Whether it is for a process of the node's that has asked.
#[inline(always)]
pub fn has_asked(packet: &Packet) -> bool {
    let flow = source::flow(packet.destination, packet.destination_port, packet);
    // SAFETY: only presence counts.
    unsafe { HOST_FLOWS.get(&flow) }.is_some()
}

#[inline(always)]
fn divert(ctx: &TcContext, packet: &Packet, ifindex: u32) -> i32 {
    let Some(server) = fallback::fallback(packet) else {
        return other();
    };
    let client = stand_in(packet);
    let diversion = fallback::sent(ctx, packet, ifindex, client, server);
    if fallback::note(packet, &diversion).is_none() {
        return other();
    }
    count(Counter::Diverted);
    turn_back(ctx, packet, ifindex, &Original { client, server })
}

#[inline(always)]
fn answered(ctx: &TcContext, packet: &Packet, ifindex: u32, original: Original) -> i32 {
    count(Counter::DivertedBack);
    let ends = Original {
        client: original.server,
        server: original.client,
    };
    turn_back(ctx, packet, ifindex, &ends)
}

/// Gives the packet these ends, and lets it come in where it was about to leave.
#[inline(always)]
fn turn_back(ctx: &TcContext, packet: &Packet, ifindex: u32, ends: &Original) -> i32 {
    let turned = packet::readdress(ctx, packet, End::Source, ends.client)
        .and_then(|()| packet::readdress(ctx, packet, End::Destination, ends.server))
        .and_then(|()| packet::macs(ctx))
        .and_then(|(destination, source)| packet::set_macs(ctx, source, destination));
    if turned.is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: plain integers; a device that is gone drops the packet.
    unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}

#[inline(always)]
fn stand_in(packet: &Packet) -> Address {
    if packet.ipv4 {
        Address::from_v4(STAND_IN_V4.octets())
    } else {
        Address(STAND_IN_V6.octets())
    }
}

#[inline(always)]
fn other() -> i32 {
    count(Counter::HostOther);
    TC_ACT_SHOT
}
