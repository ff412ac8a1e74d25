//! The servers of a zone: whom to ask, and whom next.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Attempt, Step, is_error};
use super::exchanges::Exchanged;
use super::health::Fault;
use super::query::Query;
use super::server::Server;
use super::{ServerStatus, Timings, TlsError, Transport, choice};
use crate::config::Upstream;

/// Each server is tried so often before a query fails.
const ROUNDS: usize = 2;
/// A hedge is allowed for so many queries: less than 5 % of all.
const QUERIES_PER_HEDGE: u32 = 20;
/// Hedges that may be saved up.
const MOST_HEDGES: u32 = 10;

/// The servers of a zone.
#[derive(Debug)]
pub struct Group {
    servers: RwLock<Arc<[Arc<Server>]>>,
    transport: ArcSwap<Transport>,
    timings: Timings,
    /// Queries that no hedge was paid with.
    credit: AtomicU32,
    /// Queries that met ejected servers only.
    broken: AtomicU64,
}

/// An error is the answer once so many servers that are well have had nothing better.
const OPINIONS: usize = 2;

/// Attempts under way, each with the place of its server.
type Running = FuturesUnordered<BoxFuture<'static, (usize, Step)>>;

/// Why a group has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The zone has no servers.
    #[error("no servers are known for this zone")]
    NoServers,
    /// Every server refused or closed the connection.
    #[error("no server of this zone can be reached")]
    Unreachable,
    /// Too many queries wait for the servers that can be reached.
    #[error("too many queries wait for the servers of this zone")]
    Busy,
    /// What came was no answer that can be read, and nothing better came.
    #[error("the servers of this zone send what cannot be read")]
    Malformed,
}

/// What is to be done after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another server must be asked.
    Ask,
    /// The same, because one has not answered in time.
    Retry,
    /// Another server may be asked as well.
    Hedge,
    /// An error must be checked with another server.
    Check,
}

impl Group {
    /// A group of servers, not yet connected to.
    #[must_use]
    pub fn new(upstreams: &[Upstream], transport: Transport, timings: Timings) -> Self {
        let group = Self {
            servers: RwLock::new(Arc::new([])),
            transport: ArcSwap::from_pointee(transport),
            timings,
            credit: AtomicU32::new(0),
            broken: AtomicU64::new(0),
        };
        group.set(upstreams);
        group
    }

    /// Replaces the servers. Those that stay keep their connections and what is known of them, whatever place they have
    /// now; queries that are on their way are not touched.
    pub fn set(&self, upstreams: &[Upstream]) {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        let server = |upstream: &Upstream| {
            let mut there = servers.iter();
            match there.find(|server| server.upstream.address == upstream.address) {
                Some(server) if server.upstream == *upstream => Arc::clone(server),
                Some(server) => Arc::new(server.placed(upstream.clone())),
                None => Arc::new(Server::new(
                    upstream.clone(),
                    Transport::clone(&self.transport()),
                    self.timings,
                )),
            }
        };
        *servers = upstreams.iter().map(server).collect();
    }

    /// How the servers are asked.
    pub(crate) fn transport(&self) -> Arc<Transport> {
        self.transport.load_full()
    }

    /// Takes up the authorities of TLS from their file, and says whether they are others than before. Then new
    /// connections are made; queries that are on their way are not touched.
    ///
    /// # Errors
    /// If the file cannot be read; nothing has changed then.
    pub(crate) fn renew_authorities(&self) -> Result<bool, TlsError> {
        let Some(transport) = self.transport().renewed()? else {
            return Ok(false);
        };
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        let anew = |server: &Arc<Server>| Arc::new(server.anew(transport.clone()));
        *servers = servers.iter().map(anew).collect();
        self.transport.store(Arc::new(transport));
        Ok(true)
    }

    /// The servers' state, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers()
            .iter()
            .map(|server| server.status())
            .collect()
    }

    /// What was counted of each server's answers and connections.
    pub(crate) fn exchanged(&self) -> Vec<Exchanged> {
        self.servers()
            .iter()
            .map(|server| server.exchanged())
            .collect()
    }

    /// How long all servers have been ejected and answered nothing; zero if one of them is well.
    pub(crate) fn silence(&self) -> Duration {
        let servers = self.servers();
        let silences = servers.iter().map(|server| server.health.silence());
        silences.min().unwrap_or_default()
    }

    /// How often all servers were ejected when a query came.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Relaxed)
    }

    /// Asks until a server has an answer that `read` takes. The caller sets the deadline.
    ///
    /// Another server is asked when one fails or has not answered in an attempt's time (one that is slow, and not silent, has
    /// [longer](Server::time)), and, within the budget of
    /// hedges, when it takes longer than 95 % of its answers; a late answer of the first is still welcome. An error
    /// from a server (SERVFAIL and the like) is the answer only if another one that is well has none better within an
    /// attempt's time. The rest of the servers, those that are ejected among them, are asked for a better one only now
    /// and then, and the ejected ones waited for only for a moment. If a server has one, that counts against those with
    /// errors, as does what `read` refuses.
    pub async fn ask<T, E: std::fmt::Display>(
        &self,
        query: &Arc<Query>,
        read: impl Fn(&Bytes, SocketAddr) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let servers = self.servers();
        self.probe(&servers, query);
        let is_udp = matches!(**self.transport.load(), Transport::Udp);
        let mut asked = Vec::new();
        // Those that may still answer.
        let mut waiting = Vec::new();
        let mut rounds = 1;
        // An error, and how long something better is waited for.
        let mut second_best: Option<(T, Instant)> = None;
        let mut erring: Vec<Arc<Server>> = Vec::new();
        let mut failure = match servers.is_empty() {
            true => Failure::NoServers,
            false => Failure::Unreachable,
        };
        let mut running = Running::default();
        let mut next = Next::Ask;
        loop {
            let all_asked = asked.len() == servers.len();
            // More of the same would not help.
            let all_busy = failure == Failure::Busy && running.is_empty();
            // Datagrams are repeated where they are.
            let repeats = is_udp && !running.is_empty();
            let again =
                all_asked && rounds < ROUNDS && second_best.is_none() && !all_busy && !repeats;
            if matches!(next, Next::Ask | Next::Retry) && again {
                (asked, rounds) = (Vec::new(), rounds + 1);
            }
            let is_well = |index: &usize| !servers[*index].health.is_ejected();
            let hopes = |waiting: &[usize]| waiting.iter().filter(|index| is_well(index)).count();
            let may_ask = |index: usize| match next {
                Next::Ask | Next::Retry => true,
                Next::Hedge => self.may_hedge(&servers[index]),
                Next::Check if is_well(&index) && erring.len() < OPINIONS => {
                    erring.len() + hopes(&waiting) < OPINIONS
                }
                // One that has come back may know better, but errors alone shall not cost a query to each.
                Next::Check => {
                    hopes(&waiting) == 0 && servers[index].health.claim_check(&self.timings)
                }
            };
            if let Some(index) = choice::choose(&servers, &asked).filter(|index| may_ask(*index)) {
                // Only failures that came at once get into the second round so early: let the servers draw breath.
                let pause = (rounds > 1 && asked.is_empty() && running.is_empty())
                    .then_some(self.timings.pause);
                asked.push(index);
                waiting.push(index);
                if next != Next::Hedge {
                    self.earn();
                }
                if next == Next::Retry {
                    servers[index].health.retries.fetch_add(1, Relaxed);
                }
                let (server, query) = (Arc::clone(&servers[index]), Arc::clone(query));
                running.push(
                    async move {
                        if let Some(pause) = pause {
                            sleep(pause).await;
                        }
                        (index, Attempt::new(server, query).next().await)
                    }
                    .boxed(),
                );
            }
            let step = match &mut second_best {
                None => running.next().await,
                Some((_, end)) => {
                    if hopes(&waiting) == 0 {
                        *end = (*end).min(Instant::now() + self.timings.check);
                    }
                    timeout_at(*end, running.next()).await.ok().flatten()
                }
            };
            let Some((index, step)) = step else {
                see_off(running);
                return second_best.map(|(answer, _)| answer).ok_or(failure);
            };
            if !matches!(step, Step::Slow(_) | Step::Overdue(_)) {
                waiting.retain(|waiting| *waiting != index);
            }
            next = match step {
                Step::Answer(response, server) => match read(&response, server.upstream.address) {
                    Ok(answer) => {
                        if !is_error(&response) {
                            server.health.succeeded();
                            for other in erring {
                                other.outdone();
                            }
                            see_off(running);
                            return Ok(answer);
                        }
                        server.health.erred();
                        erring.push(server);
                        if rounds > 1 {
                            return Ok(answer);
                        }
                        let end = Instant::now() + self.timings.attempt;
                        second_best.get_or_insert((answer, end));
                        Next::Check
                    }
                    Err(error) => {
                        tracing::debug!(server = %server.upstream.address, %error, "a response of no use");
                        server.failed(Fault::Malformed);
                        failure = Failure::Malformed;
                        Next::Ask
                    }
                },
                Step::Failed => Next::Ask,
                Step::Busy => {
                    failure = Failure::Busy;
                    Next::Ask
                }
                Step::Slow(attempt) => {
                    running.push(waited_for(index, attempt));
                    Next::Hedge
                }
                Step::Overdue(attempt) => {
                    running.push(waited_for(index, attempt));
                    Next::Retry
                }
            };
            if next != Next::Hedge && second_best.is_some() {
                next = Next::Check;
            }
        }
    }

    /// Sends a copy of the query to ejected servers whose time for it has come, on the side, so that no client waits
    /// for the outcome. If all are ejected, the query itself is the probe.
    fn probe(&self, servers: &[Arc<Server>], query: &Arc<Query>) {
        let ejected = || servers.iter().filter(|server| server.health.is_ejected());
        let count = ejected().count();
        if count == 0 || count == servers.len() {
            self.broken.fetch_add(u64::from(count > 0), Relaxed);
            return;
        }
        for server in ejected().filter(|server| server.health.claim_probe(&self.timings)) {
            let server = Arc::clone(server);
            let probe = Attempt::new(Arc::clone(&server), Arc::clone(query));
            tokio::spawn(async move {
                bring_to_end(Running::from_iter([waited_for(0, probe)])).await;
                if server.health.is_ejected() {
                    server.health.exchanges.failed_probes.fetch_add(1, Relaxed);
                }
            });
        }
    }

    /// A query was sent that is no hedge.
    fn earn(&self) {
        let most = MOST_HEDGES * QUERIES_PER_HEDGE;
        let _ = self.credit.fetch_update(Relaxed, Relaxed, |credit| {
            (credit < most).then_some(credit + 1)
        });
    }

    /// Whether a hedge may go to this server. An ejected one is none.
    fn may_hedge(&self, server: &Server) -> bool {
        let pay = |credit: u32| credit.checked_sub(QUERIES_PER_HEDGE);
        let may =
            !server.health.is_ejected() && self.credit.fetch_update(Relaxed, Relaxed, pay).is_ok();
        if may {
            server.health.hedges.fetch_add(1, Relaxed);
        }
        may
    }

    /// Leaves no room for another datagram, as long as the value lives.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> impl Sized + use<> {
        let servers = self.servers();
        let all = servers.iter().map(|server| {
            let sent = (0..super::datagram::MOST).map(|_| server.health.sent());
            sent.collect::<Vec<_>>()
        });
        all.collect::<Vec<_>>()
    }

    fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn waited_for(index: usize, attempt: Attempt) -> BoxFuture<'static, (usize, Step)> {
    attempt.next().map(move |step| (index, step)).boxed()
}

/// Attempts that nobody waits for any more are brought to their end all the same: it says how their servers are.
fn see_off(running: Running) {
    if !running.is_empty() {
        tokio::spawn(bring_to_end(running));
    }
}

async fn bring_to_end(mut running: Running) {
    while let Some((index, step)) = running.next().await {
        match step {
            Step::Answer(response, server) if is_error(&response) => server.health.erred(),
            Step::Answer(_, server) => server.health.succeeded(),
            Step::Failed | Step::Busy => {}
            Step::Overdue(attempt) if attempt.is_datagram() => {}
            Step::Slow(attempt) | Step::Overdue(attempt) => {
                running.push(waited_for(index, attempt));
            }
        }
    }
}
