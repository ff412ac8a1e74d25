//! Counting, without contention: each CPU has its own slots.

use aya_ebpf::maps::PerCpuArray;
use dns_cache_common::{hits::Hit, maps::Counter};

use crate::maps::{COUNTERS, HITS};

#[inline(always)]
pub fn count(counter: Counter) {
    add_one(&COUNTERS, counter as u32);
}

#[inline(always)]
pub fn count_hit(hit: Hit) {
    add_one(&HITS, hit.slot());
}

#[inline(always)]
fn add_one(counts: &PerCpuArray<u64>, slot: u32) {
    if let Some(slot) = counts.get_ptr_mut(slot) {
        // SAFETY: the slot is this CPU's own, and a tc program is not preempted by another one on its CPU.
        unsafe { *slot += 1 };
    }
}
