//! Counts of values by size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of durations, in nanoseconds: CoreDNS's, 0.25 ms to 8.2 s, and three below them, where the
/// answers from a cache are.
pub(crate) const DURATIONS: [u64; 19] = {
    let mut bounds = [31_250; 19];
    let mut n = 1;
    while n < bounds.len() {
        bounds[n] = bounds[n - 1] * 2;
        n += 1;
    }
    bounds
};

/// Upper bounds of messages, in bytes: CoreDNS's.
pub(crate) const SIZES: [u64; 14] = [
    0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000,
];

/// Counts of values by the bound that they do not exceed, and their sum.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A histogram's counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot<const N: usize> {
    pub(crate) bounds: &'static [u64; N],
    /// How many did not exceed the bound, but the one before it.
    pub(crate) counts: [u64; N],
    /// How many exceeded all bounds.
    pub(crate) beyond: u64,
    pub(crate) sum: u64,
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Takes in the same value `count` times.
    pub(crate) fn observe(&self, value: u64, count: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts
            .get(bucket)
            .unwrap_or(&self.beyond)
            .fetch_add(count, Relaxed);
        self.sum.fetch_add(value.saturating_mul(count), Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot<N> {
        Snapshot {
            bounds: self.bounds,
            counts: std::array::from_fn(|n| self.counts[n].load(Relaxed)),
            beyond: self.beyond.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }
}

impl<const N: usize> Snapshot<N> {
    /// What both counted. They have the same bounds.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.beyond += other.beyond;
        self.sum += other.sum;
        self
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let histogram = Histogram::new(&DURATIONS);
        for value in [0, 31_250, 31_251, 8_192_000_000, 8_192_000_001] {
            histogram.observe(value, 2);
        }
        let seen = histogram.snapshot();
        assert_eq!((seen.counts[0], seen.counts[1]), (4, 2));
        assert_eq!((seen.counts[18], seen.beyond, seen.count()), (2, 2, 10));
        assert_eq!(seen.sum, 2 * (2 * 31_250 + 1 + 2 * 8_192_000_000 + 1));
        assert_eq!(seen.clone().plus(&seen).count(), 20);
        assert!(DURATIONS.contains(&250_000) && DURATIONS.contains(&8_192_000_000));
    }
}
