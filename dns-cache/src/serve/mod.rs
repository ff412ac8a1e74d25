//! Bytes in, bytes out: the listeners of the resolver's namespace.

mod heartbeats;
mod pace;
mod replies;
mod service;
pub(crate) mod tally;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

pub use heartbeats::Heartbeats;

use crate::limits;
use crate::places::Places;
use crate::resolver::{Miss, Resolver, Time};
use service::{Open, Service};
use tally::{Manner, Tally};

/// Sockets made in the resolver's namespace, all non-blocking.
#[derive(Debug, Default)]
pub struct Sockets {
    /// One a listen address and core, bound with `SO_REUSEPORT` to that address and port 53.
    pub udp: Vec<std::net::UdpSocket>,
    /// One a listen address.
    pub tcp: Vec<std::net::TcpListener>,
}

/// A client's TCP connection between two queries.
#[derive(Debug)]
pub struct Connection {
    /// Non-blocking; nothing that was read from it waits for an answer.
    pub stream: std::net::TcpStream,
    /// What was read from it of a query that is not whole yet.
    pub unread: Vec<u8>,
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
    /// Queries of one connection that wait for an upstream; beyond them it is not read for a while.
    pub(crate) misses_per_connection: u32,
    /// How long what a client has sent may stay unread for that, before queries that would wait are turned away.
    pub(crate) hold: Duration,
    /// Bytes of replies on TCP connections that the clients have not taken yet, in all and for one address; a
    /// connection with one more is closed.
    pub(crate) untaken: usize,
    pub(crate) untaken_per_client: usize,
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
            hold: Duration::from_secs(2),
            untaken: 16 * 1024 * 1024,
            untaken_per_client: 4 * 1024 * 1024,
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
    service: service::Sender,
    open: Mutex<Open>,
    finished: mpsc::UnboundedReceiver<Connection>,
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
    /// For bytes of replies that a client has not taken yet.
    room: Arc<Places>,
    service: service::Receiver,
    /// Of the address that this is for.
    address: IpAddr,
    /// Takes connections that are left to a successor. When nobody holds it any more, all is done.
    left: mpsc::UnboundedSender<Connection>,
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
        let (service, receiver) = service::channel();
        let (left, finished) = mpsc::unbounded_channel();
        let this = Self {
            running: Running {
                resolver,
                tally: Arc::default(),
                heartbeats: Arc::new(heartbeats),
                limits,
                room: Arc::new(Places::new(limits.untaken, limits.untaken_per_client)),
                service: receiver,
                address: Ipv4Addr::UNSPECIFIED.into(),
                left,
            },
            places: Arc::new(Places::new(
                limits.connections,
                limits.connections_per_client,
            )),
            service,
            open: Mutex::default(),
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
        let Sockets { udp, tcp } = sockets;
        let udp: Vec<_> = udp.into_iter().map(Arc::new).collect();
        let addresses = self.open().add(&udp, &tcp)?;
        self.service.send_modify(|service| service.add(addresses));
        udp::start(udp, &self.running)?;
        for listener in tcp {
            let slot = SockRef::from(&listener).mark()?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let running = self.running.at(listener.local_addr()?);
            let places = Arc::clone(&self.places);
            tokio::spawn(tcp::listen(listener, slot, running, places));
        }
        Ok(())
    }

    /// Ends the service at these addresses, as [`shutdown`](Self::shutdown) does it for all, and does not wait.
    pub fn leave(&self, addresses: &[IpAddr]) {
        self.open().remove(addresses);
        self.service.send_modify(|service| service.leave(addresses));
    }

    /// The sockets that are served, once more, for a successor.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn sockets(&self) -> io::Result<Sockets> {
        self.open().duplicate()
    }

    /// Goes on with a connection of a predecessor's. One too many is closed, as if it were new.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub fn adopt(&self, connection: Connection) -> io::Result<()> {
        let stream = tokio::net::TcpStream::from_std(connection.stream)?;
        let running = self.running.at(stream.local_addr()?);
        let unread = BytesMut::from(&connection.unread[..]);
        let client = stream.peer_addr()?;
        tcp::start(stream, client, unread, running, &self.places);
        Ok(())
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        // Each change is complete in itself.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.end(Service::nowhere(), |_| {}).await;
    }

    /// Leaves the sockets to a successor, which serves on them already, and the connections that go on, each by
    /// `pass`. Queries that were read are answered; returns when they are, or after [`Limits::drain`].
    pub async fn hand_over(self, pass: impl FnMut(Connection)) {
        self.end(Service::of_successor(), pass).await;
    }

    async fn end(self, service: Service, mut pass: impl FnMut(Connection)) {
        let Self {
            running,
            service: sender,
            open,
            mut finished,
            ..
        } = self;
        let end = Instant::now() + running.limits.drain;
        drop((running, open));
        sender.send_replace(service);
        loop {
            match timeout_at(end, finished.recv()).await {
                Ok(Some(connection)) => pass(connection),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        tracing::warn!("some queries were not answered in time for the end");
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

    /// Returns when no more queries shall be read; says whether a successor reads them.
    async fn stopped(&mut self) -> bool {
        self.service.left(self.address).await
    }
}
