//! How often an entry is given, and whether somebody refreshes it already.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Up to here each hit is counted.
const EXACT: u32 = 1024;

/// The use of one entry.
///
/// All cores read a hot entry's cache line; a write for each hit would move that line between them. So the
/// more hits there are, the more seldom one is written, for many at once (Morris's counter). What is shown
/// is exact up to 1,024 and then right within a few percent.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    hits: AtomicU32,
    refreshing: AtomicBool,
}

impl Usage {
    /// Counts a hit.
    pub(super) fn hit(&self) {
        let hits = self.hits.load(Relaxed);
        // 2^step hits are counted by one write in 2^step hits.
        let step = (hits / EXACT).checked_ilog2().map_or(0, |log| log + 1);
        if step == 0 || random() >> (u32::BITS - step) == 0 {
            self.add(1 << step);
        }
    }

    /// Counts hits that another counter has seen.
    pub(super) fn add(&self, hits: u32) {
        self.hits.fetch_add(hits, Relaxed);
    }

    /// How often the entry was given since it was stored.
    pub(crate) fn hits(&self) -> u32 {
        self.hits.load(Relaxed)
    }

    /// Whether the caller is the one who shall refresh the entry: true once.
    pub(super) fn claim_refresh(&self) -> bool {
        // Seen to be taken without a write: the usual case of a hot entry.
        !self.refreshing.load(Relaxed) && !self.refreshing.swap(true, Relaxed)
    }

    /// Leaves the refresh to a later hit.
    pub(super) fn yield_refresh(&self) {
        self.refreshing.store(false, Relaxed);
    }
}

/// A number without any pattern that matters here: Marsaglia's xorshift32.
pub(super) fn random() -> u32 {
    thread_local!(static STATE: Cell<u32> = const { Cell::new(0x9e37_79b9) });
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(hits: u32) -> u32 {
        let usage = Usage::default();
        (0..hits).for_each(|_| usage.hit());
        usage.hits()
    }

    #[test]
    fn few_hits_are_counted_exactly_and_many_nearly() {
        for hits in [0, 1, 2, 100, 1024] {
            assert_eq!(counted(hits), hits);
        }
        for hits in [3_000, 100_000, 1_000_000] {
            let shown = f64::from(counted(hits)) / f64::from(hits);
            assert!((0.8..1.25).contains(&shown), "{hits}: {shown}");
        }
    }

    #[test]
    fn one_refresh_an_entry() {
        let usage = Usage::default();
        assert!(usage.claim_refresh() && !usage.claim_refresh());
        usage.yield_refresh();
        assert!(usage.claim_refresh() && !usage.claim_refresh());
    }
}
