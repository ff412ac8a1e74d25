//! SIGSTOP for some seconds: sockets that nobody reads. The heartbeat of the answering path tells, and queries take
//! the ordinary path; afterwards the agent takes over again.

use std::time::Duration;

use super::life::Life;
use super::report::{Report, seen};
use super::{Setting, grouped, in_time, time};
use crate::load::Lookup;
use crate::pulse::Pulse;

const PROMISED: Duration = Duration::from_millis(600);
/// An answer that took so long has waited for the agent, or for a second try.
const WAITED: Duration = Duration::from_millis(600);

pub(super) fn run(setting: &Setting) -> Report {
    in_time(|| stopped(setting))
}

/// What was seen, and how late the machine was meanwhile.
fn stopped(setting: &Setting) -> (Report, Duration) {
    let rate = setting.rate.unwrap_or(setting.of(20_000, 2_000));
    let (seconds, stopped, resumed) = setting.of((20, 5.0, 10.0), (6, 1.0, 3.0));
    let life = Life::start(&setting.agent().soon_passed_by(), rate, seconds);
    life.wait_until(stopped);
    let before = life.agent.counters();
    let pulse = Pulse::start();
    life.agent.pause();
    let from = life.now();
    life.wait_until(resumed);
    let to = life.now();
    life.agent.resume();
    let late = pulse.end();
    let mut ended = life.end();

    let mut report = ended.report(setting);
    ended.hits(&mut report);
    let mut holes = Vec::new();
    for ((outcome, from), to) in ended.outcomes.iter().zip(from).zip(to) {
        let waited = |l: &&Lookup| l.unanswered > 0 || l.took.is_none_or(|took| took >= WAITED);
        let meanwhile = outcome
            .lookups
            .iter()
            .filter(|l| (from..to).contains(&l.sent));
        let last = meanwhile.filter(waited).map(|lookup| lookup.sent).max();
        holes.extend(last.map(|last| last - from));
    }
    let hole = holes.into_iter().max().unwrap_or_default();
    report.agent_line(
        "the last query that waited for it, after SIGSTOP",
        seen(time(hole), hole <= PROMISED),
        "≤ 600 ms",
    );
    let after = ended.agent.counters();
    let moved = |name| after.datapath(name) - before.datapath(name);
    let passed = moved("ordinary_wedged_udp");
    report.agent_line(
        "queries that passed it by",
        seen(grouped(passed), passed > 0),
        "> 0",
    );
    (report, late)
}
