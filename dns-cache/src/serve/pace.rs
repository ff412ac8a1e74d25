//! A timer that is always the next one while queries wait for upstreams.
//!
//! Each such query sets timers of its own. To tokio's driver one that ends before all others is news: it wakes itself up
//! for it, by a `write` to an event descriptor and one `epoll_wait` more, a query. Behind an earlier timer there is none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Shorter than the shortest of those timers: the floor of hedging, 5 ms.
const TIME: Duration = Duration::from_millis(4);

/// Of a thread. Its permit says that a query has come to wait since the timer was set.
#[derive(Debug, Default)]
pub(super) struct Pace(Notify);

impl Pace {
    /// A query is about to wait.
    pub(super) fn keep(&self) {
        self.0.notify_one();
    }

    /// Runs the timer whenever it is needed; on the thread that calls [`Self::keep`], without an end.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.0.notified().await;
            sleep(TIME).await;
        }
    }
}
