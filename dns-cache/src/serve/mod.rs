//! Bytes in, bytes out: the listeners of the resolver's namespace.

pub(crate) mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::limits;
use crate::resolver::{Miss, Resolver, Time};
use tally::{Manner, Tally};

/// Sockets made in the resolver's namespace, all non-blocking.
#[derive(Debug)]
pub struct Sockets {
    /// One a listen address and core, bound with `SO_REUSEPORT` to that address and port 53.
    pub udp: Vec<std::net::UdpSocket>,
    /// One a listen address.
    pub tcp: Vec<std::net::TcpListener>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be watched, or a thread not be started.
    #[error("cannot serve on a listening socket: {0}")]
    Socket(#[from] io::Error),
}

/// Bounds of what clients may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// UDP queries that wait for an upstream.
    pub(crate) udp_misses: usize,
    /// TCP connections, in all and from one address.
    pub(crate) connections: usize,
    pub(crate) connections_per_client: usize,
    /// Queries of one connection that wait for an upstream; beyond them it is not read.
    pub(crate) misses_per_connection: usize,
    /// Time that a connection may pass without a whole query, or without taking a reply.
    pub(crate) idle: Duration,
    /// Time that replies to what was read have to get out at the end.
    pub(crate) drain: Duration,
}

const MOST_CONNECTIONS: usize = 1000;

/// TCP connections of clients with so many file descriptors: half of them stay for the connections to
/// upstreams, netlink and the control socket.
fn connections(open_files: u64) -> usize {
    usize::try_from(open_files / 2).map_or(MOST_CONNECTIONS, |half| half.min(MOST_CONNECTIONS))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            udp_misses: 10_000,
            connections: MOST_CONNECTIONS,
            connections_per_client: 200,
            misses_per_connection: 100,
            idle: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// The listeners, running until [`shutdown`](Self::shutdown) or drop.
#[derive(Debug)]
pub struct Server {
    tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    finished: mpsc::Receiver<()>,
    drain: Duration,
}

/// A query that waits for an upstream.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at: Time,
    manner: Manner,
    bytes: usize,
}

/// What every listener, connection and waiting query holds as long as it lives.
#[derive(Debug, Clone)]
struct Running {
    resolver: Arc<Resolver>,
    tally: Arc<Tally>,
    limits: Limits,
    stop: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

impl Server {
    /// Serves on sockets; must be called within a tokio runtime with I/O and time.
    pub fn start(sockets: Sockets, resolver: Arc<Resolver>) -> Result<Self, Error> {
        let limits = Limits {
            connections: connections(limits::open_files()),
            ..Limits::default()
        };
        Self::with(sockets, resolver, limits)
    }

    pub(crate) fn with(
        sockets: Sockets,
        resolver: Arc<Resolver>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let (alive, finished) = mpsc::channel(1);
        let tally = Arc::<Tally>::default();
        let running = Running {
            resolver,
            tally: Arc::clone(&tally),
            limits,
            stop: stopped,
            _alive: alive,
        };
        let misses = Arc::new(Semaphore::new(limits.udp_misses));
        udp::start(sockets.udp, &running, &misses)?;
        let places = Arc::new(tcp::Places::new(&limits));
        for listener in sockets.tcp {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(tcp::listen(listener, running.clone(), Arc::clone(&places)));
        }
        Ok(Self {
            tally,
            stop,
            finished,
            drain: limits.drain,
        })
    }

    /// The counts of queries and replies.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Ends the service: returns when what came until now is answered, or after [`Limits::drain`] (5 s).
    ///
    /// Nothing more is accepted. Queries in the UDP sockets' and the connections' buffers are still read;
    /// those that wait for an upstream are answered from the same address and port, and connections are
    /// closed after their last answer.
    ///
    /// The caller tells the datapath first to hand over no more UDP queries and TCP SYNs. The sockets stay
    /// open for the late answers, with nobody who reads them.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if timeout(self.drain, self.finished.recv()).await.is_err() {
            tracing::warn!("some queries were not answered in time for the end");
        }
    }
}

impl Running {
    /// Gets the answer to a miss, and counts it.
    async fn resolve(&self, miss: Miss, arrival: Arrival) -> Vec<u8> {
        let reply = self.resolver.resolve(miss).await;
        self.tally.answered(arrival.manner, arrival.bytes, &reply);
        self.took(arrival.at, 1);
        reply
    }

    /// Counts the time of so many queries, from their arrival until now.
    fn took(&self, since: Time, queries: u64) {
        let now = self.resolver.clock().now();
        self.tally
            .took(now.nanos().saturating_sub(since.nanos()), queries);
    }

    /// Returns when no more queries shall be read.
    async fn stopped(&mut self) {
        // An error means that the server was dropped.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}
