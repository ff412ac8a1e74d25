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
    pub(super) fn new(limits: CacheLimits) -> Self {
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
            .expire_after(ByTtl)
            .build();
        Self { entries }
    }

    /// The answer for a key and its age in seconds, if it may still be given.
    pub(super) fn fresh(&self, key: &[u8], now: Time) -> Option<(Arc<Entry>, u32)> {
        let entry = self.entries.get(key)?;
        let age = entry.age(now)?;
        Some((entry, age))
    }

    pub(super) fn insert(&self, key: Box<[u8]>, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
    }

    /// Takes an answer out; says whether there was one.
    pub(super) fn remove(&self, key: &[u8]) -> bool {
        self.entries.remove(key).is_some()
    }

    /// All keys and answers as they are now, in no order. It holds up nobody else.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Arc<Box<[u8]>>, Arc<Entry>)> {
        self.entries.run_pending_tasks();
        self.entries.iter()
    }
}

/// Bytes that an entry takes, its part of the cache's own structure included.
pub(super) fn size(key: &[u8], entry: &Entry) -> usize {
    OVERHEAD + key.len() + entry.size()
}

/// Removes entries when their TTL is over. What may be given is decided by [`Entry::age`] alone: moka's
/// clock stands still while the machine is suspended.
struct ByTtl;

impl Expiry<Box<[u8]>, Arc<Entry>> for ByTtl {
    fn expire_after_create(
        &self,
        _: &Box<[u8]>,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        Some(Duration::from_secs(entry.ttl().unwrap_or_default().into()))
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
