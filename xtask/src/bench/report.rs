//! All that a run found out: the raw numbers and what is made of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::figures::{self, Figure};
use super::live::Live;
use super::loads;
use super::machine::Machine;
use super::marks::{Disturbance, Taken};
use super::micro::{Micro, Record};
use super::plan::Plan;
use super::search_list::Cost;
use super::stages::LiveStage;
use super::standing_start::StandingStart;
use super::statistics::{self, Summary};
use super::systems::Running;
use super::targets::Target;

/// One load on one system in one round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    /// 1, and more where it was taken anew: at the end of its sweep, where it may follow itself.
    pub(super) attempt: u32,
    pub(super) load: &'static str,
    pub(super) system: &'static str,
    #[serde(flatten)]
    pub(super) disturbance: Disturbance,
    pub(super) figures: BTreeMap<&'static str, f64>,
    /// Someone else used the machine.
    pub(super) disturbed: bool,
    /// Why this is not a round like another.
    pub(super) remarks: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) latencies: Vec<(f64, f64)>,
}

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) quick: bool,
    pub(super) rounds: u32,
    pub(super) seconds_per_load: f64,
    pub(super) fixed_rate_qps: u32,
    /// Its arguments but for server and names.
    pub(super) dnsperf: String,
    pub(super) systems: Vec<Measured>,
    /// Those that explain others' figures.
    pub(super) explaining: Vec<Measured>,
    pub(super) loads: Vec<Method>,
    pub(super) figures: Vec<Figure>,
    pub(super) not_measured: Vec<String>,
    pub(super) targets: Vec<Target>,
    pub(super) search_lists: Vec<Cost>,
    pub(super) live: Vec<Live>,
    pub(super) standing_starts: Vec<StandingStart>,
    pub(super) stages: Vec<LiveStage>,
    /// Test runs.
    pub(super) micro: Option<Micro>,
    /// The last ones on this machine and kernel.
    pub(super) micro_before: Option<Record>,
    /// In the order in which they were taken.
    pub(super) samples: Vec<Sample>,
}

/// A system and its figures.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) short: &'static str,
    pub(super) about: &'static str,
    pub(super) version: String,
    pub(super) summaries: BTreeMap<&'static str, Summary>,
    /// The median over the rounds for each share of answers, in percent: µs.
    pub(super) latencies: Vec<(f64, f64)>,
    /// Rounds with a mark, by load.
    pub(super) marked: BTreeMap<&'static str, Vec<u32>>,
}

/// How a load was measured.
#[derive(Debug, Serialize)]
pub(super) struct Method {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) method: &'static str,
}

impl Report {
    pub(super) fn new(plan: &Plan, running: &[Running], samples: Vec<Sample>) -> Self {
        let explains = |running: &&Running| running.system.only.is_some();
        let (explaining, shown): (Vec<_>, Vec<_>) = running.iter().partition(explains);
        let measured = |running: Vec<&Running>| -> Vec<_> {
            let all = running.into_iter();
            all.map(|system| Measured::of(system, &samples)).collect()
        };
        let (explaining, systems) = (measured(explaining), measured(shown));
        let not_measured = missing(&systems);
        Self {
            machine: Machine::this(),
            quick: plan.quick,
            rounds: plan.rounds,
            seconds_per_load: plan.time.as_secs_f64(),
            fixed_rate_qps: plan.rate,
            dnsperf: super::dnsperf::arguments(plan).join(" "),
            systems,
            explaining,
            loads: loads::ALL
                .iter()
                .map(|load| Method {
                    key: load.key,
                    title: load.title,
                    method: load.method,
                })
                .collect(),
            figures: figures::ALL.to_vec(),
            not_measured,
            targets: Vec::new(),
            search_lists: Vec::new(),
            live: Vec::new(),
            standing_starts: Vec::new(),
            stages: Vec::new(),
            micro: None,
            micro_before: None,
            samples,
        }
    }

    /// A system's median.
    pub(super) fn median(&self, system: &str, figure: &str) -> Option<f64> {
        let mut systems = self.systems.iter().chain(&self.explaining);
        let system = systems.find(|measured| measured.key == system)?;
        Some(system.summaries.get(figure)?.median)
    }

    /// The figures that some system has.
    pub(super) fn shown(&self) -> Vec<&'static Figure> {
        figures::ALL
            .iter()
            .filter(|figure| {
                let mut systems = self.systems.iter();
                systems.any(|system| system.summaries.contains_key(figure.key))
            })
            .collect()
    }

    /// Those of them whose ratio says something.
    pub(super) fn comparable(&self) -> Vec<&'static Figure> {
        let mut figures = self.shown();
        figures.retain(|figure| figure.compared);
        figures
    }

    /// Rounds of what is measured beside the loads: what, its unit, and a round of it.
    pub(super) fn others(&self) -> Vec<(String, &'static str, &Taken)> {
        let mut others = Vec::new();
        for live in &self.live {
            let what = format!("hits under load, {} entries", live.entries);
            others.extend(live.rounds.iter().map(|round| (what.clone(), "ns", round)));
        }
        for stage in &self.stages {
            let what = format!("stages under load, {}", stage.name);
            others.extend(stage.rounds.iter().map(|round| (what.clone(), "ns", round)));
        }
        for start in &self.standing_starts {
            let (attach, interfaces) = (start.attach, start.interfaces);
            let what = format!("standing start, {attach}, {interfaces} interfaces");
            others.extend(start.rounds.iter().map(|round| (what.clone(), "ms", round)));
        }
        others
    }

    /// Every mark: where, and why.
    pub(super) fn marks(&self) -> Vec<String> {
        let samples = self.samples.iter().map(|sample| {
            let attempt = match sample.attempt {
                1 => String::new(),
                attempt => format!(", attempt {attempt}"),
            };
            let (round, load, system) = (sample.round, sample.load, sample.system);
            let place = format!("round {round}{attempt}, {load}, {system}");
            (place, &sample.remarks)
        });
        let others = self.others().into_iter().map(|(what, _, taken)| {
            let place = format!("round {}, {what}", taken.round);
            (place, &taken.remarks)
        });
        let costs = self.search_lists.iter().map(|cost| {
            let place = format!("search lists, {}, {}", cost.workload, cost.system);
            (place, &cost.remarks)
        });
        let micro = self.micro.iter();
        let micro = micro.map(|micro| ("test runs".to_owned(), &micro.remarks));
        let all = samples.chain(others).chain(costs).chain(micro);
        all.filter(|(_, remarks)| !remarks.is_empty())
            .map(|(place, remarks)| format!("{place}: {}", remarks.join("; ")))
            .collect()
    }

    /// The system that the others are compared with: dns-cache, or the first.
    pub(super) fn base(&self) -> Option<&Measured> {
        let own = self
            .systems
            .iter()
            .find(|system| system.key.starts_with("dns-cache"));
        own.or(self.systems.first())
    }

    /// `base`'s median over another system's.
    pub(super) fn ratio(&self, figure: &Figure, other: &Measured) -> Option<f64> {
        let value = |system: &Measured| system.summaries.get(figure.key).map(|s| s.median);
        let other = value(other)?;
        (figure.compared && other > 0.0).then_some(value(self.base()?)? / other)
    }
}

/// A ratio as people read it: what is small has two digits that say something.
pub(super) fn show_ratio(ratio: f64) -> String {
    let digits = match ratio {
        ratio if ratio >= 100.0 => 0,
        ratio if ratio >= 0.1 => 2,
        ratio if ratio >= 0.01 => 3,
        _ => 4,
    };
    format!("{ratio:.digits$}")
}

impl Measured {
    fn of(running: &Running, samples: &[Sample]) -> Self {
        let system = running.system;
        let own: Vec<_> = latest(samples)
            .into_iter()
            .filter(|sample| sample.system == system.key)
            .collect();
        let mut marked: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for sample in own.iter().filter(|sample| !sample.remarks.is_empty()) {
            marked.entry(sample.load).or_default().push(sample.round);
        }
        let own = undisturbed(&own);
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (key, value) in own.iter().flat_map(|sample| &sample.figures) {
            values.entry(key).or_default().push(*value);
        }
        values.insert(figures::CPU, cpu(&own));
        Self {
            key: system.key,
            title: system.title,
            short: system.short,
            about: system.about,
            version: running.version.clone(),
            summaries: values
                .into_iter()
                .filter_map(|(key, values)| Some((key, Summary::of(&values)?)))
                .collect(),
            latencies: latencies(&own),
            marked,
        }
    }

    /// Whether a round of this figure's load carries a mark.
    pub(super) fn is_marked(&self, figure: &Figure) -> bool {
        let mut loads = figure.loads().into_iter();
        loads.any(|load| self.marked.contains_key(load))
    }
}

/// The last measurement of each round: earlier ones were taken anew.
pub(super) fn latest(samples: &[Sample]) -> Vec<&Sample> {
    let same = |a: &Sample, b: &Sample| (a.round, a.load, a.system) == (b.round, b.load, b.system);
    let last = samples.iter().enumerate().filter(|(index, sample)| {
        let later = &samples[index + 1..];
        !later.iter().any(|other| same(sample, other))
    });
    last.map(|(_, sample)| sample).collect()
}

/// Without the rounds in which someone else used the machine, for each load and system that has others. What decides is
/// not the outcome, so the choice favours nobody.
pub(super) fn undisturbed<'a>(samples: &[&'a Sample]) -> Vec<&'a Sample> {
    let has_good = |of: &Sample| {
        samples
            .iter()
            .any(|sample| sample.load == of.load && sample.system == of.system && !sample.disturbed)
    };
    samples
        .iter()
        .filter(|sample| !sample.disturbed || !has_good(sample))
        .copied()
        .collect()
}

/// [`figures::CPU`] of each round that has all its parts which the system has: a server without programs has none of
/// theirs, and the kernel no process. Where none of the rounds has all, it is the sum of the medians.
fn cpu(samples: &[&Sample]) -> Vec<f64> {
    let mut rounds: BTreeMap<u32, BTreeMap<&str, f64>> = BTreeMap::new();
    for sample in samples {
        for part in figures::CPU_PARTS {
            if let Some(value) = sample.figures.get(part) {
                rounds.entry(sample.round).or_default().insert(part, *value);
            }
        }
    }
    let parts: BTreeSet<_> = rounds.values().flat_map(BTreeMap::keys).collect();
    let whole = rounds.values().filter(|round| round.len() == parts.len());
    let sums: Vec<f64> = whole.map(|round| round.values().sum()).collect();
    if !sums.is_empty() || parts.is_empty() {
        return sums;
    }
    let median_of = |part: &&str| {
        let values = rounds.values().filter_map(|round| round.get(*part));
        statistics::median(&values.copied().collect::<Vec<_>>())
    };
    vec![parts.iter().filter_map(|part| median_of(part)).sum()]
}

fn latencies(samples: &[&Sample]) -> Vec<(f64, f64)> {
    let curves: Vec<_> = samples
        .iter()
        .map(|sample| &sample.latencies)
        .filter(|curve| !curve.is_empty())
        .collect();
    let Some(first) = curves.first() else {
        return Vec::new();
    };
    first
        .iter()
        .enumerate()
        .filter_map(|(index, (share, _))| {
            let values: Vec<_> = curves
                .iter()
                .filter_map(|curve| Some(curve.get(index)?.1))
                .collect();
            Some((*share, statistics::median(&values)?))
        })
        .collect()
}

fn missing(systems: &[Measured]) -> Vec<String> {
    figures::ALL
        .iter()
        .filter(|figure| {
            !systems
                .iter()
                .any(|system| system.summaries.contains_key(figure.key))
        })
        .map(|figure| figure.title.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(load: &'static str, round: u32, disturbed: bool) -> Sample {
        Sample {
            round,
            attempt: 1,
            load,
            system: "unbound",
            disturbance: Disturbance::default(),
            figures: BTreeMap::new(),
            disturbed,
            remarks: Vec::new(),
            latencies: Vec::new(),
        }
    }

    #[test]
    fn cpu_time_is_the_sum_of_its_parts_in_a_round() {
        let of = |load, round, key, value| Sample {
            figures: BTreeMap::from([(key, value)]),
            ..sample(load, round, false)
        };
        let process = |round, value| of("fixed_rate", round, figures::CPU_PARTS[0], value);
        let programs = |round, value| of("programs", round, figures::CPU_PARTS[1], value);
        let both = [
            process(1, 0.25),
            programs(1, 1.0),
            process(2, 0.5),
            // The programs' part of round 2 was disturbed, or lost.
            programs(3, 7.0),
            process(4, 0.5),
            programs(4, 2.0),
        ];
        assert_eq!(cpu(&both.iter().collect::<Vec<_>>()), [1.25, 2.5]);
        assert_eq!(cpu(&[&process(1, 20.0), &process(2, 30.0)]), [20.0, 30.0]);
        assert_eq!(cpu(&[&programs(1, 0.5)]), [0.5]);
        assert_eq!(cpu(&[]), [0.0; 0]);
        let apart = [process(1, 0.25), process(2, 0.75), programs(3, 7.0)];
        assert_eq!(cpu(&apart.iter().collect::<Vec<_>>()), [7.5]);
    }

    #[test]
    fn small_ratios_say_something() {
        let shown = [579.54, 8.981, 0.2351, 0.0241, 0.0016].map(show_ratio);
        assert_eq!(shown, ["580", "8.98", "0.24", "0.024", "0.0016"]);
    }

    #[test]
    fn what_was_taken_anew_counts_once() {
        let again = Sample {
            attempt: 2,
            ..sample("a", 1, false)
        };
        let samples = [sample("a", 1, true), sample("b", 1, false), again];
        let attempts = latest(&samples);
        let attempts: Vec<_> = attempts.iter().map(|s| (s.load, s.attempt)).collect();
        assert_eq!(attempts, [("b", 1), ("a", 2)]);
    }

    #[test]
    fn disturbed_rounds_count_only_where_there_are_no_others() {
        let samples = [
            sample("a", 1, true),
            sample("a", 2, false),
            sample("b", 1, true),
        ];
        let all: Vec<_> = samples.iter().collect();
        let used: Vec<_> = undisturbed(&all)
            .iter()
            .map(|sample| (sample.load, sample.round))
            .collect();
        assert_eq!(used, [("a", 2), ("b", 1)]);
    }
}
