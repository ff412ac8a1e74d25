//! A query over UDP, from a socket of its own: a random port as well as a random ID (RFC 5452).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use dns_cache_common::header::u16_at;
use nix::errno::Errno;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::Timings;
use super::connection::{Lost, Waiting};
use super::health::Health;
use super::query::Query;

/// Sockets of a server; beyond them it is busy. As many as questions may wait by default: a client's share of those is
/// its share of these, for a socket lives no longer than somebody waits.
pub(super) const MOST: usize = 4096;
/// Far more than we say that we take; a longer one is cut, which makes it malformed.
const BUFFER: usize = 4096;

/// Sends a query, and again after an attempt's time, twice that, and so on: a datagram may be lost. Its socket is kept
/// until the answer, as long as somebody waits, for `abandon` at most.
pub(super) fn send(
    address: SocketAddr,
    query: &Arc<Query>,
    health: &Arc<Health>,
    timings: Timings,
) -> Result<Waiting, Lost> {
    if health.in_flight() >= MOST {
        return Err(Lost::Busy);
    }
    let (mut answer, waiting) = oneshot::channel();
    let in_flight = health.sent();
    health.exchanges.datagrams.fetch_add(1, Relaxed);
    let (query, health) = (Arc::clone(query), Arc::clone(health));
    tokio::spawn(async move {
        let exchange = timeout(timings.abandon, exchange(address, &query, &health, timings));
        let exchanged = tokio::select! {
            exchanged = exchange => exchanged,
            () = answer.closed() => return,
        };
        drop(in_flight);
        // Nobody waits any more if another server was faster.
        let _ = answer.send(match exchanged {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_ours(&error) => Err(Lost::Busy),
            Ok(Err(_)) | Err(_) => Err(Lost::Unreachable),
        });
    });
    Ok(waiting)
}

async fn exchange(
    address: SocketAddr,
    query: &Query,
    health: &Health,
    timings: Timings,
) -> io::Result<Bytes> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // The kernel picks a random port.
    let socket = UdpSocket::bind(any).await?;
    // What others send to that port is not ours.
    socket.connect(address).await?;
    let id = RandomState::new().hash_one(()) as u16;
    let datagram = query.datagram(id);
    let sent = Instant::now();
    socket.send(&datagram).await?;
    let (mut again, mut pause) = (sent + timings.attempt, timings.attempt * 2);
    loop {
        let message = tokio::select! {
            message = receive(&socket) => message?,
            () = sleep_until(again) => {
                health.repeated();
                socket.send(&datagram).await?;
                (again, pause) = (again + pause, pause * 2);
                continue;
            }
        };
        if u16_at(&message, 0) == Some(id) && query.is_answered_by(&message) {
            health.answered(&message, sent.elapsed());
            return Ok(message);
        }
        // A guess of somebody's: the right answer may still come.
        health.unmatched.fetch_add(1, Relaxed);
    }
}

/// The next datagram; the buffer is there when that is, for many wait.
async fn receive(socket: &UdpSocket) -> io::Result<Bytes> {
    let read = || {
        let mut buffer = [0; BUFFER];
        let length = (&*SockRef::from(socket)).read(&mut buffer)?;
        Ok(Bytes::copy_from_slice(&buffer[..length]))
    };
    // An error is that the port is closed.
    let interest = Interest::READABLE | Interest::ERROR;
    socket.async_io(interest, read).await
}

/// Whether it is this process or its node that has no room for another socket.
fn is_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
