//! Which entries are refreshed before they expire.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clock::Time;
use super::entry::Entry;
use crate::config::Prefetch as Policy;

/// Refreshes on their way. Where the upstreams are slow, expiry is not the worst that can happen.
const MOST: usize = 256;
/// Whatever the policy's seconds say, an entry is left alone for this part of its life: four fifths, so that
/// a name costs at most 1.25 queries a TTL.
const LEFT_ALONE: f64 = 0.8;

/// Decides that a hit on an entry is the reason to refresh it.
#[derive(Debug)]
pub(super) struct Prefetch {
    policy: Policy,
    places: Arc<Semaphore>,
}

impl Prefetch {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            places: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// The moment from which a hit refreshes an entry; `None` if none ever does.
    pub(super) fn due_at(&self, entry: &Entry) -> Option<Time> {
        if self.policy.percent == 0 {
            return None;
        }
        let ttl = f64::from(entry.ttl()?);
        let share = ttl * f64::from(self.policy.percent) / 100.0;
        let least = f64::from(self.policy.min_seconds).min(ttl * (1.0 - LEFT_ALONE));
        let wait = Duration::from_secs_f64((ttl - share.max(least)).max(0.0));
        Some(entry.stored_at().after(wait))
    }

    /// The permission to refresh what only the kernel still has, after so many hits there.
    pub(super) fn claim_unseen(&self, hits: u32) -> Option<OwnedSemaphorePermit> {
        (hits >= self.policy.min_hits)
            .then(|| Arc::clone(&self.places).try_acquire_owned().ok())
            .flatten()
    }

    /// The permission to refresh an entry that was given just now; each entry's is given once.
    pub(super) fn claim(&self, entry: &Entry, now: Time) -> Option<OwnedSemaphorePermit> {
        let due = entry.usage().hits() >= self.policy.min_hits
            && self.due_at(entry).is_some_and(|due| now >= due)
            && entry.usage().claim_refresh();
        if !due {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            entry.usage().yield_refresh();
        }
        place
    }
}
