//! The least that a resolver in front of another can be: one thread that hands a query on over an open TCP connection,
//! and the answer back, and does nothing else. What it adds to a direct query nobody on this machine can go below.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::Netns;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::sockopt::ReusePort;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
};
use nix::unistd::{Pid, gettid};

use super::probe;
use super::threads::Activity;

/// How soon it notices that it is to end.
const LOOK: Duration = Duration::from_millis(100);
const PREFIX: usize = 2;

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    id: Pid,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// At this address of the namespace, on a port of its own, towards this server.
    pub(super) fn start(netns: &Netns, address: IpAddr, server: SocketAddr) -> Result<Self> {
        let socket = netns
            .run(|| UdpSocket::bind((address, 0)))
            .with_context(|| format!("binding a relay to {address}"))?;
        Self::new(socket, probe::connect(netns, server)?)
    }

    /// In the place of an agent, beside whose sockets its own one is: in the resolver's namespace, at the address and port
    /// that the agent is asked at. The kernel sends some clients' queries to the one, and others' to the other. The
    /// connection is in the node's namespace, as the agent's are.
    pub(super) fn in_place(
        resolver: &Path,
        node: &Netns,
        address: SocketAddr,
        server: SocketAddr,
    ) -> Result<Self> {
        let place = || format!("binding a relay to {address} in {}", resolver.display());
        let inside = || -> Result<UdpSocket> {
            setns(File::open(resolver)?, CloneFlags::CLONE_NEWNET)?;
            shared(address)
        };
        let Ok(socket) = thread::scope(|scope| scope.spawn(inside).join()) else {
            bail!("the thread that binds a relay panicked");
        };
        Self::new(socket.with_context(place)?, probe::connect(node, server)?)
    }

    fn new(socket: UdpSocket, mut stream: TcpStream) -> Result<Self> {
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let passed = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (count, seen) = (Arc::clone(&passed), Arc::clone(&ended));
        let (tell, id) = mpsc::channel();
        let thread = thread::spawn(move || {
            // It is waited for below.
            let _ = tell.send(gettid());
            let mut buffer = [0; 4096];
            while !seen.load(Relaxed) {
                match pass(&socket, &mut stream, &mut buffer) {
                    Ok(()) => {
                        count.fetch_add(1, Relaxed);
                    }
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    Err(_) => {}
                }
            }
        });
        Ok(Self {
            address,
            passed,
            ended,
            id: id.recv().context("the relay's thread")?,
            thread: Some(thread),
        })
    }

    /// Where it is asked.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many queries it has answered.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Relaxed)
    }

    /// What its thread did.
    pub(super) fn activity(&self) -> Option<Activity> {
        Activity::of_own(self.id)
    }
}

/// A socket at an address and port that others have as well.
fn shared(address: SocketAddr) -> Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, kind, flags, None)?;
    setsockopt(&socket, ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic, and how it ended is told by the queries without an answer.
            let _ = thread.join();
        }
    }
}

/// One query, and its answer.
fn pass(socket: &UdpSocket, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let (length, client) = socket.recv_from(&mut buffer[PREFIX..])?;
    let prefix = u16::try_from(length).map_err(io::Error::other)?;
    buffer[..PREFIX].copy_from_slice(&prefix.to_be_bytes());
    stream.write_all(&buffer[..PREFIX + length])?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        if let [a, b, message @ ..] = &buffer[..filled]
            && message.len() >= usize::from(u16::from_be_bytes([*a, *b]))
        {
            return socket.send_to(message, client).map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_share_an_address() {
        let first = shared(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let second = shared(address).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        assert!(UdpSocket::bind(address).is_err());
    }
}
