//! One server: what is known of it, and its connections.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::connection::Connection;
use super::health::{Fault, Health};
use super::pool::Pool;
use super::{ServerStatus, Timings};
use crate::config::Upstream;

/// A server of a zone.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) upstream: Upstream,
    pub(super) health: Arc<Health>,
    timings: Timings,
    pool: Pool,
}

impl Server {
    pub(super) fn new(upstream: Upstream, timings: Timings) -> Self {
        Self {
            upstream,
            health: Arc::default(),
            timings,
            pool: Pool::default(),
        }
    }

    pub(super) fn timings(&self) -> &Timings {
        &self.timings
    }

    /// How long an answer is waited for before another server may be asked as well: as long as 95 % of the answers
    /// take, within bounds. A server that never answered has all the time of an attempt.
    pub(super) fn patience(&self) -> Duration {
        let Timings {
            hedge_floor,
            hedge_cap,
            attempt,
            ..
        } = self.timings;
        self.health.quantiles().map_or(attempt, |quantiles| {
            quantiles.p95.clamp(hedge_floor, hedge_cap).min(attempt)
        })
    }

    /// The connection for the next query.
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.pool.connection(self.patience(), || {
            let (address, health) = (self.upstream.address, Arc::clone(&self.health));
            Connection::open(address, health, self.timings)
        })
    }

    /// An attempt failed as in [`Health::failed`].
    pub(super) fn failed(&self, fault: Fault) {
        self.health.failed(fault, &self.timings);
    }

    /// An attempt failed as in [`Health::down`].
    pub(super) fn down(&self, fault: Fault) {
        self.health.down(fault, &self.timings);
    }

    pub(super) fn status(&self) -> ServerStatus {
        let quantiles = self.health.quantiles();
        let failures: Vec<_> = self.health.failures().collect();
        ServerStatus {
            address: self.upstream.address,
            distance: self.upstream.distance,
            weight: self.upstream.weight,
            connections: self.pool.open(),
            in_flight: self.health.in_flight(),
            queries: self.health.queries.load(Relaxed),
            hedges: self.health.hedges.load(Relaxed),
            unmatched: self.health.unmatched.load(Relaxed),
            ejections: self.health.ejections.load(Relaxed),
            failures: failures.iter().map(|(_, count)| count).sum(),
            failures_by_kind: failures,
            rtt_p50: quantiles.map(|quantiles| quantiles.p50),
            rtt_p95: quantiles.map(|quantiles| quantiles.p95),
            suspect: self.health.is_ejected(),
        }
    }
}
