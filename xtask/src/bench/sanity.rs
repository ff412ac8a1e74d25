//! Whether a run's figures can be believed at all.

use std::process::ExitCode;

use super::report::{Report, Sample, undisturbed};

/// A system that loses more than this has not been measured, but overrun.
const MOST_LOST_PERCENT: f64 = 1.0;
/// Loads without a rate.
const FLAT_OUT: [&str; 3] = ["flat_out", "mixed", "storm"];

/// Says what is wrong; the exit status.
pub(super) fn verdict(report: &Report) -> ExitCode {
    let all: Vec<_> = report.samples.iter().collect();
    let faults = faults(report.quick, &undisturbed(&all));
    if faults.is_empty() {
        println!(
            "\nSound: every system answered, and none lost more than {MOST_LOST_PERCENT} % of the queries."
        );
        return ExitCode::SUCCESS;
    }
    println!("\nNOT SOUND:");
    for fault in faults {
        println!("- {fault}");
    }
    ExitCode::FAILURE
}

/// Flat out, a server with a small socket buffer loses what the generator's full window has too much: that is
/// marked, and a fault only in a quick run, whose window fits.
fn faults(quick: bool, samples: &[&Sample]) -> Vec<String> {
    let mut faults = Vec::new();
    for sample in samples {
        let place = format!("{}, {}, round {}", sample.system, sample.load, sample.round);
        for (key, value) in &sample.figures {
            let counts = quick || !FLAT_OUT.contains(&sample.load);
            if counts && key.ends_with(".lost_percent") && *value > MOST_LOST_PERCENT {
                faults.push(format!("{place}: {value:.2} % of the queries lost"));
            }
            if key.ends_with(".qps") && *value <= 0.0 {
                faults.push(format!("{place}: no answers"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sample(figures: &[(&'static str, f64)]) -> Sample {
        Sample {
            round: 1,
            load: "flat_out",
            system: "unbound",
            steal_percent: 0.0,
            others_percent: 0.0,
            figures: BTreeMap::from_iter(figures.iter().copied()),
            disturbed: false,
            remarks: Vec::new(),
            latencies: Vec::new(),
        }
    }

    #[test]
    fn losses_and_silence_are_faults() {
        let good = sample(&[("flat_out.qps", 9e4), ("flat_out.lost_percent", 0.9)]);
        assert_eq!(faults(true, &[&good]), Vec::<String>::new());
        let bad = sample(&[("flat_out.qps", 0.0), ("flat_out.lost_percent", 100.0)]);
        assert_eq!(faults(true, &[&bad]).len(), 2);
        assert_eq!(faults(false, &[&bad]).len(), 1);
    }
}
