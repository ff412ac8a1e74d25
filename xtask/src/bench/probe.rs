//! A client that asks one question after the other, with nothing in the way of its clock.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::Netns;

const PATIENCE: Duration = Duration::from_millis(500);
/// A lost query is repeated this often where only the answer counts.
const TRIES: u32 = 10;

/// A UDP client.
#[derive(Debug)]
pub(super) struct Probe {
    socket: UdpSocket,
    buffer: [u8; 4096],
}

impl Probe {
    /// In this namespace, towards this server.
    pub(super) fn new(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let socket = udp(netns, server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            buffer: [0; 4096],
        })
    }

    /// Asks once; `None` is silence.
    pub(super) fn ask(&mut self, query: &[u8]) -> Result<Option<Duration>> {
        match self.answer(query)? {
            Some((time, Verdict::Right)) => Ok(Some(time)),
            Some((_, other)) => bail!("instead of an answer: {other:?}"),
            None => Ok(None),
        }
    }

    /// Asks until there is an answer, whatever it says.
    pub(super) fn rcode(&mut self, query: &[u8]) -> Result<u8> {
        for _ in 0..TRIES {
            match self.answer(query)? {
                Some((_, Verdict::Failure(rcode))) => return Ok(rcode),
                Some(_) => return Ok(0),
                None => {}
            }
        }
        bail!("no answer to {TRIES} queries for the same name")
    }

    fn answer(&mut self, query: &[u8]) -> Result<Option<(Duration, Verdict)>> {
        let start = Instant::now();
        self.socket.send(query).context("sending a query")?;
        loop {
            match self.socket.recv(&mut self.buffer) {
                Ok(length) => {
                    let time = start.elapsed();
                    match verdict(query, &self.buffer[..length]) {
                        // A late answer to an earlier query.
                        Verdict::Foreign => {}
                        verdict => return Ok(Some((time, verdict))),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("receiving an answer"),
            }
        }
    }

    /// Asks until there is an answer.
    pub(super) fn insist(&mut self, query: &[u8]) -> Result<()> {
        for _ in 0..TRIES {
            if self.ask(query)?.is_some() {
                return Ok(());
            }
        }
        bail!("no answer to {TRIES} queries for the same name")
    }
}

/// A UDP socket in this namespace, connected to this server.
pub(super) fn udp(netns: &Netns, server: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = netns
        .run(|| UdpSocket::bind(any))
        .context("opening a UDP socket")?;
    socket.connect(server)?;
    Ok(socket)
}

/// What a message is to a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// No answer to this query.
    Foreign,
    Failure(u8),
}

/// Looks at no more than ID, QR bit and rcode: the tests look at the rest.
pub(super) fn verdict(query: &[u8], answer: &[u8]) -> Verdict {
    match answer {
        [a, b, high, low, ..] if query.starts_with(&[*a, *b]) && high & 0x80 != 0 => {
            match low & 0x0f {
                0 => Verdict::Right,
                rcode => Verdict::Failure(rcode),
            }
        }
        _ => Verdict::Foreign,
    }
}

/// A TCP connection that stays open. A server that closes it between two queries is connected to anew.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    netns: &'a Netns,
    server: SocketAddr,
    stream: TcpStream,
    message: Vec<u8>,
    buffer: [u8; 4096],
}

impl<'a> Connection<'a> {
    pub(super) fn open(netns: &'a Netns, server: SocketAddr) -> Result<Self> {
        Ok(Self {
            stream: connect(netns, server)?,
            netns,
            server,
            message: Vec::new(),
            buffer: [0; 4096],
        })
    }

    /// Asks once; the time on the open connection.
    pub(super) fn ask(&mut self, query: &[u8]) -> Result<Duration> {
        for _ in 0..TRIES {
            if let Ok(time) = self.exchange(query) {
                return Ok(time);
            }
            self.stream = connect(self.netns, self.server)?;
            // The first query on a new connection would be timed with the server's accept.
            let _ = self.exchange(query);
        }
        bail!("the server closes every connection")
    }

    fn exchange(&mut self, query: &[u8]) -> Result<Duration> {
        self.message.clear();
        self.message
            .extend(u16::try_from(query.len())?.to_be_bytes());
        self.message.extend(query);
        let start = Instant::now();
        self.stream.write_all(&self.message)?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => bail!("the server closed the connection"),
                count => filled += count,
            }
            let time = start.elapsed();
            if let [a, b, message @ ..] = &self.buffer[..filled]
                && message.len() >= usize::from(u16::from_be_bytes([*a, *b]))
            {
                return match verdict(query, message) {
                    Verdict::Right => Ok(time),
                    other => bail!("over TCP: {other:?}"),
                };
            }
        }
    }
}

/// An open connection without delay of small messages.
pub(super) fn connect(netns: &Netns, server: SocketAddr) -> Result<TcpStream> {
    let stream = netns
        .run(|| TcpStream::connect_timeout(&server, PATIENCE))
        .with_context(|| format!("connecting to {server}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let query = [0xab, 0xcd, 1, 0, 0, 1];
        assert_eq!(verdict(&query, &[0xab, 0xcd, 0x81, 0x80]), Verdict::Right);
        assert_eq!(
            verdict(&query, &[0xab, 0xcd, 0x81, 0x82]),
            Verdict::Failure(2)
        );
        assert_eq!(verdict(&query, &[0xab, 0xce, 0x81, 0x80]), Verdict::Foreign);
        assert_eq!(verdict(&query, &query), Verdict::Foreign);
        assert_eq!(verdict(&query, &[0xab]), Verdict::Foreign);
    }
}
