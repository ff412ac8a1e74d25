//! The agent's side on memory that no program reads: its hits are made here, as the programs make them.

mod restart;
mod ring;
mod scan;
mod store;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;

use dns_cache_common::cached::{self, HEAD_WORDS, WAYS, unpack_rotation, word};
use dns_cache_common::question::Key;
use dns_cache_common::types::class;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::index::BUCKET_WORDS;
use super::*;
use crate::config::TtlCaps;
use crate::resolver::Terms;

const TYPE: u16 = 65_280;
const NEVER: Time = Time::from_nanos(u64::MAX);
const CELL_WORDS: usize = CELL / 8;

/// A cache, and a look past it at its memory.
struct Bench {
    cache: KernelCache,
    size: Size,
    files: [File; 2],
    index: SharedWords,
    arena: SharedWords,
}

/// An entry that a program could find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Live {
    cell: u32,
    cells: u32,
    hash: u64,
    generation: u64,
}

/// A cache that no program reads.
pub(crate) fn in_memory(size: Size) -> KernelCache {
    Bench::new(size).cache
}

impl Bench {
    fn new(size: Size) -> Self {
        let memory = |bytes: u64| {
            let file = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
            file.set_len(bytes).unwrap();
            file
        };
        let buckets = u64::from(size.buckets) * index::BUCKET_BYTES as u64;
        let elements = u64::from(size.elements) * ELEMENT as u64;
        let (index, arena) = (memory(buckets), memory(elements));
        let map = |file: &File, bytes| SharedWords::map(file.as_fd(), bytes as usize / 8).unwrap();
        let files = [index, arena];
        Self {
            cache: open(&files, size, random_seed(), 0),
            size,
            index: map(&files[0], buckets),
            arena: map(&files[1], elements),
            files,
        }
    }

    fn put(&self, key: &Key, entry: &Entry) {
        self.cache.put(key.as_bytes(), entry, NEVER);
    }

    fn has(&self, key: &Key) -> bool {
        self.cache.get(key.as_bytes()).is_some()
    }

    /// Counts a hit as a program does; whether there is one.
    fn hit(&self, key: &Key) -> bool {
        let hash = self.cache.hash(&KeyParts::read(key.as_bytes()).unwrap());
        let bucket = cached::bucket(hash, self.size.buckets) as usize * BUCKET_WORDS;
        let found =
            (0..WAYS).find(|way| cached::may_lead(self.index[bucket + way].load(Relaxed), hash));
        if let Some(way) = found {
            self.index[bucket + WAYS + way / 2].fetch_add(1 << (way % 2 * 32), Relaxed);
        }
        found.is_some()
    }

    /// Everything that the index leads to, by its place.
    fn live(&self) -> Vec<Live> {
        let ways = self
            .index
            .chunks(BUCKET_WORDS)
            .flat_map(|bucket| &bucket[..WAYS]);
        let mut live: Vec<_> = ways
            .map(|way| way.load(Relaxed))
            .filter(|way| *way != 0)
            .map(|way| {
                let cell = cached::cell(way);
                let at =
                    |number: usize| self.arena[cell as usize * CELL_WORDS + number].load(Relaxed);
                let hash = at(word::HASH);
                assert!(cached::may_lead(way, hash));
                Live {
                    cell,
                    cells: unpack_rotation(at(word::ROTATION)).1.into(),
                    hash,
                    generation: at(word::GENERATION),
                }
            })
            .collect();
        live.sort_unstable();
        live
    }

    /// The first word of a record that [`entry`] made, of the entry in a cell.
    fn filling(&self, key: &Key, live: Live) -> u8 {
        let name_words = (key.as_bytes().len() - 5).div_ceil(8);
        let body = live.cell as usize * CELL_WORDS + HEAD_WORDS + name_words;
        // Owner's pointer, type, class, TTL and length come first.
        self.arena[body + 1].load(Relaxed).to_le_bytes()[4]
    }
}

fn open([index, arena]: &[File; 2], size: Size, seed: Seed, contents: u64) -> KernelCache {
    KernelCache::open(index.as_fd(), arena.as_fd(), size, seed, contents).unwrap()
}

fn key(name: &str) -> Key {
    let wire: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .chain([0])
        .collect();
    Key::from_parts(&KeyParts::new(&wire, TYPE, class::IN, 0)).unwrap()
}

/// An answer of one record with so many equal bytes of data (at least one), stored at `now`.
fn entry(filling: u8, len: u16, ttl: u32, now: Time) -> Entry {
    const HEAD: &[u8] = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01x\0\xff\0\0\x01\xc0\x0c\xff\0\0\x01";
    let key = key("x");
    let response = [
        HEAD,
        &ttl.to_be_bytes(),
        &len.to_be_bytes(),
        &vec![filling; len.into()],
    ]
    .concat();
    let terms = Terms {
        caps: TtlCaps {
            positive: u32::MAX,
            negative: u32::MAX,
            minimum: 0,
        },
        cut: false,
        now,
    };
    let parts = KeyParts::read(key.as_bytes()).unwrap();
    Entry::new(&response, &parts, terms).unwrap()
}

/// An answer with records as they stand behind a question for `x`, so many in each section.
fn answer(counts: [u8; 3], records: &[u8]) -> Entry {
    let [answers, authority, additional] = counts;
    let key = Key::from_parts(&KeyParts::new(b"\x01x\0", 1, class::IN, 0)).unwrap();
    let response = [
        &[
            0, 0, 0x81, 0x80, 0, 1, 0, answers, 0, authority, 0, additional,
        ],
        &b"\x01x\0\0\x01\0\x01"[..],
        records,
    ]
    .concat();
    let terms = Terms {
        caps: TtlCaps {
            positive: u32::MAX,
            negative: u32::MAX,
            minimum: 0,
        },
        cut: false,
        now: Time::from_nanos(0),
    };
    Entry::new(&response, &KeyParts::read(key.as_bytes()).unwrap(), terms).unwrap()
}

fn new_entry(filling: u8, len: u16) -> Entry {
    entry(filling, len, 3600, Time::from_nanos(0))
}
