//! The tc programs of dns-cache: thin entry points, one concern a file below them.
//!
//! - `pod_ingress` sits on the host side of each pod's interface, sees what the pod sends, and answers from the
//!   kernel cache; what it cannot answer goes on in `to_resolver`, by a tail call.
//! - `pod_egress` sits on the same interfaces, and sees what goes to the pod, if an intercepted address has a fallback.
//! - `resolver_ingress` sits on the host side of the resolver's veth and sees its replies; `host_egress` sees there what
//!   the node's own processes ask.
//! - `host_connect4` and its like sit on a cgroup, where the node's own processes are served at the ClusterIP too.
//! - `reflect` bounces queries and `measure` goes through the stages of a hit: for the benchmark, never loaded by the
//!   agent.
//!
//! Minimum kernel: 5.10 (`bpf_redirect_peer`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod answer;
mod cache;
mod checksum;
mod counters;
mod cut;
mod entry;
mod fallback;
mod host;
mod host_socket;
mod key;
mod maps;
mod measure;
mod packet;
mod reflect;
mod reply;
mod scratch;
mod source;
mod steer;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier},
    programs::{SockAddrContext, TcContext},
};
use host_socket::{V4, V6};

/// A pod's packet on its way into the node.
#[classifier]
pub fn pod_ingress(ctx: TcContext) -> i32 {
    steer::pod_ingress(&ctx)
}

/// What `pod_ingress` does not answer goes on here.
#[classifier]
pub fn to_resolver(ctx: TcContext) -> i32 {
    steer::to_resolver(&ctx)
}

/// The ordinary path's packet on its way to a pod.
#[classifier]
pub fn pod_egress(ctx: TcContext) -> i32 {
    fallback::pod_egress(&ctx)
}

/// A packet of the node's own on its way to the resolver.
#[classifier]
pub fn host_egress(ctx: TcContext) -> i32 {
    host::host_egress(&ctx)
}

// The socket calls of the node's own processes.

#[cgroup_sock_addr(connect4)]
pub fn host_connect4(ctx: SockAddrContext) -> i32 {
    host_socket::connect::<V4>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn host_connect6(ctx: SockAddrContext) -> i32 {
    host_socket::connect::<V6>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn host_sendmsg4(ctx: SockAddrContext) -> i32 {
    host_socket::send::<V4>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn host_sendmsg6(ctx: SockAddrContext) -> i32 {
    host_socket::send::<V6>(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn host_recvmsg4(ctx: SockAddrContext) -> i32 {
    host_socket::name::<V4>(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn host_recvmsg6(ctx: SockAddrContext) -> i32 {
    host_socket::name::<V6>(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn host_getpeername4(ctx: SockAddrContext) -> i32 {
    host_socket::name::<V4>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn host_getpeername6(ctx: SockAddrContext) -> i32 {
    host_socket::name::<V6>(&ctx)
}

/// The resolver's packet on its way to a pod.
#[classifier]
pub fn resolver_ingress(ctx: TcContext) -> i32 {
    reply::resolver_ingress(&ctx)
}

/// A pod's query on its way back: for the benchmark only.
#[classifier]
pub fn reflect(ctx: TcContext) -> i32 {
    reflect::reflect(&ctx)
}

/// A hit up to a stage: for the benchmark only.
#[classifier]
pub fn measure(ctx: TcContext) -> i32 {
    measure::measure(&ctx)
}

/// The helpers in use (socket look-up, redirect) are GPL-only in the kernel; the crate's licence
/// offers GPL-2.0 beside Apache-2.0 and MIT.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
