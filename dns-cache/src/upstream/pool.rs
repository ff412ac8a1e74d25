//! The connections to a server: as many as the load wants, within a bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use super::home::Home;

/// Connections that take new queries.
pub(super) const POOL: usize = 8;
/// With so many queries in flight on a connection another one is opened.
const SPREAD: usize = 32;
/// All connections, those under suspicion included.
const MAX_CONNECTIONS: usize = 12;

/// A server's connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl Pool {
    /// The connection for the next query: at home on this thread if there is one, not stalled for `patience`, and
    /// with few queries in flight. If there is none, `open` makes one, or with a full pool, the best of it is taken.
    pub(super) fn connection(
        &self,
        patience: Duration,
        open: impl FnOnce() -> Connection,
    ) -> Arc<Connection> {
        let home = Home::current();
        let mut connections = self.connections();
        connections.retain(|connection| connection.is_usable());
        let usable = || {
            connections
                .iter()
                .filter(|connection| !connection.is_suspect())
        };
        let is_good = |connection: &Connection| {
            connection.in_flight() < SPREAD && !connection.is_stalled(patience)
        };
        let here = usable().filter(|connection| connection.home() == home);
        if let Some(best) = here.min_by_key(|connection| connection.in_flight())
            && is_good(best)
        {
            return Arc::clone(best);
        }
        if usable().count() >= POOL
            && let Some(best) = usable().min_by_key(|connection| {
                let elsewhere = connection.home() != home;
                (!is_good(connection), connection.in_flight(), elsewhere)
            })
        {
            return Arc::clone(best);
        }
        if connections.len() >= MAX_CONNECTIONS {
            // The oldest under suspicion; without one there would be POOL usable ones.
            let suspect = connections.iter().position(|c| c.is_suspect());
            connections.remove(suspect.unwrap_or_default());
        }
        let connection = Arc::new(open());
        connections.push(Arc::clone(&connection));
        connection
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        let connections = self.connections();
        connections.iter().filter(|c| c.is_open()).count()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dns_cache_common::question::KeyParts;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::upstream::Timings;
    use crate::upstream::fake::Fake;
    use crate::upstream::health::Health;
    use crate::upstream::query::Query;

    const LONG: Duration = Duration::from_secs(60);

    async fn silent() -> Fake {
        Fake::start(|stream, _| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await
    }

    fn open(address: SocketAddr) -> Connection {
        let health = Arc::<Health>::default();
        Connection::open(address, None, health, Timings::default())
    }

    fn query() -> Arc<Query> {
        Arc::new(Query::new(&KeyParts {
            name: b"\x03web\0",
            rtype: 1,
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
        }))
    }

    #[tokio::test]
    async fn it_grows_with_load_and_is_bounded() {
        let fake = silent().await;
        let pool = Pool::default();
        let mut waiting = vec![];
        for queries in 1..=SPREAD * POOL * 2 {
            let connection = pool.connection(LONG, || open(fake.address));
            waiting.push(connection.send(&query()).unwrap());
            let wanted = queries.div_ceil(SPREAD).min(POOL);
            assert_eq!(pool.connections().len(), wanted);
        }
        let loads = pool
            .connections()
            .iter()
            .map(|c| c.in_flight())
            .collect::<Vec<_>>();
        assert_eq!(loads, [SPREAD * 2; POOL]);
    }

    #[tokio::test]
    async fn a_stalled_connection_is_left_alone() {
        let fake = silent().await;
        let pool = Pool::default();
        let stalled = pool.connection(LONG, || open(fake.address));
        let _waiting = stalled.send(&query()).unwrap();
        sleep(Duration::from_millis(5)).await;
        let other = pool.connection(Duration::from_millis(1), || open(fake.address));
        assert!(!Arc::ptr_eq(&stalled, &other));
    }

    #[tokio::test]
    async fn when_full_it_loses_a_suspect_not_the_usable_connection() {
        let fake = silent().await;
        let pool = Pool::default();
        let busy = pool.connection(LONG, || open(fake.address));
        let _waiting: Vec<_> = (0..SPREAD).map(|_| busy.send(&query()).unwrap()).collect();
        for _ in 1..MAX_CONNECTIONS {
            let suspect = Arc::new(open(fake.address));
            assert!(suspect.suspect_if_silent(Instant::now()));
            pool.connections().push(suspect);
        }
        let oldest_suspect = Arc::clone(&pool.connections()[1]);

        let new = pool.connection(LONG, || open(fake.address));
        let connections = pool.connections();
        let has = |wanted| connections.iter().any(|there| Arc::ptr_eq(there, wanted));
        assert_eq!(connections.len(), MAX_CONNECTIONS);
        assert!(has(&busy) && has(&new) && !has(&oldest_suspect));
    }
}
