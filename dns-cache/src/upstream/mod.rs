//! Asking a zone's servers, over TCP connections that are kept.
//!
//! ```text
//! Group (the servers of a zone: order, fail-over) → Server (its pool) → Connection (frames, IDs)
//! ```
//! Messages stay the bytes that they are. hickory's client was not taken: it decodes every response, and so
//! refuses what it does not know, and it hides responses that match no query, which we must count.

mod connection;
#[cfg(test)]
pub(crate) mod fake;
mod group;
mod health;
mod home;
mod query;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

pub use group::{Failure, Group};
pub use query::Query;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Until a query without an answer also goes to the next server.
    pub attempt: Duration,
    /// Until an attempt to connect fails.
    pub connect: Duration,
    /// Until a query is forgotten, and a connection on which nothing has come since is closed.
    pub abandon: Duration,
    /// How long a server that did not answer is asked last.
    pub suspicion: Duration,
    /// Pause after all servers have failed at once, before the second and last round.
    pub pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            attempt: Duration::from_millis(400),
            connect: Duration::from_secs(3),
            abandon: Duration::from_secs(5),
            suspicion: Duration::from_secs(5),
            pause: Duration::from_millis(200),
        }
    }
}

/// What is known about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Open connections.
    pub connections: usize,
    /// Queries that wait for its answer.
    pub in_flight: usize,
    /// Queries sent to it.
    pub queries: u64,
    /// Attempts that ended without an answer, or without one in time.
    pub failures: u64,
    /// Messages that answered none of its queries.
    pub unmatched: u64,
    /// Its round-trip time, smoothed; `None` before the first answer.
    pub rtt: Option<Duration>,
    /// It did not answer lately and is asked last.
    pub suspect: bool,
}
