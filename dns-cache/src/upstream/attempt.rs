//! One attempt to get an answer from one server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dns_cache_common::edns::Edns;
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::types::rcode;
use tokio::time::{Instant, timeout_at};

use super::connection::{Lost, Waiting};
use super::health::Fault;
use super::query::Query;
use super::server::{Carrier, Server};

/// Connections that may turn out to be closed one after the other: servers close idle connections whenever they
/// like (RFC 7766 §6.2.3), and a restart closes all of them.
const TRIES: usize = super::pool::POOL + 1;

/// Queries in a row without an answer in time after which a silent server is ejected. A datagram may be lost.
const SILENT_QUERIES: u32 = 2;
const SILENT_DATAGRAMS: u32 = 3;

/// A query at a server.
#[derive(Debug)]
pub(super) struct Attempt {
    server: Arc<Server>,
    query: Arc<Query>,
    started: Instant,
    stage: Stage,
    tries: usize,
    /// How long the answer may take; known once it has taken an attempt's time.
    time: Option<Duration>,
    /// What fits into a datagram came, and it was not all.
    truncated: Option<Bytes>,
    /// The server refused the query with its OPT record, and is asked without.
    refused_edns: bool,
    by_udp: bool,
    /// There was no connection to be had, and so it is asked over UDP.
    refused_tcp: bool,
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
        let query = match server.health.is_plain() {
            true => Arc::new(query.plain()),
            false => query,
        };
        let by_udp = server.is_asked_over_udp();
        Self {
            server,
            query,
            started: Instant::now(),
            stage: Stage::Fresh,
            tries: 0,
            time: None,
            truncated: None,
            refused_edns: false,
            by_udp,
            refused_tcp: false,
            sent: None,
        }
    }

    /// Whether it waits for a datagram, which is gone as soon as nobody does.
    pub(super) fn is_datagram(&self) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|sent| matches!(sent.carrier, Carrier::Datagram))
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
                    if self.query.has_opt() && refuses_edns(&response) {
                        self.query = Arc::new(self.query.plain());
                        self.refused_edns = true;
                        continue;
                    }
                    if self.refused_edns && !is_error(&response) {
                        self.server.health.learn_plain();
                        self.refused_edns = false;
                    }
                    if matches!(sent.carrier, Carrier::Datagram) && is_truncated(&response) {
                        self.truncated = Some(response);
                        continue;
                    }
                    if self.refused_tcp && matches!(sent.carrier, Carrier::Datagram) {
                        self.server.health.learn_without_tcp();
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
        // The rest of an answer that was truncated over UDP comes by TCP (RFC 7766 §5).
        let by_udp = self.by_udp && self.truncated.is_none();
        let (waiting, carrier) = self.server.send(&self.query, by_udp)?;
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
            Stage::Slow => Some(self.started + self.time()),
            Stage::Overdue => None,
        }
    }

    fn time(&self) -> Duration {
        self.time.unwrap_or(self.server.timings().attempt)
    }

    /// A query lost with its connection is asked again at once, over the next one.
    fn lost(&mut self, lost: Lost) -> Option<Step> {
        self.tries += 1;
        let fault = match lost {
            Lost::Closed if self.tries < TRIES => return None,
            Lost::Closed => Fault::Closed,
            Lost::Busy => Fault::Busy,
            _ => Fault::Unreachable,
        };
        if let Some(step) = self.settle_for_truncated(fault) {
            return Some(step);
        }
        if fault == Fault::Busy {
            self.server.health.noted(fault);
            return Some(Step::Busy);
        }
        if self.falls_back() {
            self.server.health.noted(fault);
            return None;
        }
        self.server.down(fault);
        Some(Step::Failed)
    }

    /// Whether the question is now asked over UDP: the server may be one without TCP.
    fn falls_back(&mut self) -> bool {
        let falls_back = !self.by_udp && self.server.may_be_without_tcp();
        if falls_back {
            (self.by_udp, self.refused_tcp) = (true, true);
        }
        falls_back
    }

    /// What came in a datagram is all that a server without TCP has to say, and no fault of a server that was to be asked
    /// over UDP.
    fn settle_for_truncated(&mut self, fault: Fault) -> Option<Step> {
        let response = self.truncated.take()?;
        self.server.health.noted(fault);
        Some(Step::Answer(response, Arc::clone(&self.server)))
    }

    fn late(mut self, sent: Sent) -> Step {
        let elapsed = self.started.elapsed();
        if self.time.is_none() && elapsed >= self.time() {
            self.time = Some(self.server.time(self.started));
        }
        if elapsed < self.time() {
            self.stage = Stage::Slow;
            self.sent = Some(sent);
            return Step::Slow(self);
        }
        if let Some(step) = self.settle_for_truncated(Fault::Timeout) {
            return step;
        }
        let (server, health) = (&self.server, &self.server.health);
        let mut is_connecting = false;
        match &sent.carrier {
            Carrier::Connection(connection) => {
                is_connecting = connection.is_connecting();
                let is_silent = connection.suspect_if_silent(sent.at);
                // Nothing speaks for it: it never answered, or it does not even accept a new connection.
                let is_new =
                    !health.was_heard(None) || is_connecting && !health.was_heard(Some(sent.at));
                match is_silent && is_new {
                    true => server.down(Fault::Timeout),
                    false => health.late(sent.at, SILENT_QUERIES, server.timings()),
                }
            }
            Carrier::Datagram => health.late(sent.at, SILENT_DATAGRAMS, server.timings()),
        }
        self.stage = Stage::Overdue;
        if !(is_connecting && self.falls_back()) {
            self.sent = Some(sent);
        }
        Step::Overdue(self)
    }
}

/// Whether the server says that it cannot or will not answer.
pub(super) fn is_error(response: &[u8]) -> bool {
    Header::read(response).is_some_and(|header| {
        matches!(
            header.flags.rcode(),
            rcode::SERVFAIL | rcode::REFUSED | rcode::NOTIMP | rcode::FORMERR
        )
    })
}

/// Whether a response is what a server without EDNS says to a query with an OPT record (RFC 6891 §7).
fn refuses_edns(response: &[u8]) -> bool {
    let code = Header::read(response).map(|header| header.flags.rcode());
    matches!(code, Some(rcode::FORMERR | rcode::NOTIMP)) && Edns::find(response).is_none()
}

fn is_truncated(response: &[u8]) -> bool {
    Header::read(response).is_some_and(|header| header.flags.has(Flags::TC))
}
