//! The order of systems: another one for each sweep, and no system twice in a row.

use dns_cache_tests::random::Random;

/// Sweeps over systems, each in a new order.
#[derive(Debug)]
pub(super) struct Order {
    /// The one that the last sweep ended with.
    last: Option<usize>,
    random: Random,
}

impl Order {
    /// The orders are the same in each run: chance shall not differ between runs.
    pub(super) fn new() -> Self {
        Self {
            last: None,
            random: Random::new(0),
        }
    }

    /// The next sweep's order over these systems, each of which is measured then. One that is alone may follow itself.
    pub(super) fn next_sweep(&mut self, systems: &[usize]) -> Vec<usize> {
        let mut order = systems.to_vec();
        for at in (1..order.len()).rev() {
            let other = self.random.below(at as u64 + 1) as usize;
            order.swap(at, other);
        }
        if order.len() > 1 && order.first().copied() == self.last {
            order.swap(0, 1);
        }
        // A sweep over none changes nothing.
        self.last = order.last().copied().or(self.last);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Plan;
    use crate::bench::systems;

    #[test]
    fn no_system_twice_in_a_row_and_each_once_a_sweep() {
        for count in 2..8 {
            let mut order = Order::new();
            let all: Vec<_> = (0..count).collect();
            let mut last = None;
            for _ in 0..200 {
                let sweep = order.next_sweep(&all);
                for &system in &sweep {
                    assert_ne!(last, Some(system));
                    last = Some(system);
                }
                let mut sorted = sweep;
                sorted.sort_unstable();
                assert_eq!(sorted, all);
            }
        }
    }

    /// Not all loads are for all systems.
    #[test]
    fn no_system_twice_in_a_row_in_a_full_plan() {
        let (mut order, plan) = (Order::new(), Plan::new(false, 100));
        let mut measured: Vec<usize> = Vec::new();
        for load in (1..=plan.rounds).flat_map(|round| plan.loads(round)) {
            let suitable = load.suitable(systems::ALL.iter());
            assert!(suitable.len() > 1, "{}", load.key);
            measured.extend(order.next_sweep(&suitable));
        }
        let repeated = measured.windows(2).filter(|pair| pair[0] == pair[1]);
        assert_eq!(repeated.count(), 0);
        // Some loads are not for all: that is what the order must know.
        let all = plan
            .loads(1)
            .all(|load| load.suitable(systems::ALL.iter()).len() == systems::ALL.len());
        assert!(!all);
    }

    #[test]
    fn one_system_follows_itself() {
        let mut order = Order::new();
        assert_eq!(order.next_sweep(&[3]), [3]);
        assert_eq!(order.next_sweep(&[]), [0; 0]);
        assert_eq!(order.next_sweep(&[3]), [3]);
        assert_eq!(order.next_sweep(&[3, 4]), [4, 3]);
    }
}
