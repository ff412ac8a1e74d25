//! dnsperf: as many queries a second as client and server can.

use std::path::Path;

use anyhow::{Context, Result};

use super::generator;
use super::plan::Plan;
use super::systems::Running;

/// What dnsperf said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(super) completed: u64,
    /// Answers with rcode NOERROR or NXDOMAIN.
    pub(crate) right: u64,
    pub(super) qps: f64,
}

impl Outcome {
    /// Queries without a right answer, in percent.
    pub(super) fn lost_percent(&self) -> f64 {
        if self.sent == 0 {
            100.0
        } else {
            self.sent.saturating_sub(self.right) as f64 / self.sent as f64 * 100.0
        }
    }
}

/// How it is called, for whoever reads the figures.
pub(super) fn arguments(plan: &Plan) -> [String; 10] {
    let (seconds, window) = (
        plan.time.as_secs().max(1).to_string(),
        plan.window.to_string(),
    );
    // A lost query keeps its place to the end of the run: a server whose socket holds less than the window
    // loses the difference once, and then has as much waiting as it can take.
    [
        "-c", "20", "-T", "2", "-q", &window, "-l", &seconds, "-t", &seconds,
    ]
    .map(str::to_owned)
}

/// Sends the questions of a file, again and again, from the system's pod.
pub(super) fn run(system: &Running, questions: &Path, plan: &Plan) -> Result<Outcome> {
    let server = system.server.ip().to_string();
    let questions = questions.to_str().context("the lab's folder is no UTF-8")?;
    let arguments = arguments(plan);
    let arguments = arguments.iter().map(String::as_str);
    let arguments = arguments.chain(["-s", &server, "-d", questions]);
    let log = generator::run(system.pod().netns(), "dnsperf", arguments, plan.time * 2)?;
    parse(&log).with_context(|| format!("dnsperf printed something else than statistics:\n{log}"))
}

pub(crate) fn parse(text: &str) -> Option<Outcome> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .map(str::trim)
    };
    let number = |name: &str| field(name)?.split_whitespace().next()?.parse::<f64>().ok();
    let completed = number("Queries completed:")? as u64;
    // Without an answer there is no such line.
    let right = field("Response codes:").map_or(Some(0), right)?;
    Some(Outcome {
        sent: number("Queries sent:")? as u64,
        completed,
        right,
        qps: number("Queries per second:")?,
    })
}

/// `NOERROR 12 (75.00%), NXDOMAIN 1 (6.25%), SERVFAIL 3 (18.75%)` → 13.
fn right(codes: &str) -> Option<u64> {
    codes
        .split(',')
        .filter_map(|code| {
            let code = code.trim();
            let count = code
                .strip_prefix("NOERROR ")
                .or_else(|| code.strip_prefix("NXDOMAIN "))?;
            Some(count.split_whitespace().next()?.parse::<u64>().ok())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 10.96.0.10
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         200010
  Queries completed:    200000 (99.99%)
  Queries lost:         10 (0.01%)

  Response codes:       NOERROR 199000 (99.50%), SERVFAIL 1000 (0.50%)
  Average packet size:  request 46, response 62
  Run time (s):         2.000123
  Queries per second:   99993.850378

  Average Latency (s):  0.009123 (min 0.000112, max 0.041234)
  Latency StdDev (s):   0.002012
";

    #[test]
    fn statistics_of_dnsperf() {
        let outcome = parse(TEXT).unwrap();
        assert_eq!(
            outcome,
            Outcome {
                sent: 200_010,
                completed: 200_000,
                right: 199_000,
                qps: 99_993.850_378
            }
        );
        assert!((outcome.lost_percent() - 0.504_97).abs() < 1e-4);
    }

    #[test]
    fn a_silent_server() {
        let text = "  Queries sent: 1000\n  Queries completed: 0 (0.00%)\n  Queries per second: 0.000000\n";
        let outcome = parse(text).unwrap();
        assert_eq!((outcome.right, outcome.lost_percent()), (0, 100.0));
    }

    #[test]
    fn something_else_is_no_outcome() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("Queries sent: x\nQueries completed: 1\n"), None);
        assert_eq!(right("SERVFAIL 5 (100.00%)"), Some(0));
        let codes = "NOERROR 12 (75.00%), NXDOMAIN 1 (6.25%), SERVFAIL 3 (18.75%)";
        assert_eq!(right(codes), Some(13));
        assert_eq!(right("NOERROR x"), None);
    }
}
