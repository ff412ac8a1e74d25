//! The entries by their keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache as Moka;

use super::clock::Time;
use super::entry::Entry;
use crate::config::CacheLimits;

/// What moka and the allocator take for an entry besides key and value: the growth of RSS by 100,000
/// entries of known size.
const OVERHEAD: usize = 480;

/// A bounded cache of answers.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Moka<Box<[u8]>, Arc<Entry>>,
}

impl Cache {
    /// A cache that keeps entries for so long after their TTL.
    pub(super) fn new(limits: CacheLimits, keep: Duration) -> Self {
        // moka has one bound. An entry that weighs no less than its share of the bytes makes it hold for
        // their number as well.
        let share = limits.max_bytes.div_ceil(limits.max_entries.max(1));
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let entries = Moka::<Box<[u8]>, _>::builder()
            .max_capacity(limits.max_bytes)
            .weigher(move |key, entry: &Arc<Entry>| {
                u32::try_from(size(key, entry))
                    .unwrap_or(u32::MAX)
                    .max(share)
            })
            .expire_after(Lifetime { keep })
            .build();
        Self { entries }
    }

    /// The answer for a key, fresh or not.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// The answer for a key and its age in seconds, if its TTL is not over.
    pub(super) fn fresh(&self, key: &[u8], now: Time) -> Option<(Arc<Entry>, u32)> {
        let entry = self.get(key)?;
        let age = entry.age(now)?;
        Some((entry, age))
    }

    /// Adds an entry, or puts it in another's place. Every one comes by this way.
    pub(super) fn insert(&self, key: Box<[u8]>, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
    }

    /// Takes an entry out before its time.
    pub(super) fn remove(&self, key: &[u8]) {
        self.entries.invalidate(key);
    }

    /// Entries, and the bytes they take.
    pub(super) fn usage(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        self.entries
            .iter()
            .fold((0, 0), |(count, bytes), (key, entry)| {
                (count + 1, bytes + size(&key, &entry) as u64)
            })
    }
}

fn size(key: &[u8], entry: &Entry) -> usize {
    OVERHEAD + key.len() + entry.size()
}

/// Removes entries some time after their TTL is over. What may be given is decided by [`Entry::age`] alone: moka's
/// clock stands still while the machine is suspended.
struct Lifetime {
    keep: Duration,
}

impl Expiry<Box<[u8]>, Arc<Entry>> for Lifetime {
    fn expire_after_create(
        &self,
        _: &Box<[u8]>,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        let ttl = Duration::from_secs(entry.ttl().unwrap_or_default().into());
        Some(ttl + self.keep)
    }

    fn expire_after_update(
        &self,
        key: &Box<[u8]>,
        entry: &Arc<Entry>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}
