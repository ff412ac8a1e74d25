//! A timer that is always the next one while queries wait for upstreams.
//!
//! Each such query sets timers of its own. To tokio's driver one that ends before all others is news: it wakes itself up
//! for it, by a `write` to an event descriptor and one `epoll_wait` more, a query. Behind an earlier timer there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Shorter than the shortest of those timers: the floor of hedging, 5 ms.
const TIME: Duration = Duration::from_millis(4);

/// Of a thread.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// A query has come to wait since the last time.
    is_needed: AtomicBool,
    /// The timer runs.
    runs: AtomicBool,
    start: Notify,
}

impl Pace {
    /// A query is about to wait.
    pub(super) fn keep(&self) {
        self.is_needed.store(true, Relaxed);
        if !self.runs.load(Relaxed) {
            self.start.notify_one();
        }
    }

    /// Runs the timer whenever it is needed; on the thread that calls [`Self::keep`], without an end.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.start.notified().await;
            self.runs.store(true, Relaxed);
            while self.is_needed.swap(false, Relaxed) {
                sleep(TIME).await;
            }
            self.runs.store(false, Relaxed);
        }
    }
}
