//! The successor's side.

use std::io;
use std::path::Path;

use super::message::{self, Incoming};
use super::{Estate, PATIENCE, PROTOCOL, Passed, START, Serving, own_netns};
use crate::control::{self, ClientError, Command, Response};
use crate::serve::Connection;

/// Why an agent does not hand over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It says so, or says nothing that is understood.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// It is another node's: what it has is of no use here.
    #[error("it serves another network namespace")]
    OtherNode,
    /// It is gone, or silent, or what it sent is not whole.
    #[error("the conversation with it broke off: {0}")]
    Io(#[from] io::Error),
}

/// The agent that hands over, which still serves.
#[derive(Debug)]
pub struct Predecessor {
    incoming: Incoming,
}

impl Predecessor {
    /// Asks the agent with this state directory for all that it has. It goes on as before if the result is dropped.
    ///
    /// # Errors
    /// If it does not understand, is busy with a start or its end, or does not answer.
    pub fn ask(state_dir: &Path) -> Result<(Self, Estate), Error> {
        let stream = control::connect(state_dir, PATIENCE)?;
        let mut incoming = Incoming::new(stream);
        let request = Command::HandOver { protocol: PROTOCOL };
        message::send(incoming.stream(), &control::versioned(&request), &[])?;
        let line = incoming.line();
        let line = line.map_err(|error| ClientError::of(state_dir, PATIENCE, error))?;
        let manifest = match control::read_response(state_dir, &line.unwrap_or_default())? {
            Response::HandedOver(manifest) => manifest,
            other => return Err(ClientError::beside_the_point(state_dir, &other).into()),
        };
        if manifest.node_netns != own_netns()? {
            return Err(Error::OtherNode);
        }
        let descriptors = incoming.descriptors(manifest.count())?;
        let estate = manifest.estate(descriptors)?;
        Ok((Self { incoming }, estate))
    }

    /// Tells it to leave the sockets; what comes back are its clients' connections, until it has ended.
    ///
    /// # Errors
    /// It has given up waiting, and serves.
    pub fn leave(self) -> io::Result<impl Iterator<Item = Connection> + Send> {
        let Self { mut incoming } = self;
        message::send(incoming.stream(), &Serving { serving: true }, &[])?;
        // It ends in its own time, within the drain of its queries.
        incoming.stream().set_read_timeout(Some(START))?;
        let mut next = move || -> io::Result<Option<Connection>> {
            let Some(line) = incoming.line()? else {
                return Ok(None);
            };
            let Passed { unread } = serde_json::from_slice(&line)?;
            let stream = incoming.descriptors(1)?.remove(0).into();
            Ok(Some(Connection { stream, unread }))
        };
        Ok(std::iter::from_fn(move || {
            next().unwrap_or_else(|error| {
                tracing::warn!(%error, "the agent before this one broke off; its clients' TCP connections end");
                None
            })
        }))
    }
}
