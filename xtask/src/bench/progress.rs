//! What is seen while it runs.

use std::time::{Duration, Instant};

use super::figures;
use super::loads::Load;
use super::plan::Plan;
use super::report::Sample;
use super::systems::Running;

/// Counts measurements, and guesses how long the rest takes.
#[derive(Debug)]
pub(super) struct Progress {
    all: usize,
    done: usize,
    start: Instant,
}

impl Progress {
    pub(super) fn new(all: usize) -> Self {
        Self {
            all,
            done: 0,
            start: Instant::now(),
        }
    }

    /// A measurement is done, however often it was taken.
    pub(super) fn done(&mut self) {
        self.done += 1;
    }

    /// A line for one that was just taken.
    pub(super) fn show(&self, plan: &Plan, load: &Load, system: &Running, sample: &Sample) {
        let left = self.left();
        let mut figures: Vec<_> = figures::ALL
            .iter()
            // What only explains is for the tables.
            .filter(|figure| !figure.key.contains(".direct_"))
            .filter_map(|figure| {
                let value = sample.figures.get(figure.key)?;
                Some(format!(
                    "{} {} {}",
                    figure.short,
                    figure.show(*value),
                    figure.unit
                ))
            })
            .collect();
        figures.extend(sample.remarks.iter().map(|remark| format!("← {remark}")));
        println!(
            "{:>3} of {}, {:>2}:{:02} left  round {} of {}  {:<32} {:<28} {}",
            self.done + 1,
            self.all,
            left.as_secs() / 60,
            left.as_secs() % 60,
            sample.round,
            plan.rounds,
            load.title,
            system.system.title,
            figures.join(", ")
        );
    }

    fn left(&self) -> Duration {
        let done = self.done + 1;
        let each = self.start.elapsed() / u32::try_from(done).unwrap_or(u32::MAX);
        each * u32::try_from(self.all.saturating_sub(done)).unwrap_or(u32::MAX)
    }
}
