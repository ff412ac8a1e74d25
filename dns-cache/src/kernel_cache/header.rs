//! The arena's first cells: what the next agent must know to go on with what is in it.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use dns_cache_common::cached::{CELL, WORD};
use dns_cache_common::hash::Seed;

/// Says that the rest is there: "dnscache" and the layout's version.
const MAGIC: u64 = u64::from_le_bytes(*b"dnscache") ^ dns_cache_common::maps::LAYOUT_VERSION as u64;

/// Where each word lies.
mod word {
    /// The programs' only word, and not the next agent's.
    const CUT_ZONE_LEN: usize = dns_cache_common::cached::CUT_ZONE_LEN;
    pub(super) const MAGIC: usize = CUT_ZONE_LEN + 1;
    pub(super) const CONTENTS: usize = CUT_ZONE_LEN + 2;
    pub(super) const HEADS: usize = CUT_ZONE_LEN + 3;
    pub(super) const SEED: usize = CUT_ZONE_LEN + 4;
}

/// Words of the header.
pub(super) const WORDS: usize = word::SEED + size_of::<Seed>() / WORD;
/// Cells that hold nothing else.
pub(super) const CELLS: u32 = (WORDS * WORD).div_ceil(CELL) as u32;

/// The seed by which the arena's entries are found, if there is one.
pub(super) fn seed(arena: &[AtomicU64]) -> Option<Seed> {
    if arena[word::MAGIC].load(Relaxed) != MAGIC {
        return None;
    }
    let mut seed = Seed([0; _]);
    for (to, from) in seed.0.iter_mut().zip(&arena[word::SEED..]) {
        *to = from.load(Relaxed);
    }
    Some(seed)
}

/// What the answers in the arena depend on, if there are any.
pub(super) fn contents(arena: &[AtomicU64]) -> u64 {
    arena[word::CONTENTS].load(Relaxed)
}

/// Notes what the answers depend on from here on.
pub(super) fn set_contents(arena: &[AtomicU64], contents: u64) {
    arena[word::CONTENTS].store(contents, Relaxed);
}

/// Where the small and the main queue stand.
pub(super) fn heads(arena: &[AtomicU64]) -> (u32, u32) {
    let heads = arena[word::HEADS].load(Relaxed);
    (heads as u32, (heads >> 32) as u32)
}

/// Notes where the queues stand. To be called before an entry is linked that lies there.
pub(super) fn set_heads(arena: &[AtomicU64], small: u32, main: u32) {
    arena[word::HEADS].store(u64::from(small) | u64::from(main) << 32, Relaxed);
}

/// Makes the arena ours. The index is empty.
pub(super) fn begin(arena: &[AtomicU64], seed: &Seed, contents: u64) {
    arena[word::MAGIC].store(0, Relaxed);
    fence(Release);
    for (to, from) in arena[word::SEED..].iter().zip(&seed.0) {
        to.store(*from, Relaxed);
    }
    set_contents(arena, contents);
    arena[word::MAGIC].store(MAGIC, Release);
}
