//! The agent is ended and removed, as an operator would: everything takes the ordinary path from there on.

use super::life::Life;
use super::report::{Report, seen};
use super::{Setting, grouped};

pub(super) fn run(setting: &Setting) -> Report {
    // What CoreDNS takes on two cores that it shares with its clients.
    let rate = setting.rate.unwrap_or(setting.of(5_000, 1_000));
    let (seconds, detached) = setting.of((20, 5.0), (3, 1.0));
    let life = Life::start(&setting.agent(), rate, seconds);
    life.wait_until(detached);
    life.agent.stop();
    life.agent.detach();
    let ended = life.end();

    let mut report = ended.report(setting);
    let entries = ended.lab.node().conntrack().pod_dns().len();
    report.agent_line(
        "entries of the ordinary path afterwards",
        seen(grouped(entries as u64), entries > 0),
        "> 0",
    );
    report
}
