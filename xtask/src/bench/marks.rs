//! What makes a round unlike another: lost queries, the hypervisor, others on the machine. It is marked, not hidden.

use anyhow::Result;
use serde::Serialize;

use super::cpu::{Meter, Used};
use super::statistics::Summary;

/// From here on a round is marked for lost queries.
pub(super) const LOSS_PERCENT: f64 = 0.1;
/// From here on a round is marked for CPU time that the hypervisor took away.
const STEAL_PERCENT: f64 = 1.0;
/// From here on a round is marked for what else ran on the machine.
const OTHERS_PERCENT: f64 = 3.0;

/// A mark for queries without a right answer, where they are many.
pub(super) fn of_loss(percent: f64) -> Option<String> {
    (percent > LOSS_PERCENT).then(|| format!("{percent:.2} % of the queries lost"))
}

/// CPU time that was not there for a measurement, in percent of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Disturbance {
    pub(super) steal_percent: f64,
    pub(super) others_percent: f64,
}

impl Disturbance {
    /// What happens, and what disturbed it.
    pub(super) fn during<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        let meter = Meter::start(&[])?;
        let result = work()?;
        let Used {
            steal_percent,
            others_percent,
            ..
        } = meter.stop()?;
        let disturbance = Self {
            steal_percent,
            others_percent,
        };
        Ok((result, disturbance))
    }

    /// A mark for each of its kinds that is too much.
    pub(super) fn remarks(&self) -> Vec<String> {
        let Self {
            steal_percent,
            others_percent,
        } = self;
        let stolen = (*steal_percent > STEAL_PERCENT)
            .then(|| format!("{steal_percent:.1} % of the CPU time stolen"));
        let others = (*others_percent > OTHERS_PERCENT)
            .then(|| format!("other processes used {others_percent:.0} % of the CPU time"));
        stolen.into_iter().chain(others).collect()
    }
}

/// A value of one round, of what is measured beside the loads.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Taken {
    pub(super) round: u32,
    pub(super) value: f64,
    #[serde(flatten)]
    pub(super) disturbance: Disturbance,
    /// Someone else used the machine.
    pub(super) disturbed: bool,
    /// Why this is not a round like another.
    pub(super) remarks: Vec<String>,
}

impl Taken {
    /// What `measure` says, in this round.
    pub(super) fn new(round: u32, value: f64, disturbance: Disturbance) -> Self {
        let remarks = disturbance.remarks();
        Self {
            round,
            value,
            disturbance,
            disturbed: !remarks.is_empty(),
            remarks,
        }
    }

    /// Marked for these lost queries, if they are many.
    pub(super) fn lost(mut self, percent: f64) -> Self {
        self.remarks.extend(of_loss(percent));
        self
    }

    /// ` ← 5.0 % of the CPU time stolen`, or nothing.
    pub(super) fn marks(&self) -> String {
        if self.remarks.is_empty() {
            String::new()
        } else {
            format!("  ← {}", self.remarks.join("; "))
        }
    }
}

/// Over the rounds, without disturbed ones where there are others: as of the loads.
pub(super) fn summary(rounds: &[Taken]) -> Option<Summary> {
    let has_good = rounds.iter().any(|round| !round.disturbed);
    let used = rounds.iter().filter(|round| !round.disturbed || !has_good);
    Summary::of(&used.map(|round| round.value).collect::<Vec<_>>())
}

/// The star at a figure one of whose rounds is marked.
pub(super) fn star(rounds: &[Taken]) -> &'static str {
    if rounds.iter().any(|round| !round.remarks.is_empty()) {
        "*"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(value: f64, steal_percent: f64, others_percent: f64) -> Taken {
        let disturbance = Disturbance {
            steal_percent,
            others_percent,
        };
        Taken::new(1, value, disturbance)
    }

    #[test]
    fn what_is_too_much_is_marked() {
        assert_eq!(taken(1.0, 1.0, 3.0).marks(), "");
        assert_eq!(
            taken(1.0, 5.0, 40.0).lost(2.0).marks(),
            "  ← 5.0 % of the CPU time stolen; other processes used 40 % of the CPU time; 2.00 % of the queries lost"
        );
        // Losses say nothing of the machine.
        assert!(!taken(1.0, 0.0, 0.0).lost(2.0).disturbed);
        assert_eq!(of_loss(0.1), None);
    }

    #[test]
    fn disturbed_rounds_count_only_where_there_are_no_others() {
        let rounds = [taken(1.0, 0.0, 0.0), taken(9.0, 5.0, 0.0)];
        assert_eq!(summary(&rounds).map(|summary| summary.max), Some(1.0));
        assert_eq!(summary(&rounds[1..]).map(|summary| summary.max), Some(9.0));
        assert_eq!(summary(&[]), None);
        assert_eq!((star(&rounds), star(&rounds[..1])), ("*", ""));
    }
}
