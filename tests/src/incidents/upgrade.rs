//! Agents that take over from each other under load.

use super::life::{Ended, Life};
use super::report::{Report, seen, told};
use super::{Setting, grouped, of};
use crate::agent::Agent;

/// Ten times, and no packet is lost.
pub(super) fn run(setting: &Setting) -> Report {
    let (mut ended, mut report) = upgrades(setting, |_| {});
    ended.hits(&mut report);
    let (packets, unanswered) = ended.packets();
    report.agent_line(
        "packets unanswered",
        seen(of(unanswered, packets), unanswered == 0),
        "0 of 1,000,000",
    );
    report
}

/// Each agent finds maps of another layout. What is under way at that moment may be asked for again.
pub(super) fn across_layouts(setting: &Setting) -> Report {
    let (ended, mut report) = upgrades(setting, Agent::age_maps);
    let (packets, unanswered) = ended.packets();
    report.agent_line("packets unanswered", told(of(unanswered, packets)), "");
    report
}

fn upgrades(setting: &Setting, before: impl Fn(&Agent)) -> (Ended, Report) {
    let rate = setting.rate.unwrap_or(setting.of(20_000, 1_000));
    let (seconds, times) = setting.of((50, 10), (6, 2));
    let mut life = Life::start(&setting.agent(), rate, seconds);
    let pause = f64::from(seconds) / f64::from(times + 1);
    for time in 1..=times {
        life.wait_until(f64::from(time) * pause);
        life.count();
        before(&life.agent);
        let successor = life.lab.agent(&setting.agent());
        life.agent.assert_ends();
        life.succeed(successor);
    }
    let ended = life.end();

    let mut report = ended.report(setting);
    let entries = ended.lab.node().conntrack().pod_dns().len();
    report.agent_line(
        "entries of the ordinary path",
        seen(grouped(entries as u64), entries == 0),
        "0",
    );
    let served = ended.handed();
    report.agent_line(
        "queries that the last agent was handed",
        seen(grouped(served), served > 0),
        "> 0",
    );
    report.agent_line("upgrades", told(times.to_string()), "10");
    (ended, report)
}
