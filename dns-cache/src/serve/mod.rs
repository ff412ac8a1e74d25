//! Bytes in, bytes out: the listeners of the resolver's namespace.

mod heartbeats;
pub(crate) mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use heartbeats::Heartbeats;

use crate::limits;
use crate::places::Places;
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
    running: Running,
    places: Arc<Places>,
    served: watch::Sender<Vec<IpAddr>>,
    finished: mpsc::Receiver<()>,
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
    heartbeats: Arc<Heartbeats>,
    limits: Limits,
    /// The addresses at which queries are read.
    served: watch::Receiver<Vec<IpAddr>>,
    /// Which of them this is for.
    address: IpAddr,
    _alive: mpsc::Sender<()>,
}

impl Server {
    /// Serves on sockets; must be called within a tokio runtime with I/O and time.
    pub fn start(
        sockets: Sockets,
        heartbeats: Heartbeats,
        resolver: Arc<Resolver>,
    ) -> Result<Self, Error> {
        let limits = Limits {
            connections: connections(limits::open_files()),
            ..Limits::default()
        };
        Self::with(sockets, heartbeats, resolver, limits)
    }

    pub(crate) fn with(
        sockets: Sockets,
        heartbeats: Heartbeats,
        resolver: Arc<Resolver>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let (served, receiver) = watch::channel(Vec::new());
        let (alive, finished) = mpsc::channel(1);
        let this = Self {
            running: Running {
                resolver,
                tally: Arc::default(),
                heartbeats: Arc::new(heartbeats),
                limits,
                served: receiver,
                address: Ipv4Addr::UNSPECIFIED.into(),
                _alive: alive,
            },
            places: Arc::new(Places::new(
                limits.connections,
                limits.connections_per_client,
            )),
            served,
            finished,
        };
        this.listen(sockets)?;
        Ok(this)
    }

    /// Serves on further sockets; must be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If a socket cannot be watched, or a thread not be started.
    pub fn listen(&self, sockets: Sockets) -> Result<(), Error> {
        let udp = sockets.udp.iter().map(std::net::UdpSocket::local_addr);
        let tcp = sockets.tcp.iter().map(std::net::TcpListener::local_addr);
        let addresses = udp.chain(tcp).collect::<io::Result<Vec<_>>>()?;
        self.served
            .send_modify(|served| served.extend(addresses.iter().map(SocketAddr::ip)));
        udp::start(sockets.udp, &self.running)?;
        for listener in sockets.tcp {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let running = self.running.at(listener.local_addr()?);
            tokio::spawn(tcp::listen(listener, running, Arc::clone(&self.places)));
        }
        Ok(())
    }

    /// Ends the service at these addresses, as [`shutdown`](Self::shutdown) does it for all, and does not wait.
    pub fn leave(&self, addresses: &[IpAddr]) {
        self.served
            .send_modify(|served| served.retain(|address| !addresses.contains(address)));
    }

    /// The counts of queries and replies.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.running.tally
    }

    /// Ends the service: returns when what came until now is answered, or after [`Limits::drain`] (5 s).
    ///
    /// Nothing more is accepted. Queries in the UDP sockets' and the connections' buffers are still read;
    /// those that wait for an upstream are answered from the same address and port, and connections are
    /// closed after their last answer.
    ///
    /// The caller tells the datapath first to hand over no more UDP queries and TCP SYNs. The sockets stay
    /// open for the late answers, with nobody who reads them.
    pub async fn shutdown(self) {
        let Self {
            running,
            served,
            mut finished,
            ..
        } = self;
        let drain = running.limits.drain;
        drop(running);
        served.send_replace(Vec::new());
        if timeout(drain, finished.recv()).await.is_err() {
            tracing::warn!("some queries were not answered in time for the end");
        }
    }
}

impl Arrival {
    /// Of a query of so many bytes that came at that moment, in that manner.
    fn late(at: Time, manner: Manner, bytes: usize) -> Self {
        let manner = Manner {
            forwarded: true,
            ..manner
        };
        Self { at, manner, bytes }
    }
}

impl Running {
    /// The same for a socket at this address.
    fn at(&self, address: SocketAddr) -> Self {
        Self {
            address: address.ip(),
            ..self.clone()
        }
    }

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
        let address = self.address;
        let _ = self
            .served
            .wait_for(|served| !served.contains(&address))
            .await;
    }
}
