//! The servers of a zone: whom to ask, and whom next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use dns_cache_common::header::Header;
use dns_cache_common::types::rcode;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::query::Query;
use super::server::{Attempt, Server};
use super::{ServerStatus, Timings};

/// Each server is tried so often before a query fails.
const ROUNDS: usize = 2;

/// The servers of a zone.
#[derive(Debug)]
pub struct Group {
    servers: Vec<Arc<Server>>,
    timings: Timings,
    turn: AtomicUsize,
}

/// Why a group has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The zone has no servers.
    #[error("no servers are known for this zone")]
    NoServers,
    /// Every server refused or closed the connection.
    #[error("no server of this zone can be reached")]
    Unreachable,
}

impl Group {
    /// A group of servers, not yet connected to.
    #[must_use]
    pub fn new(addresses: &[SocketAddr], timings: Timings) -> Self {
        let server = |address: &SocketAddr| Arc::new(Server::new(*address, timings));
        Self {
            servers: addresses.iter().map(server).collect(),
            timings,
            turn: AtomicUsize::new(0),
        }
    }

    /// The servers' state, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers.iter().map(|server| server.status()).collect()
    }

    /// Asks until a server answers. The caller sets the deadline.
    ///
    /// The next server is asked when one fails, or has not answered within an attempt's time; a late answer
    /// of the first is still welcome. An error from a server (SERVFAIL and the like) is the answer only if no
    /// other reliable server has a better one.
    pub async fn ask(&self, query: &Arc<Query>) -> Result<Bytes, Failure> {
        let order = self.order(query);
        let mut next = 0;
        let mut second_best = None;
        let mut running: FuturesUnordered<BoxFuture<'_, Attempt>> = FuturesUnordered::new();
        let mut start = true;
        loop {
            if start && next < order.len() * ROUNDS {
                let server = order[next % order.len()];
                // Only failures that came at once get here so early: let the servers draw breath.
                let pause =
                    (next == order.len() && running.is_empty()).then_some(self.timings.pause);
                running.push(
                    async move {
                        if let Some(pause) = pause {
                            sleep(pause).await;
                        }
                        server.ask(query).await
                    }
                    .boxed(),
                );
                next += 1;
            }
            let Some(attempt) = running.next().await else {
                return second_best.ok_or(match order.is_empty() {
                    true => Failure::NoServers,
                    false => Failure::Unreachable,
                });
            };
            start = match attempt {
                Attempt::Answer(response) if is_error(&response) => {
                    second_best = Some(response);
                    // Worth another server's opinion, but not a wait for one that may be dead.
                    if next >= order.len() || order[next].health.is_suspect() {
                        return second_best.ok_or(Failure::Unreachable);
                    }
                    true
                }
                Attempt::Answer(response) => return Ok(response),
                Attempt::Slow(_) | Attempt::Failed if second_best.is_some() => {
                    return second_best.ok_or(Failure::Unreachable);
                }
                Attempt::Slow(late) => {
                    running.push(late.wait().boxed());
                    true
                }
                Attempt::Failed => true,
            };
        }
    }

    /// All servers, in turn, those under suspicion last. A suspect whose time has come gets a copy of the
    /// query on the side, so that no client waits for the outcome.
    fn order(&self, query: &Arc<Query>) -> Vec<&Arc<Server>> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let count = self.servers.len();
        let (mut order, suspects): (Vec<_>, Vec<_>) = (0..count)
            .map(|i| &self.servers[(turn.wrapping_add(i)) % count])
            .partition(|server| !server.health.is_suspect());
        if !order.is_empty() {
            for server in &suspects {
                if server.health.claim_probe(self.timings.suspicion) {
                    let (server, query) = (Arc::clone(server), Arc::clone(query));
                    tokio::spawn(async move { server.ask(&query).await });
                }
            }
        }
        order.extend(suspects);
        order
    }
}

/// Whether the server says that it cannot or will not answer.
fn is_error(response: &[u8]) -> bool {
    Header::read(response).is_some_and(|header| {
        matches!(
            header.flags.rcode(),
            rcode::SERVFAIL | rcode::REFUSED | rcode::NOTIMP | rcode::FORMERR
        )
    })
}
