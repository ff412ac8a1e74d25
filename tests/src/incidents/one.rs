//! INCIDENTS.md, 1. Two CoreDNS pods behind the ClusterIP; one falls silent: no RST, no ICMP. conntrack keeps a
//! source port at the pod that it was given first, and each retry comes from that port.

use std::time::Duration;

use super::report::{Report, seen, told};
use super::{PATIENCE, Setting, in_time, of, time};
use crate::addresses::{CLUSTER_IP, Family};
use crate::lab::Lab;
use crate::load::{Load, Outcome, Question};
use crate::or_panic::OrPanic;
use crate::pulse::Pulse;

/// For half of the lookups.
const WARM: u64 = 500;
const PROMISED: Duration = Duration::from_secs(1);

struct Measured {
    lookups: Outcome,
    /// A client that was told to be more patient: ten short attempts.
    stubborn: Outcome,
    /// Entries that wait for the silent pod.
    stuck: usize,
}

pub(super) fn run(setting: &Setting) -> Report {
    in_time(|| silenced(setting))
}

/// What was seen, and how late the machine was meanwhile.
fn silenced(setting: &Setting) -> (Report, Duration) {
    let lab = Lab::builder().start();
    let ordinary = silence(&lab, setting, "o");
    lab.node().conntrack().flush();
    let _agent = lab.agent(&setting.agent());
    let pulse = Pulse::start();
    let agent = silence(&lab, setting, "a");
    let late = pulse.end();

    let mut report = Report::default();
    let failed = |outcome: &Outcome| of(outcome.failed(), outcome.lookups.len() as u64);
    let about_half = |outcome: &Outcome| {
        let share = outcome.failed() as f64 / outcome.lookups.len() as f64;
        (0.3..0.7).contains(&share)
    };
    let (timeout, attempts) = PATIENCE;
    for (what, ordinary, agent) in [
        (
            format!(
                "lookups failed (timeout:{} attempts:{attempts})",
                timeout.as_secs_f32()
            ),
            &ordinary.lookups,
            &agent.lookups,
        ),
        (
            "lookups failed with attempts:10".to_owned(),
            &ordinary.stubborn,
            &agent.stubborn,
        ),
    ] {
        report.line(
            what,
            seen(failed(ordinary), about_half(ordinary)),
            seen(failed(agent), agent.failed() == 0),
            "0",
        );
    }
    let worst = agent.lookups.worst().max(agent.stubborn.worst());
    report.line(
        "the slowest answer",
        told(time(ordinary.lookups.worst())),
        seen(time(worst), worst < PROMISED),
        "< 1 s",
    );
    report.line(
        "[UNREPLIED] entries that stick to the silent pod",
        seen(ordinary.stuck.to_string(), ordinary.stuck > 0),
        seen(agent.stuck.to_string(), agent.stuck == 0),
        "0",
    );
    report.note(
        "Half of the names are cached, half are asked for once; each lookup has a port of its own.",
    );
    (report, late)
}

fn silence(lab: &Lab, setting: &Setting, tag: &'static str) -> Measured {
    let server = CLUSTER_IP.dns(Family::V4);
    let pods = [0, 1].map(|pod| lab.pod(pod).netns());
    for number in 0..WARM {
        let question = Question::service(number);
        let client = lab.pod(0).client(Family::V4);
        let asked = client.ask(crate::Transport::Connected, &question.query);
        asked.or_panic("a lookup before the silence");
    }
    let silent = &lab.dns().replicas()[1];
    silent.black_hole();
    let load = |rate, count, timeout, attempts| Load {
        timeout,
        attempts,
        fresh_ports: true,
        ..Load::new(server, rate, count)
    };
    let mixed = |tag: &'static str| {
        move |number: u64| match number % 2 {
            0 => Question::service(number / 2 % WARM),
            _ => Question::unique(tag, number),
        }
    };
    let (timeout, attempts) = PATIENCE;
    let (count, rate) = setting.of((10_000, 1_000), (300, 300));
    let second = Duration::from_secs(1);
    let stubborn = setting.of(load(100, 1_000, second, 10), load(100, 100, second / 2, 10));
    let stubborn = stubborn.start(
        pods[1],
        Box::new(mixed(match tag {
            "o" => "os",
            _ => "as",
        })),
    );
    let lookups = load(rate, count, timeout, attempts).run(pods[0], Box::new(mixed(tag)));
    let own = silent.pod().address(Family::V4);
    let entries = lab.node().conntrack().pod_dns();
    let stuck = |e: &&crate::conntrack::Entry| {
        e.reply.src == own && e.flags.iter().any(|flag| flag == "UNREPLIED")
    };
    let measured = Measured {
        lookups,
        stubborn: stubborn.end(),
        stuck: entries.iter().filter(stuck).count(),
    };
    silent.reachable();
    measured
}
