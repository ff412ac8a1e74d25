//! The kernel cache, as the agent fills it: answers in memory that the programs read.
//!
//! The layout, and the rules by which both sides touch it at the same time, are in [`dns_cache_common::cached`].
//! No system call is needed to insert, replace or remove an entry.
//!
//! What stays when room is needed is decided by S3-FIFO (Yang et al., SOSP 2023): a new entry must be hit once
//! while it is in the small queue to get into the main one; what is hit there gets another round. A scan of names
//! that nobody asks for again passes through the small queue alone.

mod entry;
mod ghosts;
mod header;
mod index;
mod refreshes;
mod ring;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dns_cache_common::cached::{CELL, ELEMENT, Refresh};
use dns_cache_common::hash::Seed;
use dns_cache_common::question::KeyParts;
use serde::{Deserialize, Serialize};

use crate::config::CacheLimits;
use crate::resolver::{Entry, Time};
use crate::sys::SharedWords;

pub use entry::{Answer, Seen};
pub use refreshes::follow;
use store::Store;

/// Whether the kernel could give this answer.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_fit(key: &KeyParts<'_>, answer: &Entry) -> bool {
    entry::encode(key, 0, answer, answer.stored_at()).is_some()
}

/// How much memory the kernel cache takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Most entries.
    pub entries: u32,
    /// Buckets of the index.
    pub buckets: u32,
    /// Elements of the arena.
    pub elements: u32,
}

impl Size {
    /// Room for an entry of the usual size: a cluster name with a few addresses takes two cells, a negative
    /// answer three or four.
    const USUAL_ENTRY: u64 = 4 * CELL as u64;
    /// The part of the cache's bytes that the kernel's entries may have; the index comes on top, a quarter of that.
    const SHARE: u64 = 4;

    /// The kernel's part of the cache's limits.
    #[must_use]
    pub fn new(limits: &CacheLimits) -> Self {
        let fitting = limits.max_bytes / Self::SHARE / Self::USUAL_ENTRY;
        Self::for_entries(u32::try_from(limits.max_entries.min(fitting)).unwrap_or(u32::MAX))
    }

    /// Room for so many entries of the usual size.
    #[must_use]
    pub fn for_entries(entries: u32) -> Self {
        let entries = u64::from(entries);
        let elements = (entries * Self::USUAL_ENTRY)
            .div_ceil(ELEMENT as u64)
            .max(1);
        // The largest cache that the configuration allows has 16 GiB here, as many as the index can tell apart.
        let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            entries: clamp(entries),
            buckets: clamp(entries.div_ceil(2)).max(1),
            elements: clamp(elements),
        }
    }

    /// Bytes of both maps.
    #[must_use]
    pub fn bytes(self) -> u64 {
        index::BUCKET_BYTES as u64 * u64::from(self.buckets)
            + ELEMENT as u64 * u64::from(self.elements)
    }
}

/// What is in the kernel cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Entries, those among them that have expired and were not replaced yet.
    pub entries: u64,
    /// As many as there may be.
    #[serde(default)]
    pub max_entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes of the maps.
    pub capacity: u64,
    /// Entries that had to make room.
    pub evicted: u64,
}

/// A seed that nobody can guess.
#[must_use]
pub fn random_seed() -> Seed {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new();
    let mut seed = Seed([0; _]);
    for (i, word) in seed.0.iter_mut().enumerate() {
        *word = random.hash_one(i);
    }
    seed
}

fn hash(seed: &Seed, key: &KeyParts<'_>) -> u64 {
    let tail = dns_cache_common::hash::tail(key.rtype, key.bits());
    seed.hash(key.name, tail)
}

/// A moment between two flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// Writes the kernel cache.
#[derive(Debug)]
pub struct KernelCache {
    store: Mutex<Store>,
    seed: Seed,
}

/// The seed of the entries in a map `ARENA`, if an agent has put any there.
///
/// # Errors
///
/// The map cannot be mapped into memory.
pub fn seed_of(arena: BorrowedFd<'_>) -> io::Result<Option<Seed>> {
    Ok(header::seed(&SharedWords::map(arena, header::WORDS)?))
}

impl KernelCache {
    /// The cache in the maps `INDEX` and `ARENA`, which have this size and belong to programs with this seed.
    ///
    /// What an agent with the same seed and `contents` left there stays. `contents` stands for what the answers
    /// depend on besides their questions.
    ///
    /// # Errors
    ///
    /// The maps cannot be mapped into memory: they are smaller than that, or were made without
    /// `BPF_F_MMAPABLE`.
    pub fn open(
        index: BorrowedFd<'_>,
        arena: BorrowedFd<'_>,
        size: Size,
        seed: Seed,
        contents: u64,
    ) -> io::Result<Self> {
        let index = SharedWords::map(index, size.buckets as usize * index::BUCKET_WORDS)?;
        let arena = SharedWords::map(arena, size.elements as usize * (ELEMENT / 8))?;
        Ok(Self {
            store: Mutex::new(Store::open(index, arena, size, &seed, contents)),
            seed,
        })
    }

    /// Leaves the memory to another agent: from here on nothing is put in or taken out.
    pub fn freeze(&self) {
        self.lock().freeze();
    }

    /// Ends [`Self::freeze`], with what is in the memory by now. Whoever had it must have ended.
    pub fn thaw(&self) {
        self.lock().take_up(&self.seed);
    }

    /// Notes that the answers depend on something else from here on. Those that do not fit it are out already.
    pub fn set_contents(&self, contents: u64) {
        self.write(|store| store.set_contents(contents));
    }

    /// Puts an answer in; `refresh` is the time from which on a hit asks for a new one. An answer that cannot be
    /// given over UDP, or not be kept, takes the old one out. A newer one stays.
    pub fn put(&self, key: &[u8], answer: &Entry, refresh: Time) {
        self.put_since(self.ticket(), key, answer, refresh);
    }

    /// For [`Self::put_since`].
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket(self.lock().flushes())
    }

    /// As [`Self::put`], unless entries were flushed since the ticket was drawn: the answer may be one of those.
    pub fn put_since(&self, ticket: Ticket, key: &[u8], answer: &Entry, refresh: Time) {
        let Some(key) = KeyParts::read(key) else {
            return;
        };
        let hash = self.hash(&key);
        self.write(|store| {
            if store.flushes() != ticket.0 {
                return;
            }
            match entry::encode(&key, hash, answer, refresh) {
                Some(entry) => store.put(&key, entry, answer.stored_at()),
                None => store.remove(hash, &key),
            }
        });
    }

    /// Says in which zone an NXDOMAIN that covers the names below it ([`Entry::covers_below`]) answers for them, by its
    /// name in wire form; `None`: in none. Until it is told there is none.
    pub fn set_cut_zone(&self, zone: Option<&[u8]>) {
        self.write(|store| store.set_cut_zone_len(zone.map_or(0, <[u8]>::len)));
    }

    /// Takes an answer out.
    pub fn remove(&self, key: &[u8]) {
        if let Some(key) = KeyParts::read(key) {
            self.write(|store| store.remove(self.hash(&key), &key));
        }
    }

    /// Takes an answer out if it covers the names below it.
    pub fn remove_cut(&self, key: &[u8]) {
        if let Some(key) = KeyParts::read(key) {
            self.write(|store| store.remove_cut(self.hash(&key), &key));
        }
    }

    /// Takes out the answers that are chosen, by their key and whether they cover the names below; says how many.
    pub fn remove_if(&self, chosen: impl Fn(&KeyParts<'_>, bool) -> bool) -> u64 {
        self.write(|store| store.remove_if(chosen))
            .unwrap_or_default()
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Seen> {
        let key = KeyParts::read(key)?;
        self.lock().get(self.hash(&key), &key)
    }

    /// Looks at every entry, and by a function at its answer.
    pub fn for_each(&self, look: impl FnMut(&Seen, &dyn Fn() -> Option<Answer>)) {
        self.lock().for_each(look);
    }

    /// The entry for which a program asked for a refresh; `None` if it is not there any more.
    #[must_use]
    pub fn asked(&self, refresh: Refresh) -> Option<Seen> {
        self.lock().asked(refresh)
    }

    /// What is in it.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.lock().usage()
    }

    fn hash(&self, key: &KeyParts<'_>) -> u64 {
        hash(&self.seed, key)
    }

    /// Unless the memory is another agent's.
    fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let mut store = self.lock();
        (!store.is_frozen()).then(|| change(&mut store))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
