//! The index: from a hash to the cell of its entry.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use dns_cache_common::cached::{self, Bucket, WAYS, WORD};

use crate::sys::SharedWords;

pub(super) const BUCKET_BYTES: usize = size_of::<Bucket>();
pub(super) const BUCKET_WORDS: usize = BUCKET_BYTES / WORD;

/// A way's place in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    bucket: usize,
    index: usize,
}

/// The shared index. Only the agent writes ways; the programs write hits.
#[derive(Debug)]
pub(super) struct Index {
    words: SharedWords,
    buckets: u32,
}

impl Index {
    /// The index in this memory, with what is in it.
    pub(super) fn new(words: SharedWords, buckets: u32) -> Self {
        Self { words, buckets }
    }

    /// Every way there is.
    pub(super) fn all(&self) -> impl Iterator<Item = Way> + use<> {
        (0..self.buckets as usize)
            .flat_map(|bucket| (0..WAYS).map(move |index| Way { bucket, index }))
    }

    /// The ways of a hash's bucket.
    pub(super) fn of(&self, hash: u64) -> impl Iterator<Item = Way> + use<> {
        let bucket = cached::bucket(hash, self.buckets) as usize;
        (0..WAYS).map(move |index| Way { bucket, index })
    }

    /// Whether a way is one of a hash's bucket, and leads to its entry.
    pub(super) fn leads(&self, way: Way, hash: u64) -> bool {
        cached::bucket(hash, self.buckets) as usize == way.bucket
            && cached::may_lead(self.get(way), hash)
    }

    /// What a way holds; 0: nothing.
    pub(super) fn get(&self, way: Way) -> u64 {
        self.words[way.word()].load(Relaxed)
    }

    /// Leads the way to a cell whose entry is written, with no hits.
    pub(super) fn set(&self, way: Way, hash: u64, cell: u32) {
        self.reset_hits(way);
        self.words[way.word()].store(cached::way(hash, cell), Release);
    }

    /// Leads the way nowhere. What its entry's memory gets afterwards is not seen before that.
    pub(super) fn clear(&self, way: Way) {
        self.words[way.word()].store(0, Relaxed);
        fence(Release);
    }

    /// Hits since they were last set to 0.
    pub(super) fn hits(&self, way: Way) -> u32 {
        let (word, shift) = way.hits();
        (self.words[word].load(Relaxed) >> shift) as u32
    }

    /// Sets the hits of a way to 0. Two ways share a word: a hit of the other one may get lost, as between two CPUs.
    pub(super) fn reset_hits(&self, way: Way) {
        let (word, shift) = way.hits();
        self.words[word].fetch_and(!(u64::from(u32::MAX) << shift), Relaxed);
    }
}

impl Way {
    fn word(self) -> usize {
        self.bucket * BUCKET_WORDS + self.index
    }

    /// The word that holds the way's hits, and where they begin in it.
    fn hits(self) -> (usize, usize) {
        let word = self.bucket * BUCKET_WORDS + WAYS + self.index / 2;
        (word, self.index % 2 * 32)
    }
}
