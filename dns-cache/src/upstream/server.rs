//! One server: its connections, and an attempt to get an answer from it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Lost, Waiting};
use super::health::Health;
use super::home::Home;
use super::query::Query;
use super::{ServerStatus, Timings};

/// Connections that take new queries.
const POOL: usize = 8;
/// With so many queries in flight on a connection another one is opened.
const SPREAD: usize = 64;
/// All connections, those under suspicion included.
const MAX_CONNECTIONS: usize = 12;

/// A server of a zone.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) health: Arc<Health>,
    timings: Timings,
    pool: Mutex<Vec<Arc<Connection>>>,
}

/// How an attempt ended, or where it stands.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The server answered.
    Answer(Bytes),
    /// It did not, and will not.
    Failed,
    /// It has not so far; the answer may still come.
    Slow(Late),
}

/// An answer that is late.
#[derive(Debug)]
pub(super) struct Late {
    waiting: Waiting,
    /// Dropping the last reference would close it.
    _connection: Arc<Connection>,
}

impl Late {
    /// The answer, if it comes at all.
    pub(super) async fn wait(self) -> Attempt {
        match self.waiting.await {
            Ok(Ok(response)) => Attempt::Answer(response),
            _ => Attempt::Failed,
        }
    }
}

impl Server {
    pub(super) fn new(address: SocketAddr, timings: Timings) -> Self {
        Self {
            address,
            health: Arc::default(),
            timings,
            pool: Mutex::default(),
        }
    }

    /// Asks the server. When a connection turns out to be closed, the next one is tried at once: servers
    /// close idle connections whenever they like (RFC 7766 §6.2.3), and a restart closes all of them.
    pub(super) async fn ask(&self, query: &Arc<Query>) -> Attempt {
        for _ in 0..=POOL {
            let connection = self.connection();
            let sent = Instant::now();
            let lost = match connection.send(query) {
                Ok(mut waiting) => match timeout(self.timings.attempt, &mut waiting).await {
                    Ok(Ok(Ok(response))) => return Attempt::Answer(response),
                    Ok(Ok(Err(lost))) => lost,
                    Ok(Err(_)) => Lost::Closed,
                    Err(_) => {
                        // A server that answers others at the same time is not dead, only slow on this.
                        if connection.suspect_if_silent(sent) {
                            self.health.suspect(self.timings.suspicion);
                        } else {
                            self.health.failures.fetch_add(1, Relaxed);
                        }
                        return Attempt::Slow(Late {
                            waiting,
                            _connection: connection,
                        });
                    }
                },
                Err(lost) => lost,
            };
            if lost != Lost::Closed {
                break;
            }
        }
        self.health.suspect(self.timings.suspicion);
        Attempt::Failed
    }

    pub(super) fn status(&self) -> ServerStatus {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        ServerStatus {
            address: self.address,
            connections: pool
                .iter()
                .filter(|connection| connection.is_open())
                .count(),
            in_flight: pool.iter().map(|connection| connection.in_flight()).sum(),
            queries: self.health.queries.load(Relaxed),
            failures: self.health.failures.load(Relaxed),
            unmatched: self.health.unmatched.load(Relaxed),
            rtt: self.health.rtt(),
            suspect: self.health.is_suspect(),
        }
    }

    /// The connection for the next query; a new one if those there are closed, silent or busy.
    fn connection(&self) -> Arc<Connection> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.retain(|connection| !connection.is_closed());
        let home = Home::current();
        let usable = || pool.iter().filter(|connection| !connection.is_suspect());
        let full = usable().count() >= POOL;
        if let Some(least) = usable()
            .filter(|connection| full || connection.home() == home)
            .min_by_key(|connection| {
                (
                    connection.in_flight() / SPREAD,
                    connection.home() != home,
                    connection.in_flight(),
                )
            })
            && (full || least.in_flight() < SPREAD)
        {
            return Arc::clone(least);
        }
        if pool.len() >= MAX_CONNECTIONS {
            // The oldest under suspicion; without one there would be POOL usable ones.
            let suspect = pool.iter().position(|connection| connection.is_suspect());
            pool.remove(suspect.unwrap_or_default());
        }
        let connection = Arc::new(Connection::open(
            self.address,
            Arc::clone(&self.health),
            self.timings,
        ));
        pool.push(Arc::clone(&connection));
        connection
    }
}

#[cfg(test)]
mod tests {
    use dns_cache_common::question::KeyParts;

    use super::*;
    use crate::upstream::fake::Fake;

    #[tokio::test]
    async fn a_full_pool_loses_a_suspect_not_the_usable_connection() {
        let fake = Fake::start(|stream, _| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let server = Server::new(fake.address, Timings::default());
        let open = || {
            let health = Arc::clone(&server.health);
            Arc::new(Connection::open(server.address, health, server.timings))
        };
        let busy = open();
        let query = Arc::new(Query::new(&KeyParts {
            name: b"\x03web\0",
            rtype: 1,
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
        }));
        let _waiting: Vec<_> = (0..SPREAD).map(|_| busy.send(&query).unwrap()).collect();
        let mut pool = vec![Arc::clone(&busy)];
        for _ in 1..MAX_CONNECTIONS {
            let suspect = open();
            assert!(suspect.suspect_if_silent(Instant::now()));
            pool.push(suspect);
        }
        let oldest_suspect = Arc::clone(&pool[1]);
        *server.pool.lock().unwrap() = pool;

        let new = server.connection();
        let pool = server.pool.lock().unwrap();
        let has = |wanted: &Arc<Connection>| pool.iter().any(|there| Arc::ptr_eq(there, wanted));
        assert_eq!(pool.len(), MAX_CONNECTIONS);
        assert!(has(&busy) && has(&new) && !has(&oldest_suspect));
    }
}
