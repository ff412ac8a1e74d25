//! The resolver's sockets, made inside of its namespace. A socket belongs to the namespace in which it was made.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use dns_cache_common::maps::{HEARTBEATS, LISTENERS_HEARTBEAT};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::error::{Error, Step as _};
use crate::privileges::Resident;
use crate::serve::Sockets;

const PORT: u16 = 53;
const BACKLOG: i32 = 4096;
/// Room for a burst while the worker is busy: some 4,000 queries with the kernel's own overhead.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Sockets at these addresses: those that there are already, and new ones at the addresses without. The agent before may
/// have had others: their sockets are there as well, and their addresses come apart.
pub(super) fn complete(
    resident: &Resident,
    listen: &[IpAddr],
    mut inherited: Sockets,
) -> Result<(Sockets, Vec<IpAddr>), Error> {
    let step = || "look at the sockets of the agent before".to_owned();
    let mut there = Vec::new();
    for socket in &inherited.udp {
        keep_heartbeat(SockRef::from(socket).mark().step(step)?);
        there.push(socket.local_addr().step(step)?.ip());
    }
    let new: Vec<_> = listen
        .iter()
        .copied()
        .filter(|address| !there.contains(address))
        .collect();
    let Sockets { udp, tcp } = open(resident, &new)?;
    inherited.udp.extend(udp);
    inherited.tcp.extend(tcp);
    there.retain(|address| !listen.contains(address));
    Ok((inherited, there))
}

/// One UDP socket an address and core, one TCP listener an address, where the resident is.
pub(super) fn open(resident: &Resident, listen: &[IpAddr]) -> Result<Sockets, Error> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let listen = listen.to_vec();
    resident.run(move || {
        let mut sockets = Sockets {
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for ip in listen {
            let address = SocketAddr::new(ip, PORT);
            for _ in 0..cores {
                let socket = udp(address, next_heartbeat())
                    .step(|| format!("listen on {address}/UDP in the resolver's namespace"))?;
                sockets.udp.push(socket.into());
            }
            let socket = tcp(address)
                .step(|| format!("listen on {address}/TCP in the resolver's namespace"))?;
            sockets.tcp.push(socket.into());
        }
        Ok(sockets)
    })
}

/// The slot of the next UDP socket's heartbeat.
static NEXT: AtomicU32 = AtomicU32::new(LISTENERS_HEARTBEAT + 1);

/// Leaves a slot to a socket that has it.
fn keep_heartbeat(slot: u32) {
    NEXT.fetch_max(slot.saturating_add(1), Relaxed);
}

/// The mark of the next UDP socket: the slot of its heartbeat. 0, which nobody looks at, when all are taken.
fn next_heartbeat() -> u32 {
    let slot = NEXT.fetch_add(1, Relaxed);
    if slot < HEARTBEATS { slot } else { 0 }
}

fn udp(address: SocketAddr, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // Without CAP_NET_ADMIN the system's limit holds; that is still a working socket.
    let _ = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER);
    socket.set_mark(mark)?;
    bind(&socket, address)?;
    Ok(socket)
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}
