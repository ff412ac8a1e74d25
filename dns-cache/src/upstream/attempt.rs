//! One attempt to get an answer from one server.

use std::sync::Arc;

use bytes::Bytes;
use dns_cache_common::header::{Flags, Header};
use tokio::time::{Instant, timeout_at};

use super::connection::{Lost, Waiting};
use super::health::Fault;
use super::query::Query;
use super::server::{Carrier, Server};

/// Connections that may turn out to be closed one after the other: servers close idle connections whenever they
/// like (RFC 7766 §6.2.3), and a restart closes all of them.
const TRIES: usize = super::pool::POOL + 1;

/// A query at a server.
#[derive(Debug)]
pub(super) struct Attempt {
    server: Arc<Server>,
    query: Arc<Query>,
    started: Instant,
    stage: Stage,
    tries: usize,
    /// What fits into a datagram came, and it was not all.
    truncated: bool,
    sent: Option<Sent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh,
    Slow,
    Overdue,
}

/// A query on its way.
#[derive(Debug)]
struct Sent {
    at: Instant,
    waiting: Waiting,
    /// Dropping the last reference to a connection would close it.
    carrier: Carrier,
}

/// Where an attempt stands.
#[derive(Debug)]
pub(super) enum Step {
    /// The server answered.
    Answer(Bytes, Arc<Server>),
    /// It did not, and will not.
    Failed,
    /// Too many queries wait for it already, which is no fault of its own.
    Busy,
    /// It takes longer than nearly all of its answers: another server may be asked as well.
    Slow(Attempt),
    /// It did not answer in time, or not to the question: another server must be asked. The answer is still
    /// welcome.
    Overdue(Attempt),
}

impl Attempt {
    pub(super) fn new(server: Arc<Server>, query: Arc<Query>) -> Self {
        Self {
            server,
            query,
            started: Instant::now(),
            stage: Stage::Fresh,
            tries: 0,
            truncated: false,
            sent: None,
        }
    }

    /// Asks, or waits on.
    pub(super) async fn next(mut self) -> Step {
        loop {
            let mut sent = match self.sent.take().map_or_else(|| self.send(), Ok) {
                Ok(sent) => sent,
                Err(lost) => match self.lost(lost) {
                    Some(step) => return step,
                    None => continue,
                },
            };
            let end = self.end_of_stage();
            let outcome = match end {
                Some(end) => timeout_at(end, &mut sent.waiting).await,
                None => Ok((&mut sent.waiting).await),
            };
            let lost = match outcome {
                Ok(Ok(Ok(response))) => {
                    if matches!(sent.carrier, Carrier::Datagram) && is_truncated(&response) {
                        self.truncated = true;
                        continue;
                    }
                    return Step::Answer(response, self.server);
                }
                Ok(Ok(Err(Lost::Mismatched(waiting)))) => {
                    self.server.failed(Fault::Mismatched);
                    self.stage = Stage::Overdue;
                    self.sent = Some(Sent { waiting, ..sent });
                    return Step::Overdue(self);
                }
                Ok(Ok(Err(lost))) => lost,
                Ok(Err(_)) => Lost::Closed,
                Err(_) => return self.late(sent),
            };
            if let Some(step) = self.lost(lost) {
                return step;
            }
        }
    }

    fn send(&self) -> Result<Sent, Lost> {
        let (waiting, carrier) = self.server.send(&self.query, self.truncated)?;
        Ok(Sent {
            // Not before: a new connection has been heard of by now.
            at: Instant::now(),
            waiting,
            carrier,
        })
    }

    fn end_of_stage(&self) -> Option<Instant> {
        match self.stage {
            Stage::Fresh => Some(self.started + self.server.patience()),
            Stage::Slow => Some(self.started + self.server.timings().attempt),
            Stage::Overdue => None,
        }
    }

    /// A query lost with its connection is asked again at once, over the next one.
    fn lost(&mut self, lost: Lost) -> Option<Step> {
        self.tries += 1;
        match lost {
            Lost::Busy => {
                self.server.health.busy();
                return Some(Step::Busy);
            }
            Lost::Closed if self.tries < TRIES => return None,
            Lost::Closed => self.server.down(Fault::Closed),
            _ => self.server.down(Fault::Unreachable),
        }
        Some(Step::Failed)
    }

    fn late(mut self, sent: Sent) -> Step {
        let overdue = self.started.elapsed() >= self.server.timings().attempt;
        if !overdue {
            self.stage = Stage::Slow;
            self.sent = Some(sent);
            return Step::Slow(self);
        }
        match &sent.carrier {
            Carrier::Connection(connection) if connection.suspect_if_silent(sent.at) => {
                self.server.down(Fault::Timeout);
            }
            // A server that answers others at the same time is not dead, only slow on this; a datagram may be lost.
            _ => self.server.failed(Fault::Timeout),
        }
        self.stage = Stage::Overdue;
        self.sent = Some(sent);
        Step::Overdue(self)
    }
}

fn is_truncated(response: &[u8]) -> bool {
    Header::read(response).is_some_and(|header| header.flags.has(Flags::TC))
}
