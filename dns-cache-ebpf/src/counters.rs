//! Counting, without contention: each CPU has its own slots.

use dns_cache_common::maps::Counter;

use crate::maps::COUNTERS;

#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own, and a tc program is not preempted by another one on its CPU.
        unsafe { *slot += 1 };
    }
}
