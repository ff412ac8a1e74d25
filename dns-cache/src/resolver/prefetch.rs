//! Which entries are refreshed before they expire, and how many at once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Time;
use super::entry::Entry;
use crate::config::Prefetch as Policy;

/// Refreshes on their way; the others wait for them. Where the upstreams are slow, expiry is not the worst that can
/// happen.
const MOST: usize = 256;
/// Whatever the policy's seconds say, an entry is left alone for this part of its life: four fifths, so that
/// a name costs at most 1.25 queries a TTL.
const LEFT_ALONE: f64 = 0.8;
/// The shortest and the longest pause after a refresh that failed; in between, half of what is left of the entry's life.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(1);

/// Decides that a hit on an entry is the reason to refresh it, and when its turn has come.
#[derive(Debug)]
pub(super) struct Prefetch {
    policy: Policy,
    /// How many may wait: no more entries than there are can be due.
    room: u64,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    waiting: VecDeque<Due>,
    workers: usize,
}

/// An entry that is to be refreshed.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) key: Box<[u8]>,
    /// Its end.
    pub(super) until: Time,
}

/// What becomes of an entry that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The caller is a worker from now on: it takes what is due until there is nothing more.
    Work,
    /// A worker comes to it.
    Wait,
    /// There is no room for it.
    Full,
}

impl Prefetch {
    /// With room for so many that wait for their refresh.
    pub(super) fn new(policy: Policy, room: u64) -> Self {
        Self {
            policy,
            room,
            turns: Mutex::default(),
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

    /// Whether so many hits in the kernel are the reason to refresh what it alone still has.
    pub(super) fn is_in_use(&self, hits: u32) -> bool {
        hits >= self.policy.min_hits
    }

    /// Whether an entry is in the last part of its life.
    pub(super) fn is_due(&self, entry: &Entry, now: Time) -> bool {
        self.due_at(entry).is_some_and(|due| now >= due)
    }

    /// Whether the caller is to refresh an entry that was given just now; each entry is claimed once.
    pub(super) fn claim(&self, entry: &Entry, now: Time) -> bool {
        self.is_in_use(entry.usage().hits())
            && self.is_due(entry, now)
            && entry.usage().claim_refresh()
    }

    /// Queues an entry.
    pub(super) fn push(&self, due: Due) -> Turn {
        let mut turns = self.turns();
        if turns.waiting.len() as u64 >= self.room {
            return Turn::Full;
        }
        turns.waiting.push_back(due);
        if turns.workers >= MOST {
            return Turn::Wait;
        }
        turns.workers += 1;
        Turn::Work
    }

    /// The next entry for a worker; without one, it is a worker no longer.
    pub(super) fn next(&self) -> Option<Due> {
        let mut turns = self.turns();
        let next = turns.waiting.pop_front();
        if next.is_none() {
            turns.workers -= 1;
        }
        next
    }

    /// How long to wait before a refresh that failed is tried again; `None` if it would come too late.
    pub(super) fn pause(until: Time, now: Time) -> Option<Duration> {
        let left = Duration::from_nanos(until.nanos().saturating_sub(now.nanos()));
        let pause = (left / 2).clamp(SHORTEST, LONGEST);
        (pause < left).then_some(pause)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
