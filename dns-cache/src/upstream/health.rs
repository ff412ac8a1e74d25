//! What is known about a server from the queries it got.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A server's counts, round-trip time, and whether it can be relied on just now.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) queries: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) unmatched: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rtt: Option<Duration>,
    /// When to try it again; set while the server is under suspicion.
    probe_at: Option<Instant>,
}

impl Health {
    /// An answer came: whatever was held against the server is over.
    pub(super) fn answered(&self, took: Duration) {
        let mut state = self.state();
        state.probe_at = None;
        // RFC 6298 §2's weight for the smoothed round-trip time.
        state.rtt = Some(state.rtt.map_or(took, |rtt| (rtt * 7 + took) / 8));
    }

    /// No answer came, or none in time, and nothing else did from this server.
    pub(super) fn suspect(&self, suspicion: Duration) {
        self.failures.fetch_add(1, Relaxed);
        self.state().probe_at = Some(Instant::now() + suspicion);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.state().probe_at.is_some()
    }

    /// Whether the caller shall try the suspect now; only one gets the task each time.
    pub(super) fn claim_probe(&self, suspicion: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let due = state.probe_at.is_some_and(|at| at <= now);
        if due {
            state.probe_at = Some(now + suspicion);
        }
        due
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.state().rtt
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
