//! A socket of the node's own processes that is to ask an intercepted address asks the link-local one instead, to which
//! there is a route: so its packets meet no DNAT. While nobody listens, one that is to ask the link-local address, whose
//! route may be gone, asks its fallback. The process hears the name that it gave.
//!
//! The programs see the sockets of all pods as well, if their cgroup holds them, and change nothing: a pod's namespace
//! has another cookie than the node's. Where the kernel does not tell the node's, the id of the resolver's namespace has
//! to do: it means nothing in a pod's own, so no socket is found there.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use dns_cache_common::maps::{Address, Resolver};

use crate::{
    maps::{BELIEVED, INSTEAD, INTERCEPT, RESOLVER},
    packet::DNS_PORT,
    source,
    steer::{self, Peers, Taken},
};

/// The system call goes on. There is no other answer.
pub const GO_ON: i32 = 1;
/// `SOCK_STREAM` and `SOCK_DGRAM` of linux/net.h, as on all machines but MIPS.
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// `TCP_ESTABLISHED` of include/net/tcp_states.h: a UDP socket's state, too, once it is connected.
const ESTABLISHED: u32 = 1;

/// The cookie of the node's network namespace; 0 is nobody's.
#[unsafe(no_mangle)]
static NODE: u64 = 0;

/// The address in a context, in the fields for its family.
pub trait Field {
    fn read(ctx: *mut bpf_sock_addr) -> Address;
    fn write(ctx: *mut bpf_sock_addr, address: Address);
}

pub struct V4;
pub struct V6;

impl Field for V4 {
    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> Address {
        // SAFETY: the context is the kernel's.
        Address::from_v4(unsafe { (*ctx).user_ip4 }.to_ne_bytes())
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, address: Address) {
        // SAFETY: as above, and the kernel lets it be written.
        unsafe { (*ctx).user_ip4 = source::v4_word(address) };
    }
}

/// An IPv4 address of such a socket is in its mapped form, as our addresses are. A context is read and written a word at a
/// time, at fixed offsets: a copy of all of it would be refused by the verifier.
impl Field for V6 {
    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> Address {
        // SAFETY: the context is the kernel's.
        source::from_words(unsafe {
            [
                ptr::read_volatile(&raw const (*ctx).user_ip6[0]),
                ptr::read_volatile(&raw const (*ctx).user_ip6[1]),
                ptr::read_volatile(&raw const (*ctx).user_ip6[2]),
                ptr::read_volatile(&raw const (*ctx).user_ip6[3]),
            ]
        })
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, address: Address) {
        let [a, b, c, d] = source::words(address);
        // SAFETY: as above, and the kernel lets it be written.
        unsafe {
            ptr::write_volatile(&raw mut (*ctx).user_ip6[0], a);
            ptr::write_volatile(&raw mut (*ctx).user_ip6[1], b);
            ptr::write_volatile(&raw mut (*ctx).user_ip6[2], c);
            ptr::write_volatile(&raw mut (*ctx).user_ip6[3], d);
        }
    }
}

/// `connect`: whom the socket is to ask from now on.
#[inline(always)]
pub fn connect<F: Field>(ctx: &SockAddrContext) -> i32 {
    if is_dns(ctx) {
        // It may have asked others before.
        let _ = BELIEVED.remove(&cookie(ctx));
    }
    ask::<F>(ctx)
}

/// `sendmsg`: whom this datagram is to ask.
///
/// A connected IPv6 socket whose peer is an IPv4 address names it for each datagram (`udpv6_sendmsg` of
/// net/ipv6/udp.c). What it hears comes from there only, so `connect` has said who that is.
#[inline(always)]
pub fn send<F: Field>(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context is the kernel's, and such a one has a socket.
    let state = unsafe {
        let socket = ptr::read_volatile(&raw const (*ctx.sock_addr).__bindgen_anon_1.sk);
        ptr::read_volatile(&raw const (*socket).state)
    };
    if state == ESTABLISHED {
        return GO_ON;
    }
    ask::<F>(ctx)
}

#[inline(always)]
fn ask<F: Field>(ctx: &SockAddrContext) -> i32 {
    if let Some((address, instead)) = redirected::<F>(ctx) {
        let cookie = cookie(ctx);
        // SAFETY: an LRU element may be reused while it is read; then it is written anew.
        let known = unsafe { BELIEVED.get(&cookie) } == Some(&address);
        if known || BELIEVED.insert(&cookie, &address, 0).is_ok() {
            F::write(ctx.sock_addr, instead);
        }
    }
    GO_ON
}

/// `recvmsg` and `getpeername`: whom the process believes to have asked.
#[inline(always)]
pub fn name<F: Field>(ctx: &SockAddrContext) -> i32 {
    if !is_dns(ctx) {
        return GO_ON;
    }
    // SAFETY: an LRU element may be reused while it is read. Then the process hears another name.
    let Some(believed) = unsafe { BELIEVED.get(&cookie(ctx)) }.copied() else {
        return GO_ON;
    };
    let address = F::read(ctx.sock_addr);
    if instead(address) == Some(address) || fallback(&believed) == Some(address) {
        F::write(ctx.sock_addr, believed);
    }
    GO_ON
}

/// The address that is asked, and the one to ask instead.
#[inline(always)]
fn redirected<F: Field>(ctx: &SockAddrContext) -> Option<(Address, Address)> {
    if !is_dns(ctx) {
        return None;
    }
    let place = place(ctx);
    if place == Place::Elsewhere {
        return None;
    }
    let address = F::read(ctx.sock_addr);
    // SAFETY: the map is not preallocated, so an element lives until the grace period after its removal.
    let fallback = unsafe { INTERCEPT.get(&address) }?;
    if *fallback == Address::NONE {
        let instead = instead(address)?;
        return listens(ctx, instead).then_some((address, instead));
    }
    // It has a route, as long as somebody listens.
    (place == Place::Node && !listens(ctx, address)).then_some((address, *fallback))
}

/// Who is asked in this one's place while nobody listens there.
#[inline(always)]
fn fallback(address: &Address) -> Option<Address> {
    // SAFETY: as above.
    let fallback = unsafe { INTERCEPT.get(address) }.copied();
    fallback.filter(|fallback| *fallback != Address::NONE)
}

/// The network namespace that a socket is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Node,
    Elsewhere,
    Unknown,
}

#[inline(always)]
fn place(ctx: &SockAddrContext) -> Place {
    // SAFETY: the constant was set before the program was loaded, and must be read from memory.
    let node = unsafe { ptr::read_volatile(&raw const NODE) };
    // SAFETY: the context is the kernel's.
    match node {
        0 => Place::Unknown,
        node if node == unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } => Place::Node,
        _ => Place::Elsewhere,
    }
}

#[inline(always)]
fn is_dns(ctx: &SockAddrContext) -> bool {
    // SAFETY: the context is the kernel's.
    unsafe { (*ctx.sock_addr).user_port == u32::from(DNS_PORT.to_be()) }
}

/// What is asked in the place of addresses of this one's family.
#[inline(always)]
fn instead(address: Address) -> Option<Address> {
    let both = INSTEAD.get(0)?;
    let instead = if source::is_ipv4(address) {
        both.v4
    } else {
        both.v6
    };
    (instead != Address::NONE).then_some(instead)
}

/// Whether the resolver takes what is new at this address.
#[inline(always)]
fn listens(ctx: &SockAddrContext, server: Address) -> bool {
    let Some(resolver) = RESOLVER.get(0) else {
        return false;
    };
    if resolver.ifindex == 0 || resolver.flags & Resolver::CLOSING != 0 {
        return false;
    }
    // SAFETY: the context is the kernel's.
    let udp = match unsafe { (*ctx.sock_addr).type_ } {
        SOCK_DGRAM => true,
        SOCK_STREAM => false,
        _ => return false,
    };
    let peers = Peers {
        udp,
        client: Address::NONE,
        port: 0,
        server,
    };
    let is_ipv4 = source::is_ipv4(server);
    let found = steer::socket_of::<false>(ctx.as_ptr(), &peers, is_ipv4, resolver);
    found.is_some_and(|socket| steer::beating(socket.slot) == Taken::Yes)
}

/// The socket's name, which no other will have.
#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context is the kernel's.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
