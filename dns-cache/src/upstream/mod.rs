//! Asking a zone's servers, over TCP or TLS connections that are kept, or by UDP.
//!
//! ```text
//! Group (a zone's servers: hedges, retries) → choice → Attempt → Server (health) ─┬→ Pool → Connection (frames, IDs)
//!                                                                                └→ datagram
//! ```
//! Messages stay the bytes that they are. hickory's client was not taken: it decodes every response, and so
//! refuses what it does not know, and it hides responses that match no query, which we must count.

mod attempt;
mod choice;
mod connection;
mod datagram;
mod exchanges;
#[cfg(test)]
pub(crate) mod fake;
mod group;
mod health;
mod home;
mod keepalive;
mod pool;
mod query;
mod rtt;
mod server;
#[cfg(test)]
mod tests;
mod transport;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use exchanges::{Carried, Exchanged, RCODES};
pub use group::{Failure, Group};
pub use query::Query;
pub use transport::Transport;

pub use crate::tls::Error as TlsError;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// The least and the most that is waited before a query may also go to another server; the first server's
    /// 95th percentile lies between them.
    pub hedge_floor: Duration,
    /// See `hedge_floor`.
    pub hedge_cap: Duration,
    /// Until a query without an answer must go to another server, unless the first one is slow with most.
    pub attempt: Duration,
    /// Until an attempt to connect fails.
    pub connect: Duration,
    /// Until a query is forgotten, and a connection on which nothing has come since is closed.
    pub abandon: Duration,
    /// From a server's ejection to its first probe; each pause after that is twice as long.
    pub probe_first: Duration,
    /// The longest pause between probes.
    pub probe_most: Duration,
    /// How long an ejected server is waited for where others have errors only.
    pub check: Duration,
    /// How often a server is asked for that, if it is ejected or others enough were asked.
    pub check_pause: Duration,
    /// Pause after all servers have failed at once, before the second and last round.
    pub pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            hedge_floor: Duration::from_millis(5),
            hedge_cap: Duration::from_millis(500),
            attempt: Duration::from_millis(500),
            connect: Duration::from_secs(3),
            abandon: Duration::from_secs(5),
            probe_first: Duration::from_secs(1),
            probe_most: Duration::from_secs(30),
            check: Duration::from_millis(100),
            check_pause: Duration::from_secs(1),
            pause: Duration::from_millis(200),
        }
    }
}

/// What is known about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub address: SocketAddr,
    /// How far it is: nearer ones are asked first.
    pub distance: u32,
    /// Its share of the queries among those of the same distance.
    pub weight: u32,
    /// Open connections.
    pub connections: usize,
    /// Queries that wait for its answer.
    pub in_flight: usize,
    /// Queries sent to it.
    pub queries: u64,
    /// Of them, those that were sent because another server took long.
    pub hedges: u64,
    /// And those because another server had not answered in time.
    pub retries: u64,
    /// Attempts that ended without an answer, or without one in time.
    pub failures: u64,
    /// The same by kind.
    pub failures_by_kind: Vec<(&'static str, u64)>,
    /// Messages that answered none of its queries.
    pub unmatched: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// What half of its last answers took at most; `None` before the first.
    pub rtt_p50: Option<Duration>,
    /// What 95 % of its last answers took at most; `None` before the first.
    pub rtt_p95: Option<Duration>,
    /// It is ejected: it did not answer lately and is asked last.
    pub suspect: bool,
    /// For how long it has been.
    pub ejected_for: Option<Duration>,
}
