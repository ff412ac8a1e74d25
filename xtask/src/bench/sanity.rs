//! Whether a run's figures can be believed at all.

use std::process::ExitCode;

use super::live::Live;
use super::loads::memory::FEWEST_HELD_PERCENT;
use super::marks;
use super::report::{Report, Sample, latest, undisturbed};
use super::search_list::Cost;
use super::stages::LiveStage;
use super::standing_start::{self, StandingStart};

/// Below its limits, a system that loses more than this has not been measured.
const MOST_LOST_PERCENT: f64 = 1.0;
/// Flat out, a server whose socket is full loses queries: that is marked. More than this is no overrun.
const MOST_LOST_FLAT_OUT_PERCENT: f64 = 10.0;
/// Loads without a rate.
const FLAT_OUT: [&str; 3] = ["flat_out", "mixed", "storm"];
/// With NXDOMAIN cuts, the cluster's CoreDNS is asked less than this for a look-up by a search list.
const MOST_UPSTREAM: f64 = 0.2;
/// Among fewer hits, it is misses that were measured.
const FEWEST_HITS_PERCENT: f64 = 99.0;

/// Says what was taken anew, and what is wrong; the exit status.
pub(super) fn verdict(report: &Report) -> ExitCode {
    let limits = Limits {
        quick: report.quick,
    };
    let again = retries(&report.samples, limits);
    if !again.is_empty() {
        println!("\nTaken anew:");
    }
    for retry in again {
        println!("- {retry}");
    }
    let mut faults = faults(&report.samples, limits);
    faults.extend(repeats(&report.samples));
    let costs = report.search_lists.iter();
    faults.extend(costs.filter_map(|cost| fault_of(cost, limits)));
    let live = report.live.iter();
    faults.extend(live.filter_map(|live| fault_of_live(live, limits)));
    faults.extend(report.standing_starts.iter().filter_map(fault_of_start));
    faults.extend(report.stages.iter().filter_map(fault_of_stage));
    if faults.is_empty() {
        let own = limits.below(OWN);
        println!(
            "\nSound: every system answered; dns-cache lost no more than {own} % of the queries below its limits, and none of the others more than {MOST_LOST_PERCENT} %."
        );
        return ExitCode::SUCCESS;
    }
    println!("\nNOT SOUND:");
    for fault in faults {
        println!("- {fault}");
    }
    ExitCode::FAILURE
}

/// What may be lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The loads of a quick run are below everybody's limits.
    pub(super) quick: bool,
}

/// How the keys of our own systems begin.
const OWN: &str = "dns-cache";

impl Limits {
    /// In percent, in a load that a system can bear.
    fn below(self, system: &str) -> f64 {
        if self.quick && system.starts_with(OWN) {
            marks::LOSS_PERCENT
        } else {
            MOST_LOST_PERCENT
        }
    }

    /// In percent, in this load.
    fn of(self, load: &str, system: &str) -> f64 {
        let is_ours = self.quick && system.starts_with(OWN);
        if FLAT_OUT.contains(&load) && !is_ours {
            MOST_LOST_FLAT_OUT_PERCENT
        } else {
            self.below(system)
        }
    }
}

/// What was measured once more, and why.
fn retries(samples: &[Sample], limits: Limits) -> Vec<String> {
    let same = |a: &Sample, b: &Sample| (a.round, a.load, a.system) == (b.round, b.load, b.system);
    let again = samples.iter().filter(|sample| sample.attempt > 1);
    again
        .map(|sample| {
            let before = samples
                .iter()
                .find(|other| same(sample, other) && other.attempt + 1 == sample.attempt);
            // What failed altogether is no sample.
            let why = before.map_or_else(
                || "it failed".to_owned(),
                |before| faults_of(before, limits).join("; "),
            );
            let Sample {
                system,
                load,
                round,
                attempt,
                ..
            } = sample;
            format!("{system}, {load}, round {round}, attempt {attempt}: {why}")
        })
        .collect()
}

/// What is wrong with the last measurement of each round: earlier ones were taken anew.
fn faults(samples: &[Sample], limits: Limits) -> Vec<String> {
    let mut faults = Vec::new();
    for sample in undisturbed(&latest(samples)) {
        let place = format!("{}, {}, round {}", sample.system, sample.load, sample.round);
        faults.extend(
            faults_of(sample, limits)
                .iter()
                .map(|fault| format!("{place}: {fault}")),
        );
    }
    faults
}

/// Systems that were measured twice in a row: the second time on caches, in processor and kernel, that the first had
/// warmed. One that was alone in its sweep, or taken anew, had no other that could go before.
fn repeats(samples: &[Sample]) -> Vec<String> {
    let is_alone = |of: &Sample| {
        let mut others = samples.iter().filter(|other| other.system != of.system);
        !others.any(|other| (other.round, other.load, other.attempt) == (of.round, of.load, 1))
    };
    let pairs = samples.windows(2).filter_map(|pair| {
        let [first, second] = pair else { return None };
        let repeated = first.system == second.system && second.attempt == 1;
        (repeated && !is_alone(second)).then(|| {
            format!(
                "{}, {}, round {}: measured just before, too",
                second.system, second.load, second.round
            )
        })
    });
    pairs.collect()
}

/// What is wrong with a measurement.
pub(super) fn faults_of(sample: &Sample, limits: Limits) -> Vec<String> {
    let most = limits.of(sample.load, sample.system);
    let mut faults = Vec::new();
    for (key, value) in &sample.figures {
        if key.ends_with(".lost_percent") && *value > most {
            faults.push(format!("{value:.2} % of the queries lost"));
        }
        let is_ours = sample.system.starts_with(OWN);
        if is_ours && *key == "memory.held_percent" && *value < FEWEST_HELD_PERCENT {
            faults.push(format!("{value:.1} % of the entries held"));
        }
        if (key.ends_with(".qps") || key.ends_with(".replies")) && *value <= 0.0 {
            faults.push("no answers".to_owned());
        }
    }
    faults
}

fn fault_of(cost: &Cost, limits: Limits) -> Option<String> {
    let place = format!("{}, search lists, {}", cost.system, cost.workload);
    let (failed, coredns) = (cost.failed, cost.coredns);
    if failed as f64 > cost.lookups as f64 * limits.below(cost.system) / 100.0 {
        return Some(format!(
            "{place}: {failed} of {} look-ups failed",
            cost.lookups
        ));
    }
    let upstream = cost.system == "dns-cache-kernel" && coredns >= MOST_UPSTREAM;
    upstream.then(|| format!("{place}: {coredns:.2} queries to CoreDNS a look-up"))
}

/// Something else than hits was measured, or not all of them.
fn fault_of_live(live: &Live, limits: Limits) -> Option<String> {
    let Live {
        entries,
        hit_percent,
        lost_percent,
        ..
    } = live;
    let place = format!("hits among {entries} entries");
    if *lost_percent > limits.below(OWN) {
        return Some(format!("{place}: {lost_percent:.2} % of the queries lost"));
    }
    (*hit_percent < FEWEST_HITS_PERCENT)
        .then(|| format!("{place}: the kernel answered only {hit_percent:.1} % of the queries"))
}

/// A name whose place in the full cache another one has is none of a hit; more than these, and it is not the program
/// that was measured.
fn fault_of_stage(stage: &LiveStage) -> Option<String> {
    let LiveStage {
        name, lost_percent, ..
    } = stage;
    (*lost_percent > MOST_LOST_PERCENT)
        .then(|| format!("stages under load, {name}: {lost_percent:.1} % of the queries lost"))
}

/// Another way to attach was measured, or not all interfaces were.
fn fault_of_start(start: &StandingStart) -> Option<String> {
    let StandingStart {
        attach,
        interfaces,
        mechanisms,
        ..
    } = start;
    let is_other = |name: &str| attach != &standing_start::DEFAULT && attach != &name;
    let attached: usize = mechanisms.values().sum();
    (attached != *interfaces || mechanisms.keys().any(|name| is_other(name)))
        .then(|| format!("{interfaces} interfaces, attach: {attach}: it was {mechanisms:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::marks::Disturbance;
    use crate::bench::statistics::Summary;

    const FULL: Limits = Limits { quick: false };
    const QUICK: Limits = Limits { quick: true };

    fn sample(load: &'static str, figures: &[(&'static str, f64)]) -> Sample {
        Sample {
            round: 1,
            attempt: 1,
            load,
            system: "unbound",
            disturbance: Disturbance::default(),
            figures: BTreeMap::from_iter(figures.iter().copied()),
            disturbed: false,
            remarks: Vec::new(),
            latencies: Vec::new(),
        }
    }

    #[test]
    fn losses_and_silence_are_faults() {
        let good = sample(
            "flat_out",
            &[("flat_out.qps", 9e4), ("flat_out.lost_percent", 0.9)],
        );
        assert_eq!(faults(&[good], FULL), Vec::<String>::new());
        let bad = sample(
            "flat_out",
            &[("flat_out.qps", 0.0), ("flat_out.lost_percent", 100.0)],
        );
        assert_eq!(faults(&[bad], FULL).len(), 2);
    }

    #[test]
    fn a_cache_that_holds_less_is_a_fault_of_ours() {
        let held = |system, percent| Sample {
            system,
            ..sample("memory", &[("memory.held_percent", percent)])
        };
        let faults = |system, percent| faults_of(&held(system, percent), FULL).len();
        let own = "dns-cache-kernel";
        assert_eq!((faults(own, 99.0), faults(own, 90.0)), (0, 1));
        assert_eq!(faults("node-local-dns", 90.0), 0);
    }

    #[test]
    fn flat_out_an_overrun_is_none() {
        let overrun = |load| faults_of(&sample(load, &[("x.lost_percent", 2.0)]), FULL).len();
        assert_eq!((overrun("flat_out"), overrun("fixed_rate")), (0, 1));
    }

    #[test]
    fn the_same_system_twice_in_a_row_is_a_fault() {
        let of = |load, system, attempt| Sample {
            system,
            attempt,
            ..sample(load, &[])
        };
        let good = [
            of("a", "x", 1),
            of("a", "y", 1),
            of("a", "y", 2),
            of("b", "x", 1),
            of("b", "y", 1),
            of("c", "y", 1),
        ];
        assert_eq!(repeats(&good), Vec::<String>::new());
        let bad = [
            of("a", "x", 1),
            of("a", "y", 1),
            of("b", "y", 1),
            of("b", "x", 1),
        ];
        assert_eq!(repeats(&bad).len(), 1);
    }

    #[test]
    fn a_quick_run_allows_next_to_no_loss_of_ours() {
        let lost = |system, load, percent, limits| {
            let sample = Sample {
                system,
                ..sample(load, &[("x.lost_percent", percent)])
            };
            faults_of(&sample, limits).len()
        };
        let (own, other) = ("dns-cache-userspace", "unbound");
        for load in ["flat_out", "fixed_rate"] {
            assert_eq!(lost(own, load, 0.1, QUICK), 0, "{load}");
            assert_eq!(lost(own, load, 0.11, QUICK), 1, "{load}");
            assert_eq!(lost(other, load, 0.5, QUICK), 0, "{load}");
            assert_eq!(lost(own, load, 0.5, FULL), 0, "{load}");
        }
        assert_eq!(lost(other, "fixed_rate", 1.1, QUICK), 1);
    }

    #[test]
    fn what_is_taken_anew_is_said() {
        let first = sample("fixed_rate", &[("fixed_rate.lost_percent", 5.0)]);
        let second = Sample {
            attempt: 2,
            ..sample("fixed_rate", &[])
        };
        let failed = Sample {
            attempt: 2,
            ..sample("storm", &[])
        };
        assert_eq!(
            retries(&[first, second, failed], QUICK),
            [
                "unbound, fixed_rate, round 1, attempt 2: 5.00 % of the queries lost",
                "unbound, storm, round 1, attempt 2: it failed"
            ]
        );
    }

    #[test]
    fn another_way_to_attach_is_a_fault() {
        let start = |attach, mechanisms: &[(&str, usize)]| {
            let mechanisms = mechanisms
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            fault_of_start(&StandingStart {
                attach,
                interfaces: 10,
                mechanisms: mechanisms.collect(),
                rounds: Vec::new(),
                millis: Summary::of(&[1.0]).unwrap(),
            })
        };
        let both = [("clsact", 9), ("tcx", 1)];
        assert_eq!(
            (start("auto", &both), start("tcx", &[("tcx", 10)])),
            (None, None)
        );
        assert!(start("tcx", &both).is_some() && start("auto", &[("tcx", 9)]).is_some());
    }

    #[test]
    fn the_last_try_of_a_round_counts() {
        let tried = |lost| sample("fixed_rate", &[("fixed_rate.lost_percent", lost)]);
        assert_eq!(faults(&[tried(5.0), tried(0.0)], FULL).len(), 0);
        assert_eq!(faults(&[tried(0.0), tried(5.0)], FULL).len(), 1);
    }
}
