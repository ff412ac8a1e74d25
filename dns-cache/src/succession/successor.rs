//! The old agent's side.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use super::message::{self, Incoming};
use super::{Estate, PATIENCE, Passed, START, Word};
use crate::control::{self, Response};
use crate::serve::Connection;

/// Ends a conversation from another thread.
#[derive(Debug)]
pub struct HangUp(UnixStream);

impl HangUp {
    /// The successor hears of it when it asks the next time.
    ///
    /// # Errors
    /// It has ended the conversation.
    pub fn now(self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Both)
    }
}

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

    /// By which [`Self::leave_to`] is cut short.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn hang_up(&self) -> io::Result<HangUp> {
        self.incoming.stream().try_clone().map(HangUp)
    }

    /// Hands everything over, and waits until the successor serves.
    ///
    /// # Errors
    /// It has ended, or takes too long for its next word. Then it must be dropped before this agent goes on, and ends by that.
    pub fn leave_to(&mut self, estate: &Estate) -> io::Result<()> {
        let response = Response::HandedOver(estate.manifest());
        let stream = self.incoming.stream();
        message::send(
            stream,
            &control::versioned(&response),
            &estate.descriptors(),
        )?;
        while let Some(line) = self.incoming.line()? {
            match serde_json::from_slice(&line)? {
                Word::Serving(_) => return Ok(()),
                waiting @ Word::Waiting(_) => message::send(self.incoming.stream(), &waiting, &[])?,
            }
        }
        Err(io::Error::other("it has ended"))
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
