//! A query over UDP, from a socket of its own: a random port as well as a random ID (RFC 5452).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use dns_cache_common::header::u16_at;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::connection::{Lost, Waiting};
use super::health::Health;
use super::query::Query;

/// Sockets of a server; beyond them it is busy.
const MOST: usize = 512;
/// Far more than we say that we take; a longer one is cut, which makes it malformed.
const BUFFER: usize = 4096;

/// Sends a query. Its socket is kept until the answer, or for `abandon`.
pub(super) fn send(
    address: SocketAddr,
    query: &Arc<Query>,
    health: &Arc<Health>,
    abandon: Duration,
) -> Result<Waiting, Lost> {
    if health.in_flight() >= MOST {
        return Err(Lost::Busy);
    }
    let (answer, waiting) = oneshot::channel();
    let in_flight = health.sent();
    health.exchanges.opened.fetch_add(1, Relaxed);
    let (query, health) = (Arc::clone(query), Arc::clone(health));
    tokio::spawn(async move {
        let exchanged = timeout(abandon, exchange(address, &query, &health)).await;
        drop(in_flight);
        // Nobody waits any more if another server was faster.
        let _ = answer.send(match exchanged {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(Lost::Unreachable),
        });
    });
    Ok(waiting)
}

async fn exchange(address: SocketAddr, query: &Query, health: &Health) -> io::Result<Bytes> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // The kernel picks a random port.
    let socket = UdpSocket::bind(any).await?;
    // What others send to that port is not ours.
    socket.connect(address).await?;
    let id = RandomState::new().hash_one(()) as u16;
    let sent = Instant::now();
    socket.send(&query.datagram(id)).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let message = &buffer[..length];
        if u16_at(message, 0) == Some(id) && query.is_answered_by(message) {
            health.answered(message, sent.elapsed());
            return Ok(Bytes::copy_from_slice(message));
        }
        // A guess of somebody's: the right answer may still come.
        health.unmatched.fetch_add(1, Relaxed);
    }
}
