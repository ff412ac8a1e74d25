//! The least that a resolver in front of another can be: one thread that hands a query on over an open TCP connection,
//! and the answer back, and does nothing else. What it adds to a direct query nobody on this machine can go below.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use dns_cache_tests::Netns;

use super::probe;

/// How soon it notices that it is to end.
const LOOK: Duration = Duration::from_millis(100);
const PREFIX: usize = 2;

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// At this address of the namespace, on a port of its own, towards this server.
    pub(super) fn start(netns: &Netns, address: IpAddr, server: SocketAddr) -> Result<Self> {
        let socket = netns
            .run(|| UdpSocket::bind((address, 0)))
            .with_context(|| format!("binding a relay to {address}"))?;
        socket.set_read_timeout(Some(LOOK))?;
        let (address, mut stream) = (socket.local_addr()?, probe::connect(netns, server)?);
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !seen.load(Relaxed) {
                match pass(&socket, &mut stream, &mut buffer) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        });
        Ok(Self {
            address,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it is asked.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
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
