//! The resolver's sockets, made inside of its namespace. A socket belongs to the namespace in which it was made.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use dns_cache_common::maps::{FIRST_HEARTBEAT, HEARTBEATS};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::error::{Error, Step as _};
use crate::privileges::Resident;
use crate::serve::Sockets;

const PORT: u16 = 53;
const BACKLOG: i32 = 4096;
/// Room for a burst while the worker is busy: some 4,000 queries with the kernel's own overhead.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Which slots of the heartbeats are taken, and the addresses of their sockets.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<u32, IpAddr>);

impl Slots {
    /// Leaves a slot to a socket that has it.
    fn keep(&mut self, address: IpAddr, slot: u32) {
        self.0.insert(slot, address);
    }

    /// The lowest one that is free. 0, which nobody looks at, when all are taken.
    fn take(&mut self, address: IpAddr) -> u32 {
        let free = (FIRST_HEARTBEAT..HEARTBEATS).find(|slot| !self.0.contains_key(slot));
        free.map_or(0, |slot| {
            self.keep(address, slot);
            slot
        })
    }

    /// Frees those of all other addresses: their sockets are read no more.
    pub(super) fn retain(&mut self, listen: impl Fn(IpAddr) -> bool) {
        self.0.retain(|_, address| listen(*address));
    }
}

/// Sockets at these addresses: those that there are already, and new ones at the addresses without. The agent before may
/// have had others: their sockets are there as well, and their addresses come apart.
pub(super) fn complete(
    resident: &Resident,
    listen: &[IpAddr],
    mut inherited: Sockets,
    slots: &mut Slots,
) -> Result<(Sockets, Vec<IpAddr>), Error> {
    let step = || "look at the sockets of the agent before".to_owned();
    let mut there = Vec::new();
    for socket in &inherited.udp {
        let address = socket.local_addr().step(step)?.ip();
        slots.keep(address, SockRef::from(socket).mark().step(step)?);
        there.push(address);
    }
    for listener in &inherited.tcp {
        // Earlier versions gave them none: they are taken for alive.
        let address = listener.local_addr().step(step)?.ip();
        slots.keep(address, SockRef::from(listener).mark().step(step)?);
    }
    let new: Vec<_> = listen
        .iter()
        .copied()
        .filter(|address| !there.contains(address))
        .collect();
    let Sockets { udp, tcp } = open(resident, &new, slots)?;
    inherited.udp.extend(udp);
    inherited.tcp.extend(tcp);
    there.retain(|address| !listen.contains(address));
    Ok((inherited, there))
}

/// One UDP socket an address and core, one TCP listener an address, where the resident is. Nobody reads others at these
/// addresses.
pub(super) fn open(
    resident: &Resident,
    listen: &[IpAddr],
    slots: &mut Slots,
) -> Result<Sockets, Error> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    slots.retain(|address| !listen.contains(&address));
    let mut take = |ip: &IpAddr| {
        let udp: Vec<_> = (0..cores).map(|_| slots.take(*ip)).collect();
        (SocketAddr::new(*ip, PORT), udp, slots.take(*ip))
    };
    let planned: Vec<_> = listen.iter().map(&mut take).collect();
    resident.run(move || {
        let mut sockets = Sockets {
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for (address, marks, mark) in planned {
            for mark in marks {
                let socket = udp(address, mark)
                    .step(|| format!("listen on {address}/UDP in the resolver's namespace"))?;
                sockets.udp.push(socket.into());
            }
            let socket = tcp(address, mark)
                .step(|| format!("listen on {address}/TCP in the resolver's namespace"))?;
            sockets.tcp.push(socket.into());
        }
        Ok(sockets)
    })
}

/// `mark` is the slot of its heartbeat.
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

/// `mark` is the slot of its heartbeat; its connections inherit it.
fn tcp(address: SocketAddr, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_mark(mark)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn slots_of_addresses_that_are_left_are_given_again() {
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let stays = address(0);
        let mut slots = Slots::default();
        slots.keep(stays, 7);
        let mut given = BTreeSet::new();
        for number in 1..=2 * HEARTBEATS {
            slots.retain(|ip| ip == stays);
            given.extend([slots.take(address(number)), slots.take(address(number))]);
        }
        assert_eq!(given, BTreeSet::from([1, 2]));
        let rest: BTreeSet<_> = (3..HEARTBEATS - 1).map(|_| slots.take(stays)).collect();
        assert_eq!(rest.len(), HEARTBEATS as usize - 4);
        assert!(!rest.contains(&0) && !rest.contains(&7));
        assert_eq!(slots.take(stays), 0);
    }
}
