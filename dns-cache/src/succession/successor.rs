//! The old agent's side.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use super::message::{self, Incoming};
use super::{Estate, PATIENCE, Passed, START, Serving};
use crate::control::{self, Response};
use crate::serve::Connection;

/// The agent that is to go on.
#[derive(Debug)]
pub struct Successor {
    incoming: Incoming,
}

impl Successor {
    /// At the other end of a connection by which it asked.
    ///
    /// # Errors
    /// If the connection cannot be made to block.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(START))?;
        let incoming = Incoming::new(stream);
        Ok(Self { incoming })
    }

    /// Says why it gets nothing.
    ///
    /// # Errors
    /// It has ended.
    pub fn refuse(&self, reason: &str) -> io::Result<()> {
        let response = Response::Error(reason.to_owned());
        message::send(self.incoming.stream(), &control::versioned(&response), &[])
    }

    /// Hands everything over, and waits until the successor serves.
    ///
    /// # Errors
    /// It has ended, or takes too long. Then it must be dropped before this agent goes on, and ends by that.
    pub fn leave_to(&mut self, estate: &Estate) -> io::Result<()> {
        let response = Response::HandedOver(estate.manifest());
        let stream = self.incoming.stream();
        message::send(
            stream,
            &control::versioned(&response),
            &estate.descriptors(),
        )?;
        match self.incoming.line()? {
            Some(line) if serde_json::from_slice::<Serving>(&line)?.serving => Ok(()),
            _ => Err(io::Error::other("it has ended")),
        }
    }

    /// Hands over a client's connection.
    ///
    /// # Errors
    /// It has ended.
    pub fn pass(&self, connection: Connection) -> io::Result<()> {
        let Connection { stream, unread } = connection;
        message::send(
            self.incoming.stream(),
            &Passed { unread },
            &[stream.as_fd()],
        )
    }
}
