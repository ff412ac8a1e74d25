//! The order of systems: another one for each sweep, and no system twice in a row.

use dns_cache_tests::random::Random;

/// Sweeps over systems, each in a new order.
#[derive(Debug)]
pub(super) struct Order {
    count: usize,
    last: Option<usize>,
    random: Random,
}

impl Order {
    /// For this many systems. The orders are the same in each run: chance shall not differ between runs.
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            last: None,
            random: Random::new(0),
        }
    }

    /// The next sweep's order.
    pub(super) fn next_sweep(&mut self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.count).collect();
        for at in (1..order.len()).rev() {
            let other = self.random.below(at as u64 + 1) as usize;
            order.swap(at, other);
        }
        if order.len() > 1 && order.first().copied() == self.last {
            order.swap(0, 1);
        }
        self.last = order.last().copied();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_system_twice_in_a_row_and_each_once_a_sweep() {
        for count in 2..8 {
            let mut order = Order::new(count);
            let mut last = None;
            for _ in 0..200 {
                let sweep = order.next_sweep();
                for &system in &sweep {
                    assert_ne!(last, Some(system));
                    last = Some(system);
                }
                let mut sorted = sweep;
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn one_system_follows_itself() {
        let mut order = Order::new(1);
        assert_eq!(order.next_sweep(), [0]);
        assert_eq!(order.next_sweep(), [0]);
    }
}
