//! What is known about a server from the queries it got.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Timings;
use super::exchanges::Exchanges;
use super::rtt::{Quantiles, Rtts};

/// Failures in a row after which a server is ejected, if none of them was enough by itself.
const FAILURES: u32 = 3;

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection.
    Unreachable,
    /// No place for another query.
    Busy,
    /// Every connection ended before the answer.
    Closed,
    /// No answer in time.
    Timeout,
    /// A response with the query's ID to another question.
    Mismatched,
    /// A response that cannot be read.
    Malformed,
}

/// A server's counts, round-trip times, and whether it can be relied on just now.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) queries: AtomicU64,
    pub(super) hedges: AtomicU64,
    pub(super) unmatched: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) exchanges: Exchanges,
    faults: [AtomicU64; Fault::ALL.len()],
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rtts: Rtts,
    in_a_row: u32,
    ejection: Option<Ejection>,
    /// When the first query was sent since the last answer.
    unanswered: Option<Instant>,
}

/// A time without queries, but for a probe at its end.
#[derive(Debug)]
struct Ejection {
    probe_at: Instant,
    /// Until the probe after that.
    interval: Duration,
}

/// A query that waits for the server's answer, as long as it lives.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Health>);

impl Fault {
    pub(super) const ALL: [Self; 6] = [
        Self::Unreachable,
        Self::Busy,
        Self::Closed,
        Self::Timeout,
        Self::Mismatched,
        Self::Malformed,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Mismatched => "mismatched",
            Self::Malformed => "malformed",
        }
    }
}

impl Health {
    /// Counts a query; it is in flight until the value is dropped.
    pub(super) fn sent(self: &Arc<Self>) -> InFlight {
        self.queries.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        self.state().unanswered.get_or_insert_with(Instant::now);
        InFlight(Arc::clone(self))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// An answer came, whether somebody still waited for it or not.
    pub(super) fn answered(&self, response: &[u8], took: Duration) {
        self.exchanges.answered(response, took);
        let mut state = self.state();
        state.unanswered = None;
        state.rtts.record(took);
    }

    /// An answer was of use: whatever was held against the server is over.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.in_a_row = 0;
        state.ejection = None;
    }

    /// An attempt failed, as many do; only so many in a row count against the server.
    pub(super) fn failed(&self, fault: Fault, timings: &Timings) {
        let mut state = self.count(fault);
        state.in_a_row += 1;
        if state.in_a_row >= FAILURES {
            self.eject(&mut state, timings);
        }
    }

    /// A query found no place among those in flight: counted, but nothing against the server.
    pub(super) fn busy(&self) {
        drop(self.count(Fault::Busy));
    }

    /// An attempt failed in a way that others would, too.
    pub(super) fn down(&self, fault: Fault, timings: &Timings) {
        let mut state = self.count(fault);
        self.eject(&mut state, timings);
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.state().ejection.is_some()
    }

    /// How long an ejected server has not answered anything that it was asked; zero for one that is not ejected.
    pub(super) fn silence(&self) -> Duration {
        let state = self.state();
        let unanswered = state.unanswered.filter(|_| state.ejection.is_some());
        unanswered.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the caller shall try the ejected server now; only one gets the task each time. The next
    /// time comes twice as late.
    pub(super) fn claim_probe(&self, timings: &Timings) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        match &mut state.ejection {
            Some(ejection) if ejection.probe_at <= now => {
                ejection.probe_at = now + ejection.interval;
                ejection.interval = (ejection.interval * 2).min(timings.probe_most);
                true
            }
            _ => false,
        }
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        self.state().rtts.quantiles()
    }

    /// Failures by kind.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::ALL
            .iter()
            .zip(&self.faults)
            .map(|(fault, count)| (fault.name(), count.load(Relaxed)))
    }

    fn count(&self, fault: Fault) -> MutexGuard<'_, State> {
        self.faults[fault as usize].fetch_add(1, Relaxed);
        self.state()
    }

    /// Nothing changes for a server that is out already: its probes say when it comes back.
    fn eject(&self, state: &mut State, timings: &Timings) {
        if state.ejection.is_none() {
            self.ejections.fetch_add(1, Relaxed);
            state.ejection = Some(Ejection {
                probe_at: Instant::now() + timings.probe_first,
                interval: timings.probe_first * 2,
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings() -> Timings {
        Timings {
            probe_first: Duration::from_secs(1),
            probe_most: Duration::from_secs(5),
            ..Timings::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_at_growing_intervals() {
        let health = Health::default();
        health.down(Fault::Timeout, &timings());
        let start = Instant::now();
        let mut probes = vec![];
        while probes.len() < 5 {
            tokio::time::advance(Duration::from_millis(100)).await;
            if health.claim_probe(&timings()) {
                probes.push(start.elapsed().as_secs());
                health.down(Fault::Timeout, &timings());
            }
        }
        assert_eq!(probes, [1, 3, 7, 12, 17]);
        health.succeeded();
        assert!(!health.is_ejected() && !health.claim_probe(&timings()));
        assert_eq!(health.ejections.load(Relaxed), 1);
    }

    #[test]
    fn small_failures_eject_only_in_a_row() {
        let health = Health::default();
        for _ in 0..2 {
            health.failed(Fault::Malformed, &timings());
            health.failed(Fault::Mismatched, &timings());
            health.succeeded();
        }
        assert!(!health.is_ejected());
        for _ in 0..3 {
            health.failed(Fault::Malformed, &timings());
        }
        assert!(health.is_ejected());
        let failures: Vec<_> = health.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failures, [("mismatched", 2), ("malformed", 5)]);
    }
}
