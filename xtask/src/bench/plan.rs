//! How long, how often, what.

use std::time::Duration;

use super::loads::{self, Load};
use super::search_list::{self, Workload};
use super::systems::Running;

/// The run's size.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) quick: bool,
    pub(super) rounds: u32,
    /// How often a measurement is taken in a round until no query is lost.
    pub(super) tries: u32,
    /// A load with a length of its own.
    pub(super) time: Duration,
    /// Queries a second where the rate is fixed.
    pub(super) rate: u32,
    /// Queries a second that the AF_XDP generator is to send, one after the other.
    pub(super) xdp_rates: &'static [u32],
    /// Queries on their way at once where it is not.
    pub(super) window: u32,
    /// Queries of a client that asks one after the other.
    pub(super) queries: usize,
    /// Pairs of a direct query and a miss.
    pub(super) misses: usize,
    /// Entries when memory is looked at.
    pub(super) entries: usize,
    /// Entries among which hits are measured.
    pub(super) live_entries: &'static [u32],
    /// Interfaces that are there when an agent starts.
    pub(super) interfaces: usize,
    /// What search lists are measured with.
    pub(super) search_lists: &'static [Workload],
}

impl Plan {
    pub(super) fn new(quick: bool, rounds: u32) -> Self {
        if quick {
            return Self {
                quick,
                rounds: 1,
                // One round has no other that could show that the machine was busy.
                tries: 3,
                time: Duration::from_secs(1),
                // What a small and busy machine can do, and what a socket's ordinary buffer holds: a loss is a
                // fault then.
                rate: 5_000,
                xdp_rates: &[20_000],
                window: 200,
                queries: 500,
                misses: 100,
                entries: 10_000,
                live_entries: &[1_000, 10_000],
                interfaces: 100,
                search_lists: &search_list::QUICK,
            };
        }
        Self {
            quick,
            rounds,
            tries: 1,
            time: Duration::from_secs(2),
            rate: 20_000,
            // The last one is more than any machine sends.
            xdp_rates: &[25_000, 50_000, 100_000, 150_000, 200_000, 5_000_000],
            window: 1_000,
            queries: 5_000,
            misses: 1_000,
            entries: 10_000,
            live_entries: &[1_000, 100_000, 1_000_000],
            interfaces: 1_000,
            search_lists: &search_list::FULL,
        }
    }

    /// The loads of a round, in order.
    pub(super) fn loads(&self, round: u32) -> impl Iterator<Item = &'static Load> {
        let first = round == 1;
        loads::ALL.iter().filter(move |load| !load.once || first)
    }

    /// How many measurements there will be.
    pub(super) fn measurements(&self, running: &[Running]) -> usize {
        (1..=self.rounds)
            .flat_map(|round| self.loads(round))
            .map(|load| load.suitable(running.iter().map(|r| r.system)).len())
            .sum()
    }
}
