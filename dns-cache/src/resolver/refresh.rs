//! Answers that no client waits for: in place of those that are about to expire.

use std::sync::Arc;

use super::Resolver;
use super::clock::Time;
use super::entry::Entry;
use super::flights::Flight;
use super::prefetch::{Due, Prefetch, Turn};

impl Resolver {
    /// Refreshes an entry that is about to expire, by hits that userspace did not see.
    ///
    /// `key` is that of the question, as [`dns_cache_common::question::Key`] has it; `hits` are those since
    /// the last time, `until` is the end of what the kernel has. Must be called within a tokio runtime.
    pub(super) fn prefetch(self: &Arc<Self>, key: &[u8], hits: u32, until: Time) {
        let now = self.clock.now();
        match self.cache.get(key) {
            Some(entry) => {
                entry.usage().add(hits);
                self.refresh_if_due(key, &entry, now);
            }
            // It had to go here. It shall not go there as well.
            None if self.prefetch.is_in_use(hits) => {
                self.refresh_soon(Due {
                    key: key.into(),
                    until,
                });
            }
            None => {}
        }
    }

    /// Refreshes an entry that was given just now, if it is about to expire.
    pub(super) fn refresh_if_due(self: &Arc<Self>, key: &[u8], entry: &Entry, now: Time) {
        if !self.prefetch.claim(entry, now) {
            return;
        }
        let due = Due {
            key: key.into(),
            until: entry.expires(),
        };
        if !self.refresh_soon(due) {
            entry.usage().yield_refresh();
        }
    }

    /// Fetches an answer that no client waits for.
    pub(super) fn refresh(self: &Arc<Self>, key: &[u8]) {
        if let Some(flight) = self.flights.begin(key) {
            tokio::spawn(Arc::clone(self).fly(flight));
        }
    }

    /// Refreshes an entry when its turn has come; says whether there is room for it to wait.
    fn refresh_soon(self: &Arc<Self>, due: Due) -> bool {
        let turn = self.prefetch.push(due);
        if turn == Turn::Work {
            let (this, first) = (Arc::clone(self), self.next_refresh());
            tokio::spawn(async move {
                let mut next = first;
                while let Some((flight, until)) = next {
                    this.fly_before(flight, until).await;
                    next = this.next_refresh();
                }
            });
        }
        turn != Turn::Full
    }

    /// The next refresh that is still of use.
    fn next_refresh(self: &Arc<Self>) -> Option<(Flight, Time)> {
        loop {
            let due = self.prefetch.next()?;
            let now = self.clock.now();
            let cached = self.cache.get(&due.key);
            let is_due = cached.is_none_or(|entry| self.prefetch.is_due(&entry, now));
            if now >= due.until || !is_due {
                continue;
            }
            if let Some(flight) = self.flights.begin(&due.key) {
                self.counters.prefetches.add(1);
                return Some((flight, due.until));
            }
            // It is on its way already, or too much else is.
            self.refresh_later(due, now);
        }
    }

    /// Fetches an answer before its old one ends. A failure by then is nobody's: the old one is given, and there may be
    /// time for another try.
    async fn fly_before(self: &Arc<Self>, flight: Flight, until: Time) {
        let key = flight.key().into();
        let outcome = self.fetch(flight.key()).await;
        let now = self.clock.now();
        let is_early = outcome.is_err() && now < until;
        self.land(flight, outcome, !is_early).await;
        if is_early {
            self.refresh_later(Due { key, until }, now);
        }
    }

    fn refresh_later(self: &Arc<Self>, due: Due, now: Time) {
        if let Some(pause) = Prefetch::pause(due.until, now) {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                this.refresh_soon(due);
            });
        }
    }
}
