//! A name that has no entry may be below one that is known not to exist (RFC 8020).

use core::ptr;

use dns_cache_common::{
    cached::{CUT_ZONE_LEN, Shape, word},
    cut,
    question::Question,
};

use crate::{
    entry,
    key::{self, Key},
    maps::ARENA,
    scratch::{Name, Scratch},
};

/// The key of the shortest name above the question's under which there is a cut, as it seems: the entry decides. The
/// name in the scratch must be the question's, and is the cut's afterwards.
#[inline(always)]
pub fn key(scratch: &mut Scratch, question: &Question, buckets: u32) -> Option<Key> {
    let zone_len = zone_len()?;
    let points = cut::points_before(&Name::new(scratch, key::name_len(question)), zone_len);
    let mut stands = |at: Option<usize>| {
        let key = Key::of_cut(scratch, question, at.filter(|at| *at != 0)?);
        let (bucket, index) = entry::way_to(key.hash, buckets)?;
        let entry = entry::behind(entry::way(bucket, index))?;
        let shape = Shape::unpack(entry.peek(word::SHAPE));
        shape.covers_below.then_some(key)
    };
    stands(points.shorter).or_else(|| stands(points.longer))
}

/// How long the name of the zone with cuts is, if there is one.
#[inline(always)]
fn zone_len() -> Option<usize> {
    let words = ARENA.get_ptr(0)?.cast::<u64>();
    // SAFETY: shared memory, read once; the element is longer.
    let len = unsafe { ptr::read_volatile(words.add(CUT_ZONE_LEN)) } as usize;
    (len != 0).then_some(len)
}
