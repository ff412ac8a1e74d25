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
    // A loop, for the compiler makes a function of what stands twice, and `pod_ingress` ends in a tail call: a program with
    // both is refused by Linux before 6.0 on arm64 (commit d4609a5d8c70).
    let mut at = scratch.forget(points.shorter.unwrap_or(0));
    let mut longer = scratch.forget(points.longer.unwrap_or(0));
    loop {
        if at != 0 {
            let key = Key::of_cut(scratch, question, at);
            let entry = entry::way_to(key.hash, buckets)
                .and_then(|(bucket, index)| entry::behind(entry::way(bucket, index)));
            if entry.is_some_and(|entry| Shape::unpack(entry.peek(word::SHAPE)).covers_below) {
                return Some(key);
            }
        }
        if longer == 0 {
            return None;
        }
        at = longer;
        longer = 0;
    }
}

/// How long the name of the zone with cuts is, if there is one.
#[inline(always)]
fn zone_len() -> Option<usize> {
    let words = ARENA.get_ptr(0)?.cast::<u64>();
    // SAFETY: shared memory, read once; the element is longer.
    let len = unsafe { ptr::read_volatile(words.add(CUT_ZONE_LEN)) } as usize;
    (len != 0).then_some(len)
}
