//! Lines of JSON, with descriptors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use crate::sys::{self, MOST_DESCRIPTORS};

/// Nothing that is sent is longer: a message of DNS, each byte as a number of up to three digits and a comma.
const LONGEST: usize = 512 * 1024;
const CHUNK: usize = 16 * 1024;

/// Sends a line. Its descriptors go before it, each batch with a space, which means nothing to JSON.
pub(super) fn send(
    stream: &UnixStream,
    what: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    for batch in descriptors.chunks(MOST_DESCRIPTORS) {
        sys::send_with(stream.as_fd(), b" ", batch)?;
    }
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut rest = &line[..];
    while !rest.is_empty() {
        let sent = sys::send_with(stream.as_fd(), rest, &[])?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// What comes over a connection.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: UnixStream,
    bytes: Vec<u8>,
    /// Bytes of two messages may come together, and with them the descriptors of the later one.
    descriptors: VecDeque<OwnedFd>,
}

impl Incoming {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The next line; `None` at the end.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
            }
            if self.bytes.len() > LONGEST {
                return Err(io::Error::other("a line without an end"));
            }
            let start = self.bytes.len();
            self.bytes.resize(start + CHUNK, 0);
            let (fd, room) = (self.stream.as_fd(), &mut self.bytes[start..]);
            let received = sys::receive_with(fd, room, &mut self.descriptors);
            let count = received.as_ref().map_or(0, |count| *count);
            self.bytes.truncate(start + count);
            match received {
                Ok(0) => return Ok(None),
                // So ends a wait with a time-out when the process was stopped and goes on (signal(7)).
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// The descriptors of the last line, of which it says how many there are.
    pub(super) fn descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if self.descriptors.len() < count {
            return Err(io::Error::other("descriptors are missing"));
        }
        Ok(self.descriptors.drain(..count).collect())
    }
}
