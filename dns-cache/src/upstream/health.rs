//! What is known about a server from the queries it got.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Timings;
use super::exchanges::Exchanges;
use super::rtt::{Quantiles, Rtts};

/// Failures in a row after which a server is ejected, if none of them was enough by itself.
const FAILURES: u32 = 3;
/// Questions in a row that a server had only errors for, and others an answer, after which it is ejected.
const ERRORS: u32 = 5;
/// How long it is remembered that a server does not know EDNS, or takes no TCP.
const PLAIN: Duration = Duration::from_secs(300);

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
    /// SERVFAIL or the like, where another server had an answer.
    Error,
    /// It does not know EDNS: it was asked again without.
    Edns,
    /// It takes no TCP: it was asked again over UDP.
    Tcp,
}

/// A server's counts, round-trip times, and whether it can be relied on just now.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) queries: AtomicU64,
    pub(super) hedges: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) unmatched: AtomicU64,
    pub(super) ejections: AtomicU64,
    /// It has answered over a connection.
    pub(super) by_tcp: AtomicBool,
    pub(super) exchanges: Exchanges,
    faults: [AtomicU64; Fault::ALL.len()],
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rtts: Rtts,
    in_a_row: u32,
    /// Questions in a row that others had an answer for.
    errors: u32,
    ejection: Option<Ejection>,
    /// When the last answer came.
    heard: Option<Instant>,
    /// When the first query was sent since then.
    unanswered: Option<Instant>,
    /// Until when it is asked without EDNS.
    plain: Option<Instant>,
    /// Until when it is asked over UDP.
    without_tcp: Option<Instant>,
    /// When it may next be asked because others have errors only.
    check_at: Option<Instant>,
}

/// A time without queries, but for a probe at its end.
#[derive(Debug)]
struct Ejection {
    since: Instant,
    probe_at: Instant,
    /// Until the probe after that.
    interval: Duration,
}

/// A query that waits for the server's answer, as long as it lives.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Health>);

impl Fault {
    pub(super) const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Busy,
        Self::Closed,
        Self::Timeout,
        Self::Mismatched,
        Self::Malformed,
        Self::Error,
        Self::Edns,
        Self::Tcp,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Mismatched => "mismatched",
            Self::Malformed => "malformed",
            Self::Error => "error",
            Self::Edns => "edns",
            Self::Tcp => "tcp",
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

    /// Counts a query that is sent once more.
    pub(super) fn repeated(&self) {
        self.queries.fetch_add(1, Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// An answer came, whether somebody still waited for it or not.
    pub(super) fn answered(&self, response: &[u8], took: Duration) {
        self.exchanges.answered(response, took);
        let mut state = self.state();
        (state.heard, state.unanswered) = (Some(Instant::now()), None);
        state.rtts.record(took);
    }

    /// An answer was of use: whatever was held against the server is over.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        (state.in_a_row, state.errors) = (0, 0);
        state.ejection = None;
    }

    /// It said that it cannot or will not answer: it lives, but whether it can be relied on is not known by that.
    pub(super) fn erred(&self) {
        self.state().in_a_row = 0;
    }

    /// Another server had an answer to what this one had an error for.
    pub(super) fn outdone(&self, timings: &Timings) {
        let mut state = self.count(Fault::Error);
        state.errors += 1;
        if state.errors >= ERRORS {
            self.eject(&mut state, timings);
        }
    }

    /// A query got no answer in time. No sign in a server that has answered others meanwhile; nor is one slow answer,
    /// before there were so many, and none to anything for as long as two attempts.
    pub(super) fn late(&self, sent: Instant, many: u32, timings: &Timings) {
        let mut state = self.count(Fault::Timeout);
        if state.heard.is_some_and(|heard| heard >= sent) {
            return;
        }
        state.in_a_row += 1;
        let silence = state.unanswered.map_or(Duration::ZERO, |at| at.elapsed());
        if state.in_a_row >= many && silence >= timings.attempt * 2 {
            self.eject(&mut state, timings);
        }
    }

    /// Whether it has answered anything, ever or since a moment.
    pub(super) fn was_heard(&self, since: Option<Instant>) -> bool {
        self.state().heard.is_some_and(|heard| Some(heard) >= since)
    }

    /// Since when it has not answered anything that it was asked; `None` if nothing is open.
    pub(super) fn unanswered(&self) -> Option<Instant> {
        self.state().unanswered
    }

    /// From now on, for some minutes, it is asked without EDNS.
    pub(super) fn learn_plain(&self) {
        self.count(Fault::Edns).plain = Some(Instant::now() + PLAIN);
    }

    /// Whether it is to be asked without EDNS.
    pub(super) fn is_plain(&self) -> bool {
        self.state()
            .plain
            .is_some_and(|until| Instant::now() < until)
    }

    /// From now on, for some minutes, it is asked over UDP.
    pub(super) fn learn_without_tcp(&self) {
        self.count(Fault::Tcp).without_tcp = Some(Instant::now() + PLAIN);
    }

    /// Whether it is to be asked over UDP because it takes no TCP.
    pub(super) fn is_without_tcp(&self) -> bool {
        let until = self.state().without_tcp;
        until.is_some_and(|until| Instant::now() < until)
    }

    /// An attempt failed, as many do; only so many in a row count against the server.
    pub(super) fn failed(&self, fault: Fault, timings: &Timings) {
        let mut state = self.count(fault);
        state.in_a_row += 1;
        if state.in_a_row >= FAILURES {
            self.eject(&mut state, timings);
        }
    }

    /// What is counted, but is nothing against the server.
    pub(super) fn noted(&self, fault: Fault) {
        drop(self.count(fault));
    }

    /// An attempt failed in a way that others would, too.
    pub(super) fn down(&self, fault: Fault, timings: &Timings) {
        let mut state = self.count(fault);
        self.eject(&mut state, timings);
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.state().ejection.is_some()
    }

    /// For how long it has been ejected; `None` if it is not.
    pub(super) fn ejected_for(&self) -> Option<Duration> {
        let state = self.state();
        Some(state.ejection.as_ref()?.since.elapsed())
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

    /// Whether the caller shall ask the server now because others had errors only; only one gets the task each time.
    pub(super) fn claim_check(&self, timings: &Timings) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let is_due = state.check_at.is_none_or(|at| at <= now);
        if is_due {
            state.check_at = Some(now + timings.check_pause);
        }
        is_due
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
            let now = Instant::now();
            state.ejection = Some(Ejection {
                since: now,
                probe_at: now + timings.probe_first,
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
        // Since it was, not since the last probe.
        assert_eq!(health.ejected_for(), Some(start.elapsed()));
        health.succeeded();
        assert!(!health.is_ejected() && !health.claim_probe(&timings()));
        assert_eq!(health.ejected_for(), None);
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
