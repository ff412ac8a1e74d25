//! The link-local address has no ordinary path. While the agent is dead, its packets go to the ClusterIP, and the answers
//! come back as if from it.

use super::report::{Report, seen};
use super::tcp;
use super::{Setting, grouped, of};
use crate::addresses::{Family, LINK_LOCAL};
use crate::lab::Lab;
use crate::load::{Load, Question};

pub(super) fn run(setting: &Setting) -> Report {
    let lab = Lab::builder().start();
    let agent = lab.agent(&setting.agent().with_link_local());
    let question = |number: u64| match number % 2 {
        0 => Question::service(number / 2),
        _ => Question::unique("l", number),
    };
    let (rate, count) = setting.of((2_000, 20_000), (500, 500));
    let load = |family| Load {
        fresh_ports: true,
        connected: false,
        attempts: 1,
        ..Load::new(LINK_LOCAL.dns(family), rate, count)
    };
    let warm = Load {
        attempts: 2,
        count: 200,
        ..load(Family::V4)
    };
    let warm = warm.run(lab.pod(0).netns(), Box::new(Question::service));
    assert_eq!(warm.failed(), 0, "a name could not be looked up beforehand");
    agent.kill9();

    let mut report = Report::default();
    for family in Family::BOTH {
        let outcome = load(family).run(lab.pod(0).netns(), Box::new(question));
        assert_eq!(outcome.wrong, [""; 0], "wrong answers");
        let answered = outcome.answered();
        report.agent_line(
            format!("answered, UDP {}", family.name()),
            seen(of(answered, count), answered == count),
            "all",
        );
        report.agent_line(
            format!("from another source, UDP {}", family.name()),
            seen(grouped(outcome.wrong_source), outcome.wrong_source == 0),
            "0",
        );
        let client = lab.pod(1).client(family).server(LINK_LOCAL.dns(family));
        let tcp = tcp::ask(&client, count / 10, &question);
        report.agent_line(
            format!("answered, TCP {}", family.name()),
            seen(of(tcp.right, tcp.asked), tcp.right == tcp.asked),
            "all",
        );
    }
    let entries = lab.node().conntrack().pod_dns().len();
    report.agent_line(
        "entries of the ordinary path",
        seen(grouped(entries as u64), entries > 0),
        "> 0",
    );
    report.note("The agent is dead all the time; half of the names were in its cache.");
    report
}
