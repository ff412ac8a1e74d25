//! The successor's side.

use std::io;
use std::path::Path;

use super::message::{self, Incoming};
use super::{END, Estate, PATIENCE, PROTOCOL, Passed, Word, own_netns};
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
    /// Whether it can be asked.
    answers: bool,
}

/// Asks it whether it still waits.
#[derive(Debug)]
pub struct Waiting {
    /// Of the same connection. Nobody says anything but the answer until the successor serves.
    incoming: Option<Incoming>,
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
        let answers = manifest.says_whether_it_waits;
        Ok((Self { incoming, answers }, estate))
    }

    /// By which it is asked whether it still waits.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn waiting(&self) -> io::Result<Waiting> {
        let stream = self.answers.then(|| self.incoming.stream().try_clone());
        let incoming = stream.transpose()?.map(Incoming::new);
        Ok(Waiting { incoming })
    }

    /// Tells it to leave the sockets; what comes back are its clients' connections, until it has ended.
    ///
    /// # Errors
    /// It has given up waiting, and serves.
    pub fn leave(self) -> io::Result<impl Iterator<Item = Connection> + Send> {
        self.waiting()?.ask()?;
        let Self { mut incoming, .. } = self;
        message::send(incoming.stream(), &Word::Serving(true), &[])?;
        // It ends in its own time, within the drain of its queries.
        incoming.stream().set_read_timeout(Some(END))?;
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

impl Waiting {
    /// From here on it waits for as long as at first; an agent that cannot be asked, from its first answer on.
    ///
    /// # Errors
    /// It has given up waiting, and serves; or it is gone.
    pub fn ask(&mut self) -> io::Result<()> {
        let Some(incoming) = &mut self.incoming else {
            return Ok(());
        };
        let asked = message::send(incoming.stream(), &Word::Waiting(true), &[]);
        match asked.and_then(|()| incoming.line())? {
            Some(line) if matches!(serde_json::from_slice(&line)?, Word::Waiting(true)) => Ok(()),
            _ => Err(io::Error::other("it does not wait any more")),
        }
    }
}
