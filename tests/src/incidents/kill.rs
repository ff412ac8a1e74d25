//! SIGKILL, and a new agent some seconds later. Cached answers go on from the kernel, the rest takes the ordinary
//! path with the next packet; what the dead agent had in its hands is asked again by its clients.

use super::life::Life;
use super::report::{Report, seen};
use super::{Setting, grouped, of};

/// Packets that a death may cost.
const PROMISED: u64 = 20;

pub(super) fn run(setting: &Setting) -> Report {
    let rate = setting.rate.unwrap_or(setting.of(20_000, 2_000));
    let (seconds, killed, again) = setting.of((50, 10.0, 20.0), (4, 1.0, 2.5));
    let mut life = Life::start(&setting.agent(), rate, seconds);
    life.wait_until(killed);
    life.count();
    life.agent.kill9();
    life.wait_until(again);
    let entries = life.lab.node().conntrack().pod_dns().len();
    life.succeed(life.lab.agent(&setting.agent()));
    let mut ended = life.end();

    let mut report = ended.report(setting);
    ended.hits(&mut report);
    let (packets, unanswered) = ended.packets();
    report.agent_line(
        "packets unanswered",
        seen(of(unanswered, packets), unanswered <= PROMISED),
        "≤ 20 of 1,000,000",
    );
    report.agent_line(
        "entries of the ordinary path, while there is no agent",
        seen(grouped(entries as u64), entries > 0),
        "> 0",
    );
    let served = ended.handed();
    report.agent_line(
        "queries that the new agent was handed",
        seen(grouped(served), served > 0),
        "> 0",
    );
    report
}
