//! How long, how often, what.

use std::time::Duration;

use super::loads::{self, Load};
use super::systems::Running;

/// The run's size.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) quick: bool,
    pub(super) rounds: u32,
    /// A load with a length of its own.
    pub(super) time: Duration,
    /// Queries a second where the rate is fixed.
    pub(super) rate: u32,
    /// Queries on their way at once where it is not.
    pub(super) window: u32,
    /// Queries of a client that asks one after the other.
    pub(super) queries: usize,
    /// Pairs of a direct query and a miss.
    pub(super) misses: usize,
    /// Entries when memory is looked at.
    pub(super) entries: usize,
}

impl Plan {
    pub(super) fn new(quick: bool, rounds: u32) -> Self {
        if quick {
            return Self {
                quick,
                rounds: 1,
                time: Duration::from_secs(1),
                // What a small and busy machine can do, and what a socket's ordinary buffer holds: a loss is a
                // fault then.
                rate: 5_000,
                window: 200,
                queries: 500,
                misses: 100,
                entries: 10_000,
            };
        }
        Self {
            quick,
            rounds,
            time: Duration::from_secs(2),
            rate: 20_000,
            window: 1_000,
            queries: 5_000,
            misses: 1_000,
            entries: 10_000,
        }
    }

    /// The loads of a round, in order.
    pub(super) fn loads(&self, round: u32) -> impl Iterator<Item = &'static Load> {
        let (quick, first) = (self.quick, round == 1);
        loads::ALL
            .iter()
            .filter(move |load| !load.once || (first && !quick))
    }

    /// How many measurements there will be.
    pub(super) fn measurements(&self, running: &[Running]) -> usize {
        (1..=self.rounds)
            .flat_map(|round| self.loads(round))
            .map(|load| running.iter().filter(|system| load.suits(system)).count())
            .sum()
    }
}
