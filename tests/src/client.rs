//! A DNS client in a namespace. It checks what a stub resolver checks, and says what was wrong.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::patience::slowness;
use crate::raw::Datagram;
use crate::wire::{Message, Query, flag, frame, read_frame};

/// How a query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP; the kernel drops what does not come from the server.
    Connected,
    /// UDP; the client looks where the answer came from.
    Unconnected,
    /// TCP, one connection a query.
    Tcp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connected, Self::Unconnected, Self::Tcp];
}

/// Why a lookup has no answer.
#[derive(Debug)]
pub enum Failure {
    /// Silence.
    Timeout(Duration),
    /// An answer from somewhere else.
    WrongSource(SocketAddr),
    /// An answer that is not the question's.
    Mismatch(String),
    /// The socket's own word: refused, reset, unreachable.
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::WrongSource(source) => write!(f, "an answer from {source}, which was not asked"),
            Self::Mismatch(what) => write!(f, "an answer that is not the question's: {what}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// An answer that passed the checks.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The message.
    pub message: Message,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// From the first packet sent to the last one received.
    pub time: Duration,
}

/// A client in a namespace.
#[derive(Debug, Clone)]
pub struct Client {
    netns: Arc<Netns>,
    server: SocketAddr,
    timeout: Duration,
    address: Option<IpAddr>,
    port: u16,
    resets: bool,
}

impl Client {
    /// A client that asks this server and waits for two seconds at most; longer where all is slow.
    #[must_use]
    pub fn new(netns: Arc<Netns>, server: SocketAddr) -> Self {
        Self {
            netns,
            server,
            timeout: Duration::from_secs(2) * slowness(),
            address: None,
            port: 0,
            resets: false,
        }
    }

    /// It closes connections by a reset: nothing more is sent on them.
    #[must_use]
    pub const fn resetting(mut self) -> Self {
        self.resets = true;
        self
    }

    /// With another patience; more of it where all is slow.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout * slowness();
        self
    }

    /// With another server.
    #[must_use]
    pub const fn server(mut self, server: SocketAddr) -> Self {
        self.server = server;
        self
    }

    /// Always from this address, which the namespace has.
    #[must_use]
    pub const fn source_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Always from this source port (UDP).
    #[must_use]
    pub const fn source_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Where it lives.
    #[must_use]
    pub const fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// Whom it asks.
    #[must_use]
    pub const fn server_address(&self) -> SocketAddr {
        self.server
    }

    /// Asks once.
    pub fn ask(&self, transport: Transport, query: &Query) -> Result<Reply, Failure> {
        let (bytes, time) = self.exchange(transport, &query.to_bytes())?;
        let message = check(&bytes, query)?;
        Ok(Reply {
            message,
            bytes,
            time,
        })
    }

    /// Asks once over a connected UDP socket; panics without an answer.
    #[track_caller]
    #[must_use]
    pub fn lookup(&self, name: &str, rtype: u16) -> Message {
        let reply = self.ask(Transport::Connected, &Query::new(name, rtype));
        reply
            .or_panic(format_args!(
                "asking {} for {name}, type {rtype}",
                self.server
            ))
            .message
    }

    /// Sends bytes, whatever they are, and returns what comes back.
    pub fn exchange(
        &self,
        transport: Transport,
        query: &[u8],
    ) -> Result<(Vec<u8>, Duration), Failure> {
        match transport {
            Transport::Connected => self.udp(true)?.exchange(query),
            Transport::Unconnected => self.udp(false)?.exchange(query),
            Transport::Tcp => {
                let start = Instant::now();
                let mut session = self.tcp()?;
                session.send(query)?;
                Ok((session.receive()?, start.elapsed()))
            }
        }
    }

    /// A UDP socket to keep.
    pub fn udp(&self, connected: bool) -> Result<Udp, Failure> {
        let any: IpAddr = if self.server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let bound = (self.address.unwrap_or(any), self.port);
        let socket = self
            .netns
            .run(|| UdpSocket::bind(bound))
            .map_err(Failure::Io)?;
        socket
            .set_read_timeout(Some(self.timeout))
            .map_err(Failure::Io)?;
        if connected {
            socket.connect(self.server).map_err(Failure::Io)?;
        }
        Ok(Udp {
            socket,
            connected,
            server: self.server,
            timeout: self.timeout,
        })
    }

    /// A TCP connection to keep.
    pub fn tcp(&self) -> Result<Tcp, Failure> {
        let socket = self
            .netns
            .run(|| Socket::new(Domain::for_address(self.server), Type::STREAM, None))
            .map_err(Failure::Io)?;
        if let Some(address) = self.address {
            socket
                .bind(&SocketAddr::new(address, 0).into())
                .map_err(Failure::Io)?;
        }
        if self.resets {
            let at_once = Some(Duration::ZERO);
            socket.set_linger(at_once).map_err(Failure::Io)?;
        }
        match socket.connect_timeout(&self.server.into(), self.timeout) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Failure::Timeout(self.timeout));
            }
            result => result.map_err(Failure::Io)?,
        }
        let stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(self.timeout))
            .map_err(Failure::Io)?;
        stream.set_nodelay(true).map_err(Failure::Io)?;
        Ok(Tcp {
            stream,
            timeout: self.timeout,
        })
    }
}

/// A UDP socket in a namespace.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    connected: bool,
    server: SocketAddr,
    timeout: Duration,
}

impl Udp {
    /// Asks once.
    pub fn ask(&self, query: &Query) -> Result<Reply, Failure> {
        let (bytes, time) = self.exchange(&query.to_bytes())?;
        let message = check(&bytes, query)?;
        Ok(Reply {
            message,
            bytes,
            time,
        })
    }

    /// Sends without waiting.
    pub fn send(&self, query: &[u8]) -> Result<(), Failure> {
        let sent = if self.connected {
            self.socket.send(query)
        } else {
            self.socket.send_to(query, self.server)
        };
        sent.map(drop).map_err(Failure::Io)
    }

    /// The next datagram, which must come from the server.
    pub fn receive(&self) -> Result<Vec<u8>, Failure> {
        let mut buffer = vec![0; 65_535];
        let received = loop {
            match self.socket.recv_from(&mut buffer) {
                // A wait with a time-out is not taken up again after a signal (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let (length, source) = received.map_err(|error| timed(error, self.timeout))?;
        if source != self.server {
            return Err(Failure::WrongSource(source));
        }
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The query, under another ID if it would be one that the kernel leaves to the resolver
    /// ([`Datagram::is_ambiguous`]). Of a connected socket.
    #[must_use]
    pub fn unambiguous(&self, query: Query) -> Query {
        let datagram = Datagram {
            source: self.socket.local_addr().or_panic("asking for an address"),
            destination: self.server,
            payload: query.to_bytes(),
        };
        match datagram.is_ambiguous() {
            true => {
                let id = query.id ^ 1;
                query.id(id)
            }
            false => query,
        }
    }

    /// The port that it sends from.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket
            .local_addr()
            .or_panic("asking a socket for its address")
            .port()
    }

    /// Waits this long for an answer from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.socket
            .set_read_timeout(Some(timeout))
            .or_panic("setting a time-out");
    }

    fn exchange(&self, query: &[u8]) -> Result<(Vec<u8>, Duration), Failure> {
        let start = Instant::now();
        self.send(query)?;
        Ok((self.receive()?, start.elapsed()))
    }
}

/// A TCP connection in a namespace.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    timeout: Duration,
}

impl Tcp {
    /// Asks once.
    pub fn ask(&mut self, query: &Query) -> Result<Reply, Failure> {
        let start = Instant::now();
        self.send(&query.to_bytes())?;
        let bytes = self.receive()?;
        let time = start.elapsed();
        let message = check(&bytes, query)?;
        Ok(Reply {
            message,
            bytes,
            time,
        })
    }

    /// Sends one message in one segment.
    pub fn send(&mut self, query: &[u8]) -> Result<(), Failure> {
        self.send_raw(&frame(query))
    }

    /// Sends bytes as they are, the length prefix among them.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream
            .write_all(bytes)
            .map_err(|error| timed(error, self.timeout))
    }

    /// The next message.
    pub fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        read_frame(&mut self.stream).map_err(|error| timed(error, self.timeout))
    }
}

/// Whether this is the answer to that query; the message.
pub fn check(bytes: &[u8], query: &Query) -> Result<Message, Failure> {
    let wrong = |what: String| Err(Failure::Mismatch(what));
    let Some(message) = Message::read(bytes) else {
        return wrong(format!(
            "{} bytes that are no message: {bytes:02x?}",
            bytes.len()
        ));
    };
    if message.id != query.id {
        return wrong(format!(
            "ID {:#06x} instead of {:#06x}",
            message.id, query.id
        ));
    }
    if !message.has(flag::QR) {
        return wrong("a query".to_owned());
    }
    if message.question != query.question() {
        return wrong(format!(
            "the question {:02x?} instead of {:02x?}",
            message.question,
            query.question()
        ));
    }
    if (message.flags ^ query.flags) & flag::RD != 0 {
        return wrong("another RD bit".to_owned());
    }
    Ok(message)
}

fn timed(error: io::Error, timeout: Duration) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Timeout(timeout),
        _ => Failure::Io(error),
    }
}
