//! The replies on a TCP connection: one after the other, and no more than there is room for.

use std::io;
use std::net::{IpAddr, Shutdown};

use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Running;

/// The sending side of a connection, which its reader shares with the queries that wait for upstreams.
pub(super) struct Replies {
    stream: OwnedWriteHalf,
    client: IpAddr,
    running: Running,
    /// Of whoever writes.
    turn: Mutex<()>,
}

impl Replies {
    pub(super) fn new(stream: OwnedWriteHalf, client: IpAddr, running: Running) -> Self {
        Self {
            stream,
            client,
            running,
            turn: Mutex::default(),
        }
    }

    /// Sends whole replies, each behind its length. They take up room until the client has taken them.
    ///
    /// # Errors
    /// If the client does not take them in time ([`super::Limits::idle`]), or takes so little that there is no room
    /// for them. The connection has ended then.
    pub(super) async fn send(&self, replies: &[u8]) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        let Some(_room) = self.running.room.take_many(self.client, replies.len()) else {
            self.running.resolver.counters().tcp_overflows.add(1);
            return Err(self.end(io::ErrorKind::OutOfMemory.into()));
        };
        let end = Instant::now() + self.running.limits.idle;
        let _turn = timeout_at(end, self.turn.lock())
            .await
            .map_err(|late| self.end(late.into()))?;
        timeout_at(end, self.write(replies))
            .await
            .unwrap_or_else(|late| Err(late.into()))
            .map_err(|error| self.end(error))
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the connection: the reader is told so by the end of its stream. Nothing follows what may be half a reply.
    fn end(&self, error: io::Error) -> io::Error {
        // The client may have ended it before.
        let _ = SockRef::from(self.stream.as_ref()).shutdown(Shutdown::Both);
        error
    }

    pub(super) fn into_stream(self) -> OwnedWriteHalf {
        self.stream
    }
}
