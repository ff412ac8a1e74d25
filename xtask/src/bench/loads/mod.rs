//! The loads, a file each.

mod fixed_rate;
mod flat_out;
pub(super) mod memory;
mod misses;
mod mixed;
mod programs;
mod sequential;
mod storm;
mod xdp;

use std::collections::BTreeMap;

use anyhow::Result;

use super::marks::{self, Disturbance};
use super::plan::Plan;
use super::report::Sample;
use super::systems::{Running, System};
use super::{names, probe};

/// A load: what is done to a system, and which figures come out.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// How it is measured, for whoever reads the figures.
    pub(super) method: &'static str,
    /// In the first round only.
    pub(super) once: bool,
    needs: Needs,
    run: fn(&Context<'_>) -> Result<Measured>,
}

/// What a system must have for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// It resolves names.
    Names,
    /// It has tc programs.
    Programs,
}

/// All of them, in the order of a round.
pub(super) const ALL: [Load; 9] = [
    // The first of all, on fresh processes.
    memory::LOAD,
    flat_out::LOAD,
    xdp::LOAD,
    fixed_rate::LOAD,
    programs::LOAD,
    sequential::LOAD,
    misses::LOAD,
    mixed::LOAD,
    storm::LOAD,
];

/// What a load works with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    pub(super) system: &'a Running,
    /// What was measured before.
    pub(super) earlier: &'a [Sample],
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) figures: BTreeMap<&'static str, f64>,
    pub(super) remarks: Vec<String>,
    /// Share of the answers, in percent, and their time in µs.
    pub(super) latencies: Vec<(f64, f64)>,
}

impl Measured {
    pub(super) fn figure(&mut self, key: &'static str, value: f64) {
        self.figures.insert(key, value);
    }

    /// Notes queries without a right answer, and marks the round where they are many.
    pub(super) fn lost(&mut self, key: &'static str, percent: f64) {
        self.figure(key, percent);
        self.remarks.extend(marks::of_loss(percent));
    }
}

impl Load {
    /// Which of the systems it can be put on: their places among these.
    pub(super) fn suitable<'a>(&self, systems: impl Iterator<Item = &'a System>) -> Vec<usize> {
        let suits = |system: &System| match self.needs {
            Needs::Nothing => true,
            Needs::Names => system.resolves,
            Needs::Programs => system.programs,
        };
        let is_for_it = |system: &System| system.only.is_none_or(|load| load == self.key);
        let suitable = systems
            .enumerate()
            .filter(|(_, system)| is_for_it(system) && suits(system));
        suitable.map(|(index, _)| index).collect()
    }

    /// Puts it on the system once.
    pub(super) fn measure(
        &self,
        round: u32,
        attempt: u32,
        plan: &Plan,
        system: &Running,
        earlier: &[Sample],
    ) -> Result<Sample> {
        let context = Context {
            plan,
            system,
            earlier,
        };
        let (mut measured, disturbance) = Disturbance::during(|| (self.run)(&context))?;
        let remarks = disturbance.remarks();
        let disturbed = !remarks.is_empty();
        measured.remarks.extend(remarks);
        Ok(Sample {
            round,
            attempt,
            load: self.key,
            system: system.system.key,
            disturbance,
            figures: measured.figures,
            disturbed,
            remarks: measured.remarks,
            latencies: measured.latencies,
        })
    }
}

impl Context<'_> {
    /// Brings every cached name into the system's cache, with its whole TTL to live.
    fn warm(&self) -> Result<()> {
        let mut probe = self.probe()?;
        (0..names::CACHED).try_for_each(|index| probe.insist(&names::query(&names::cached(index))))
    }

    fn probe(&self) -> Result<probe::Probe> {
        probe::Probe::new(self.system.pod().netns(), self.system.server)
    }
}
