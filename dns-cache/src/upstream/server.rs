//! One server: what is known of it, and its connections.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Connection, Lost, Waiting};
use super::datagram;
use super::exchanges::Exchanged;
use super::health::{Fault, Health};
use super::pool::Pool;
use super::query::Query;
use super::rtt::Quantiles;
use super::transport::Transport;
use super::{ServerStatus, Timings};
use crate::config::Upstream;

/// A server of a zone.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) upstream: Upstream,
    pub(super) health: Arc<Health>,
    transport: Transport,
    timings: Timings,
    pool: Arc<Pool>,
}

/// What carries a query.
#[derive(Debug)]
pub(super) enum Carrier {
    Connection(Arc<Connection>),
    Datagram,
}

impl Server {
    pub(super) fn new(upstream: Upstream, transport: Transport, timings: Timings) -> Self {
        Self {
            upstream,
            health: Arc::default(),
            transport,
            timings,
            pool: Arc::default(),
        }
    }

    /// The same server at another distance, or with another weight: with its connections and what is known of it.
    pub(super) fn placed(&self, upstream: Upstream) -> Self {
        Self {
            upstream,
            health: Arc::clone(&self.health),
            transport: self.transport.clone(),
            timings: self.timings,
            pool: Arc::clone(&self.pool),
        }
    }

    /// The same server, asked over new connections.
    pub(super) fn anew(&self, transport: Transport) -> Self {
        Self {
            health: Arc::clone(&self.health),
            ..Self::new(self.upstream.clone(), transport, self.timings)
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

    /// How long an answer may take to a query of that moment before another server must be asked: an attempt's time. One
    /// whose answers mostly take longer, or that is slow with this one while it answers others, has up to three times as
    /// long, or each question would cost two queries, and no answer would come sooner. One that is silent has not.
    pub(super) fn time(&self, asked: Instant) -> Duration {
        let attempt = self.timings.attempt;
        let Some(Quantiles { p50, p95 }) = self.health.quantiles() else {
            return attempt;
        };
        let longer = (p95 * 2).min(attempt * 3);
        let is_alive = match self.health.was_heard(Some(asked)) {
            true => p95 > attempt,
            false => {
                let silence = self
                    .health
                    .unanswered()
                    .map_or(Duration::ZERO, |at| at.elapsed());
                p50 > attempt && silence < longer
            }
        };
        if is_alive { longer } else { attempt }
    }

    /// Whether queries go by datagrams: as configured, or because there was no TCP to be had a while ago.
    pub(super) fn is_asked_over_udp(&self) -> bool {
        match self.transport {
            Transport::Udp => true,
            Transport::TcpOrUdp => self.health.is_without_tcp(),
            Transport::Tcp | Transport::Tls(_) => false,
        }
    }

    /// Whether nobody has said that the server takes TCP, and it has never answered by it either.
    pub(super) fn may_be_without_tcp(&self) -> bool {
        matches!(self.transport, Transport::TcpOrUdp) && !self.health.by_tcp.load(Relaxed)
    }

    /// Sends a query as a datagram, or over a connection.
    pub(super) fn send(
        &self,
        query: &Arc<Query>,
        by_udp: bool,
    ) -> Result<(Waiting, Carrier), Lost> {
        let (address, health) = (self.upstream.address, &self.health);
        if by_udp {
            let waiting = datagram::send(address, query, health, self.timings)?;
            return Ok((waiting, Carrier::Datagram));
        }
        let tls = match &self.transport {
            Transport::Udp | Transport::Tcp | Transport::TcpOrUdp => None,
            Transport::Tls(tls) => Some(tls),
        };
        let mut opened = false;
        let connection = self.pool.connection(self.patience(), || {
            opened = true;
            Connection::open(address, tls.cloned(), Arc::clone(health), self.timings)
        });
        let exchanges = &health.exchanges;
        let count = if opened {
            &exchanges.opened
        } else {
            &exchanges.reused
        };
        count.fetch_add(1, Relaxed);
        let waiting = connection.send(query)?;
        Ok((waiting, Carrier::Connection(connection)))
    }

    /// An attempt failed as in [`Health::failed`].
    pub(super) fn failed(&self, fault: Fault) {
        self.health.failed(fault, &self.timings);
    }

    /// An attempt failed as in [`Health::down`].
    pub(super) fn down(&self, fault: Fault) {
        self.health.down(fault, &self.timings);
    }

    /// As [`Health::outdone`].
    pub(super) fn outdone(&self) {
        self.health.outdone(&self.timings);
    }

    pub(super) fn exchanged(&self) -> Exchanged {
        let proto = match self.transport {
            Transport::Tcp | Transport::TcpOrUdp => "tcp",
            Transport::Udp => "udp",
            Transport::Tls(_) => "tcp-tls",
        };
        self.health.exchanges.of(self.upstream.address, proto)
    }

    pub(super) fn status(&self) -> ServerStatus {
        let quantiles = self.health.quantiles();
        let failures: Vec<_> = self.health.failures().collect();
        let ejected_for = self.health.ejected_for();
        ServerStatus {
            address: self.upstream.address,
            distance: self.upstream.distance,
            weight: self.upstream.weight,
            connections: self.pool.open(),
            in_flight: self.health.in_flight(),
            queries: self.health.queries.load(Relaxed),
            hedges: self.health.hedges.load(Relaxed),
            retries: self.health.retries.load(Relaxed),
            unmatched: self.health.unmatched.load(Relaxed),
            ejections: self.health.ejections.load(Relaxed),
            failures: failures.iter().map(|(_, count)| count).sum(),
            failures_by_kind: failures,
            rtt_p50: quantiles.map(|quantiles| quantiles.p50),
            rtt_p95: quantiles.map(|quantiles| quantiles.p95),
            suspect: ejected_for.is_some(),
            ejected_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When another server may be asked as well: by the answers so far, within the bounds that are promised.
    #[test]
    fn patience_follows_the_answers_between_5_and_500_ms() {
        let upstream = Upstream::from(std::net::SocketAddr::from(([192, 0, 2, 1], 53)));
        for (answers, patience) in [
            (None, 500),
            (Some(1), 5),
            (Some(60), 60),
            (Some(3_000), 500),
        ] {
            let server = Server::new(upstream.clone(), Transport::Tcp, Timings::default());
            for _ in 0..100 {
                if let Some(took) = answers {
                    let response = [0; 12];
                    server
                        .health
                        .answered(&response, Duration::from_millis(took));
                }
            }
            // Quantiles are rounded by a few per cent.
            let (least, most) = (patience * 9 / 10, patience * 11 / 10);
            let found = server.patience().as_millis();
            assert!((least..=most).contains(&found), "{answers:?}: {found} ms");
        }
    }
}
