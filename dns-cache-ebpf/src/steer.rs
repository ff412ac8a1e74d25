//! A pod's packet: is it DNS for us, is the resolver there, is the source right; then hand it over.

use core::{ffi::c_void, mem, ptr};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        TC_ACT_SHOT, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{
        bpf_ktime_get_boot_ns, bpf_redirect_peer, bpf_sk_fullsock, bpf_sk_lookup_tcp,
        bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use aya_log_ebpf::debug;
use dns_cache_common::maps::{Address, Connection, Counter, Resolver, STAGE_TO_RESOLVER};

use crate::{
    cache,
    counters::count,
    entry::hidden,
    fallback::{self, LEAVE},
    maps::{CONNECTIONS, HEARTBEATS, INTERCEPT, RESOLVER, STAGES},
    packet::{self, DNS_PORT, PACKET_HOST, Packet, Parsed, Transport},
    source::{self, Source},
};

/// `TCP_LISTEN` of include/net/tcp_states.h.
const TCP_LISTEN: u32 = 10;

#[unsafe(no_mangle)]
static PATIENCE: u64 = 0;

/// Whether the resolver takes a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It is not there, or leaves.
    No,
    /// It is there, and does nothing.
    Wedged,
}

#[inline(always)]
pub fn pod_ingress(ctx: &TcContext) -> i32 {
    let packet = match packet::parse(ctx) {
        Parsed::Packet(packet) => packet,
        Parsed::Odd { destination } => {
            // SAFETY: only presence counts.
            if unsafe { INTERCEPT.get(&destination) }.is_some() {
                count(Counter::OrdinaryUnparsed);
            }
            return LEAVE;
        }
        Parsed::Other => return LEAVE,
    };
    if packet.destination_port != DNS_PORT {
        return LEAVE;
    }
    // SAFETY: only presence counts.
    let intercepted = unsafe { INTERCEPT.get(&packet.destination) }.is_some();
    // A connection to another server may have the port of one that was diverted there.
    if !intercepted && packet.transport != (Transport::Tcp { syn: true }) {
        return LEAVE;
    }
    let Some(packet) = packet.keep() else {
        return LEAVE;
    };
    // SAFETY: the context is the kernel's.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    if packet.transport == Transport::Udp
        && let Some(verdict) = cache::answer(ctx, packet, ifindex)
    {
        return verdict;
    }
    // A program of its own, for the stack and the verifier's patience. The array is pinned: it keeps it when the agent
    // is gone.
    // SAFETY: it comes back only if there is no such program, and nothing has changed then.
    let _ = unsafe { STAGES.tail_call(ctx, STAGE_TO_RESOLVER) };
    count_no_socket(packet);
    fallback::leave(ctx, packet, ifindex)
}

/// Hands the packet that `pod_ingress` parsed to the resolver, if it is there and the source is right.
#[inline(always)]
pub fn to_resolver(ctx: &TcContext) -> i32 {
    let Some(packet) = Packet::parsed_before() else {
        return LEAVE;
    };
    // SAFETY: the context is the kernel's.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let udp = packet.transport == Transport::Udp;
    // SAFETY: only presence counts.
    if unsafe { INTERCEPT.get(&packet.destination) }.is_none() {
        return fallback::leave(ctx, packet, ifindex);
    }
    let Some(resolver) = RESOLVER.get(0) else {
        return LEAVE;
    };
    match taken(ctx, packet, resolver) {
        Taken::Yes => {}
        Taken::No => {
            count_no_socket(packet);
            return fallback::leave(ctx, packet, ifindex);
        }
        Taken::Wedged => {
            count(if udp {
                Counter::OrdinaryWedgedUdp
            } else {
                Counter::OrdinaryWedgedTcp
            });
            return fallback::leave(ctx, packet, ifindex);
        }
    }
    let Some((gateway, pod)) = packet::macs(ctx) else {
        return LEAVE;
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
            return fallback::leave(ctx, packet, ifindex);
        }
    }
    // Behind a bridge the packet is addressed to the bridge's MAC, so the port took it for another host's.
    if packet::set_macs(ctx, resolver.mac, gateway).is_none()
        || ctx.change_type(PACKET_HOST).is_err()
    {
        return LEAVE;
    }
    if packet.transport == (Transport::Tcp { syn: true }) {
        // One that is not remembered costs no more than its connection's last reset.
        let _ = CONNECTIONS.insert(&connection(packet), &0, 0);
    }
    count(if udp {
        Counter::ToResolverUdp
    } else {
        Counter::ToResolverTcp
    });
    // SAFETY: plain integers; a device that is gone drops the packet.
    unsafe { bpf_redirect_peer(resolver.ifindex, 0) as i32 }
}

#[inline(always)]
fn count_no_socket(packet: &Packet) {
    count(if packet.transport == Transport::Udp {
        Counter::OrdinaryNoSocketUdp
    } else {
        Counter::OrdinaryNoSocketTcp
    });
}

/// Whether the resolver is there for the packet.
///
/// A TCP segment other than a first SYN needs a connection: one that was opened on the ordinary path stays
/// there. One whose socket is gone already (closed while idle, or over a limit) is still ours, and the
/// resolver's namespace says so by a reset.
#[inline(always)]
pub fn taken(ctx: &TcContext, packet: &Packet, resolver: &Resolver) -> Taken {
    if resolver.ifindex == 0 {
        return Taken::No;
    }
    let closing = resolver.flags & Resolver::CLOSING != 0;
    match (socket(ctx, packet, resolver), packet.transport) {
        (Some(_), Transport::Udp) if closing => Taken::No,
        (Some(socket), Transport::Udp) => beating(socket.slot),
        (listener, Transport::Tcp { syn: true }) => {
            let taken = match listener {
                Some(listener) if !closing => beating(listener.slot),
                _ => Taken::No,
            };
            if taken != Taken::Yes {
                // The connection belongs to the ordinary path, whatever had its port before.
                let _ = CONNECTIONS.remove(&connection(packet));
            }
            taken
        }
        (None, _) => Taken::No,
        (Some(socket), Transport::Tcp { syn: false }) if socket.state == TCP_LISTEN => {
            // SAFETY: only presence counts.
            if unsafe { CONNECTIONS.get(&connection(packet)) }.is_some() {
                Taken::Yes
            } else {
                Taken::No
            }
        }
        // What is open cannot go elsewhere.
        (Some(_), Transport::Tcp { syn: false }) => Taken::Yes,
    }
}

/// Whether the listener with this heartbeat has looked for work lately. One that has never done so is about to.
#[inline(always)]
pub fn beating(slot: u32) -> Taken {
    // SAFETY: the agent sets it before the program is loaded.
    let patience = unsafe { ptr::read_volatile(&PATIENCE) };
    if patience == 0 {
        return Taken::Yes;
    }
    let Some(beat) = HEARTBEATS.get_ptr(slot) else {
        return Taken::Yes;
    };
    // SAFETY: a word of the map's, which the agent writes as a whole.
    let beat = unsafe { ptr::read_volatile(beat) };
    // SAFETY: it has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if beat != 0 && now > beat.saturating_add(patience) {
        Taken::Wedged
    } else {
        Taken::Yes
    }
}

#[inline(always)]
pub fn connection(packet: &Packet) -> Connection {
    Connection {
        client: packet.source,
        server: packet.destination,
        port: packet.source_port as u32,
    }
}

/// What a socket is looked for by, on its port 53.
pub struct Peers {
    pub udp: bool,
    pub client: Address,
    /// The client's port, in host order.
    pub port: u16,
    pub server: Address,
}

/// A socket of the resolver's.
pub struct Found {
    /// Of TCP, in tc.
    state: u32,
    /// The slot of its heartbeat: its mark. 0, which nobody looks at, of what is no whole socket: the kernel answers for
    /// one that is about to be, or was (`sk_fullsock` of include/net/sock.h).
    pub slot: u32,
}

#[inline(always)]
fn socket(ctx: &TcContext, packet: &Packet, resolver: &Resolver) -> Option<Found> {
    let peers = Peers {
        udp: packet.transport == Transport::Udp,
        client: packet.source,
        port: packet.source_port,
        server: packet.destination,
    };
    socket_of::<true>(ctx.as_ptr(), &peers, packet.ipv4, resolver)
}

/// What the resolver's namespace has for these peers. `ctx` is a program's own, of a kind for which there are these helpers:
/// those on sockets see whole ones only, which listeners are.
#[inline(always)]
pub fn socket_of<const IS_TC: bool>(
    ctx: *mut c_void,
    peers: &Peers,
    ipv4: bool,
    resolver: &Resolver,
) -> Option<Found> {
    let (sport, dport) = (peers.port.to_be(), DNS_PORT.to_be());
    // SAFETY: all zero is a valid value of this plain C union.
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let size = if ipv4 {
        tuple.__bindgen_anon_1.ipv4 = TupleV4 {
            saddr: source::v4_word(peers.client),
            daddr: source::v4_word(peers.server),
            sport,
            dport,
        };
        mem::size_of::<TupleV4>()
    } else {
        tuple.__bindgen_anon_1.ipv6 = TupleV6 {
            saddr: source::words(peers.client),
            daddr: source::words(peers.server),
            sport,
            dport,
        };
        mem::size_of::<TupleV6>()
    } as u32;
    let netns = u64::from(resolver.netns_id);
    // SAFETY: context and tuple are valid, the size is the tuple's. A socket that was found is released once,
    // and not used afterwards. One load for all types would be refused by the verifier:
    // `hidden` keeps the compiler from making it.
    unsafe {
        if peers.udp || !IS_TC {
            let socket = if peers.udp {
                bpf_sk_lookup_udp(ctx, &mut tuple, size, netns, 0)
            } else {
                bpf_sk_lookup_tcp(ctx, &mut tuple, size, netns, 0)
            };
            if socket.is_null() {
                return None;
            }
            let slot = hidden((*socket).mark as usize) as u32;
            bpf_sk_release(socket.cast());
            return Some(Found { state: 0, slot });
        }
        let socket = bpf_skc_lookup_tcp(ctx, &mut tuple, size, netns, 0);
        if socket.is_null() {
            return None;
        }
        let state = (*socket).state;
        let whole = bpf_sk_fullsock(socket);
        let slot = if whole.is_null() {
            0
        } else {
            hidden((*whole).mark as usize) as u32
        };
        bpf_sk_release(socket.cast());
        Some(Found { state, slot })
    }
}
