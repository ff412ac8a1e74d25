//! A pod's packet: is it DNS for us, is the resolver there, is the source right; then hand it over.

use core::mem;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        TC_ACT_OK, TC_ACT_SHOT, bpf_sock, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{
        bpf_redirect_peer, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use aya_log_ebpf::debug;
use dns_cache_common::maps::{Counter, Resolver};

use crate::{
    counters::count,
    maps::{INTERCEPT, RESOLVER},
    packet::{self, DNS_PORT, Packet, Parsed, Transport},
    source::{self, Source},
};

/// `PACKET_HOST` of linux/if_packet.h: addressed to this host.
const PACKET_HOST: u32 = 0;
/// `TCP_LISTEN` of include/net/tcp_states.h.
const TCP_LISTEN: u32 = 10;

#[inline(always)]
pub fn pod_ingress(ctx: &TcContext) -> i32 {
    let packet = match packet::parse(ctx) {
        Parsed::Packet(packet) => packet,
        Parsed::Odd { destination } => {
            // SAFETY: only presence counts.
            if unsafe { INTERCEPT.get(&destination) }.is_some() {
                count(Counter::OrdinaryUnparsed);
            }
            return TC_ACT_OK;
        }
        Parsed::Other => return TC_ACT_OK,
    };
    if packet.destination_port != DNS_PORT {
        return TC_ACT_OK;
    }
    // SAFETY: only presence counts.
    if unsafe { INTERCEPT.get(&packet.destination) }.is_none() {
        return TC_ACT_OK;
    }
    to_resolver(ctx, &packet)
}

/// Hands the packet to the resolver, if it is there and the source is right.
#[inline(always)]
fn to_resolver(ctx: &TcContext, packet: &Packet) -> i32 {
    let udp = packet.transport == Transport::Udp;
    let resolver = match RESOLVER.get(0) {
        Some(resolver) if resolver.ifindex != 0 && has_socket(ctx, packet, resolver) => resolver,
        _ => {
            count(if udp {
                Counter::OrdinaryNoSocketUdp
            } else {
                Counter::OrdinaryNoSocketTcp
            });
            return TC_ACT_OK;
        }
    };
    // SAFETY: the context is the kernel's.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let Some((gateway, pod)) = packet::macs(ctx) else {
        return TC_ACT_OK;
    };
    match source::check(ctx, packet, ifindex, pod, gateway) {
        Source::Verified => {}
        Source::Unproven => count(Counter::Unverified),
        Source::Forged => {
            count(Counter::ForgedSource);
            debug!(ctx, "forged source on interface {}: dropped", ifindex);
            return TC_ACT_SHOT;
        }
        Source::Unserved => {
            count(Counter::OrdinarySource);
            return TC_ACT_OK;
        }
    }
    // Behind a bridge the packet is addressed to the bridge's MAC, so the port took it for another host's.
    let [a, b, c, d, e, f, ..] = resolver.mac;
    if packet::set_macs(ctx, [a, b, c, d, e, f], gateway).is_none()
        || ctx.change_type(PACKET_HOST).is_err()
    {
        return TC_ACT_OK;
    }
    count(if udp {
        Counter::ToResolverUdp
    } else {
        Counter::ToResolverTcp
    });
    // SAFETY: plain integers; a device that is gone drops the packet.
    unsafe { bpf_redirect_peer(resolver.ifindex, 0) as i32 }
}

/// Whether the resolver's namespace has a socket for the packet.
///
/// A TCP segment other than a first SYN needs a connection's socket, not only a listener: a connection
/// that was opened on the ordinary path stays there.
#[inline(always)]
fn has_socket(ctx: &TcContext, packet: &Packet, resolver: &Resolver) -> bool {
    let (sport, dport) = (packet.source_port.to_be(), packet.destination_port.to_be());
    // SAFETY: all zero is a valid value of this plain C union.
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let size = if packet.ipv4 {
        tuple.__bindgen_anon_1.ipv4 = TupleV4 {
            saddr: source::v4_word(packet.source),
            daddr: source::v4_word(packet.destination),
            sport,
            dport,
        };
        mem::size_of::<TupleV4>()
    } else {
        tuple.__bindgen_anon_1.ipv6 = TupleV6 {
            saddr: source::words(packet.source),
            daddr: source::words(packet.destination),
            sport,
            dport,
        };
        mem::size_of::<TupleV6>()
    } as u32;
    let netns = u64::from(resolver.netns_id);
    match packet.transport {
        Transport::Udp => {
            // SAFETY: context and tuple are valid, the size is the tuple's; released below.
            let socket = unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), &mut tuple, size, netns, 0) };
            release(socket).is_some()
        }
        Transport::Tcp { syn } => {
            // SAFETY: as above.
            let socket = unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), &mut tuple, size, netns, 0) };
            release(socket).is_some_and(|state| syn || state != TCP_LISTEN)
        }
    }
}

/// Gives the socket back; its state, if there was one.
#[inline(always)]
fn release(socket: *mut bpf_sock) -> Option<u32> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: a socket that was looked up and not yet released; not used afterwards.
    unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        Some(state)
    }
}
