//! The entries by their keys.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::clock::Time;
use super::counters::Counter;
use super::entry::Entry;
use crate::config::CacheLimits;

/// What moka and the allocator take for an entry besides key and value: the growth of RSS by 100,000
/// entries of known size.
const OVERHEAD: usize = 480;

/// So many entries may have come in that moka has not counted yet.
const UNCOUNTED: u64 = 512;

/// The part of the room that newcomers have to themselves.
const NEWCOMERS: u64 = 10;

type Entries = Moka<Box<[u8]>, Arc<Entry>>;

/// A bounded cache of answers.
///
/// Once it is full, new entries stay in a small part of it, in which the latest push out the oldest, until
/// they are asked for a second time. So names that are asked for once, however many, push out nothing that is
/// in use. moka's own admission does not suffice: its frequency sketch is sized for a quarter of the entries
/// where they have weights, and after a million random names a fifth of a thousand names in use was gone.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries,
    newcomers: Entries,
    /// Set once `entries` had no room: as long as it never is, nobody looks for newcomers.
    was_full: AtomicBool,
    /// The weight that `entries` may have.
    room: u64,
    /// The weight that an entry has at least.
    share: u32,
    evicted: Arc<Evicted>,
    /// `newcomers` once more, for the listener of `entries`. That must not own it, for its own listener owns `entries`.
    _newcomers: Arc<OnceLock<Entries>>,
}

/// Answers that had to make room.
#[derive(Debug, Default)]
struct Evicted {
    data: Counter,
    denials: Counter,
}

impl Evicted {
    fn add(&self, entry: &Entry) {
        match entry.is_denial() {
            true => self.denials.add(1),
            false => self.data.add(1),
        }
    }
}

impl Cache {
    /// A cache that keeps entries for so long after their TTL.
    pub(super) fn new(limits: CacheLimits, keep: Duration) -> Self {
        // moka has one bound. An entry that weighs no less than its share of the bytes makes it hold for
        // their number as well.
        let share = limits.max_bytes.div_ceil(limits.max_entries.max(1));
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let part = |bytes| {
            Entries::builder()
                .max_capacity(bytes)
                .weigher(move |key, entry| weight(key, entry, share))
                .expire_after(Lifetime { keep })
        };
        let for_newcomers = limits.max_bytes / NEWCOMERS;
        let room = limits.max_bytes - for_newcomers;
        // One that leaves the one part and is in the other has not left the cache.
        let evicted = Arc::<Evicted>::default();
        let shared = Arc::<OnceLock<Entries>>::default();
        let (counted, newcomers) = (Arc::clone(&evicted), Arc::downgrade(&shared));
        let entries = part(room)
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .eviction_listener(move |key, entry, cause| {
                let newcomers = newcomers.upgrade();
                let newcomers = newcomers.as_ref().and_then(|newcomers| newcomers.get());
                let stays = newcomers.is_some_and(|newcomers| newcomers.contains_key(&**key));
                if cause == RemovalCause::Size && !stays {
                    counted.add(&entry);
                }
            })
            .build();
        let (counted, stayed) = (Arc::clone(&evicted), entries.clone());
        let newcomers = part(for_newcomers)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |key, entry, cause| {
                if cause == RemovalCause::Size && !stayed.contains_key(&**key) {
                    counted.add(&entry);
                }
            })
            .build();
        let newcomers = shared.get_or_init(|| newcomers).clone();
        Self {
            entries,
            newcomers,
            was_full: AtomicBool::new(false),
            room,
            share,
            evicted,
            _newcomers: shared,
        }
    }

    /// How many answers had to make room: with data, and without.
    pub(super) fn evicted(&self) -> [u64; 2] {
        [self.evicted.data.get(), self.evicted.denials.get()]
    }

    /// The answer for a key, fresh or not.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key).or_else(|| {
            let entry = self.newcomers()?.get(key)?;
            // It may still be turned away there; then it stays here for its time.
            self.entries.insert(key.into(), Arc::clone(&entry));
            // What was removed or replaced meanwhile must not come back.
            let still = self.newcomers.get(key);
            if !still.is_some_and(|still| Arc::ptr_eq(&still, &entry)) {
                self.entries.invalidate(key);
            }
            Some(entry)
        })
    }

    /// Whether there is an answer for a key, fresh or not. It is not the use that keeps an entry.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let is_newcomer = || self.newcomers().is_some_and(|them| them.contains_key(key));
        self.entries.contains_key(key) || is_newcomer()
    }

    /// The answer for a key and its age in seconds, if its TTL is not over.
    pub(super) fn fresh(&self, key: &[u8], now: Time) -> Option<(Arc<Entry>, u32)> {
        let entry = self.get(key)?;
        let age = entry.age(now)?;
        Some((entry, age))
    }

    /// Adds an entry, or puts it in another's place. Every one comes by this way.
    pub(super) fn insert(&self, key: Box<[u8]>, entry: Arc<Entry>) {
        let weight = u64::from(weight(&key, &entry, self.share));
        if self.has_room(weight) || self.entries.contains_key(&key) {
            if let Some(newcomers) = self.newcomers() {
                newcomers.invalidate(&key);
            }
            self.entries.insert(key, entry);
        } else {
            self.was_full.store(true, Relaxed);
            self.newcomers.insert(key, entry);
        }
    }

    /// Whether `entries` has room for one of this weight. moka's pending tasks, which count the last ones, take longer than
    /// all the rest of an insertion, and are done now only where those make a difference.
    fn has_room(&self, weight: u64) -> bool {
        let room = |more| self.entries.weighted_size() + more <= self.room;
        if room(weight * UNCOUNTED) {
            return true;
        }
        if !room(weight) {
            return false;
        }
        self.entries.run_pending_tasks();
        room(weight)
    }

    /// The newcomers, if there ever were any.
    fn newcomers(&self) -> Option<&Entries> {
        self.was_full.load(Relaxed).then_some(&self.newcomers)
    }

    /// Takes an entry out before its time; says whether there was one.
    pub(super) fn remove(&self, key: &[u8]) -> bool {
        // In this order: `get` moves them the other way.
        let newcomer = self.newcomers.remove(key);
        self.entries.remove(key).or(newcomer).is_some()
    }

    /// All keys and entries as they are now, fresh or not, in no order. It holds up nobody else.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Arc<Box<[u8]>>, Arc<Entry>)> {
        self.entries.run_pending_tasks();
        self.newcomers.run_pending_tasks();
        let newcomers = self.newcomers.iter();
        let newcomers = newcomers.filter(|(key, _)| !self.entries.contains_key(&***key));
        self.entries.iter().chain(newcomers)
    }
}

/// What an entry counts for against the bounds, in bytes.
fn weight(key: &[u8], entry: &Entry, share: u32) -> u32 {
    u32::try_from(size(key, entry))
        .unwrap_or(u32::MAX)
        .max(share)
}

/// Bytes that an entry takes, its part of the cache's own structure included.
pub(super) fn size(key: &[u8], entry: &Entry) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TtlCaps;
    use crate::kernel_cache::Size;
    use crate::resolver::{Clock, Terms, own_part};
    use dns_cache_common::question::KeyParts;

    const CAPS: TtlCaps = TtlCaps {
        positive: 30,
        negative: 5,
        minimum: 0,
    };

    /// A key of type A, and an entry with one address for it.
    fn pair(label: &str, now: Time) -> (Box<[u8]>, Arc<Entry>) {
        let length = u8::try_from(label.len()).unwrap();
        let name = [&[length], label.as_bytes(), b"\x07default\x03svc\0"].concat();
        let key = KeyParts {
            name: &name,
            rtype: 1,
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
        };
        let response = [
            b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0",
            &name[..],
            b"\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x0a\0\0\x01",
        ]
        .concat();
        let entry = Entry::new(
            &response,
            &key,
            Terms {
                caps: CAPS,
                cut: false,
                now,
            },
        )
        .unwrap();
        (
            [&name[..], &[0, 1, 0, 1, 0]].concat().into(),
            Arc::new(entry),
        )
    }

    fn of_a_thousand() -> Cache {
        let limits = CacheLimits {
            max_entries: 1_000,
            max_bytes: 8 << 20,
            kernel: false,
        };
        Cache::new(limits, Duration::ZERO)
    }

    #[test]
    fn a_full_cache_takes_in_what_is_asked_for_again() {
        let now = Clock::Boot.now();
        let cache = of_a_thousand();
        for i in 0..10_000 {
            let (key, entry) = pair(&format!("once{i}"), now);
            cache.insert(key, entry);
        }
        // One that is looked at stays a newcomer.
        let (looked_at, entry) = pair("looked at", now);
        cache.insert(looked_at.clone(), entry);
        let (key, entry) = pair("again", now);
        cache.insert(key.clone(), entry);
        assert!(cache.get(&key).is_some());
        for i in 0..10_000 {
            let (other, entry) = pair(&format!("more{i}"), now);
            cache.insert(other, entry);
            if i % 50 == 0 {
                assert!(cache.get(&key).is_some(), "{i}");
            }
            if i < 10 {
                assert!(cache.contains(&looked_at), "{i}");
            }
        }
        assert!(!cache.contains(&looked_at));
        // The newest one is there in the one place and the other.
        let (_, newer) = pair("again", now.after(Duration::from_secs(1)));
        cache.insert(key.clone(), newer);
        assert_eq!(
            cache.get(&key).unwrap().stored_at(),
            now.after(Duration::from_secs(1))
        );
        cache.remove(&key);
        assert!(cache.get(&key).is_none());
    }

    /// Each that is not there any more is counted once, whichever part of the cache it left last.
    #[test]
    fn evictions_are_counted_once() {
        let now = Clock::Boot.now();
        let cache = of_a_thousand();
        let put = |number| {
            let (key, entry) = pair(&format!("n{number}"), now);
            cache.insert(key, entry);
        };
        (0..500).for_each(put);
        assert_eq!(cache.iter().count(), 500);
        assert_eq!(cache.evicted(), [0, 0]);
        for number in 500..5_000 {
            put(number);
            if number % 3 == 0 {
                let (key, _) = pair(&format!("n{number}"), now);
                assert!(cache.get(&key).is_some());
            }
        }
        let left = cache.iter().count() as u64;
        assert!(left <= 1_000);
        assert_eq!(cache.evicted(), [5_000 - left, 0]);
        // What is taken out or replaced makes no room for another.
        let before = cache.evicted();
        for (key, entry) in cache.iter() {
            cache.insert(Box::clone(&key), entry);
            cache.remove(&key);
        }
        assert_eq!(cache.iter().count(), 0);
        assert_eq!(cache.evicted(), before);
    }

    /// The bounds hold for kernel and userspace together.
    #[test]
    fn with_the_kernels_part_the_bounds_hold() {
        let now = Clock::Boot.now();
        for (max_entries, max_bytes) in [
            (2_000, 64 << 20),
            (1_000_000, 2 << 20),
            (1_000_000, 1 << 20),
            (5_000, 4 << 20),
            (100, 1 << 20),
        ] {
            for kernel in [true, false] {
                let limits = CacheLimits {
                    max_entries,
                    max_bytes,
                    kernel,
                };
                let what = format!("{limits:?}");
                let maps = if kernel {
                    Size::new(&limits).bytes()
                } else {
                    0
                };
                assert_eq!(maps > 0, kernel, "{what}");
                let own = own_part(limits);
                // Entries in the kernel are there in userspace as well.
                assert!(own.max_bytes > 2 * maps, "{what}: {own:?}");
                let cache = Cache::new(own, Duration::ZERO);
                let number = (max_entries + 1_000).min(2 * max_bytes / OVERHEAD as u64);
                for i in 0..number {
                    let (key, entry) = pair(&format!("n{i}"), now);
                    cache.insert(key, entry);
                }
                let held = cache.iter().map(|(key, entry)| size(&key, &entry) as u64);
                let (count, bytes) = held.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes));
                assert!(count <= max_entries, "{what}: {count} entries");
                assert!(
                    bytes + maps <= max_bytes,
                    "{what}: {bytes} and {maps} bytes"
                );
                // And they are made use of.
                assert!(
                    count * 10 >= max_entries * 8 || (bytes + maps) * 10 >= max_bytes * 8,
                    "{what}: {count} entries, {bytes} and {maps} bytes"
                );
            }
        }
    }

    /// A pod asks for a million names that do not exist, while others go on with a thousand that do.
    #[test]
    fn a_scan_pushes_nothing_out_that_is_in_use() {
        const HOT: usize = 1_000;
        let now = Clock::Boot.now();
        for (max_bytes, random) in [(64 << 20, 1_000_000), (8 << 20, 100_000)] {
            let cache = Cache::new(
                CacheLimits {
                    max_entries: 10_000,
                    max_bytes,
                    kernel: false,
                },
                Duration::from_secs(3600),
            );
            let hot: Vec<_> = (0..HOT).map(|i| pair(&format!("hot{i}"), now)).collect();
            for (key, entry) in &hot {
                cache.insert(key.clone(), Arc::clone(entry));
            }
            for i in 0..random {
                let (key, entry) = pair(&format!("{:016x}", i * 0x9e37_79b9), now);
                if cache.get(&key).is_none() {
                    cache.insert(key, entry);
                }
                // Each hot name is asked for once in ten thousand random ones.
                if i % 10 == 0 {
                    cache.get(&hot[i / 10 % HOT].0);
                }
            }
            cache.entries.run_pending_tasks();
            let kept = hot
                .iter()
                .filter(|(key, _)| cache.entries.contains_key(key))
                .count();
            assert!(kept * 100 >= HOT * 99, "{kept} of {HOT}");
            assert!(cache.iter().count() <= 10_000);
        }
    }
}
