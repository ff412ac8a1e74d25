//! INCIDENTS.md, 3. An answer reaches the client from the CoreDNS pod's own address: conntrack has not translated it
//! back. The client discards it and the lookup fails, although the server replied.
//!
//! In IPVS mode a race brings that about. Here, where the kernel has no IPVS, a rule does: what one of the two pods
//! answers over UDP is exempt from conntrack.

use std::process::Command;
use std::thread;
use std::time::Duration;

use super::report::{Report, seen, told};
use super::tcp::{self, Answered};
use super::{PATIENCE, Setting, of};
use crate::addresses::{CLUSTER_IP, Family};
use crate::lab::Lab;
use crate::load::{Load, Outcome, Question};
use crate::or_panic::OrPanic;
use crate::{tools, zones};

/// One name in so many is asked for once.
const MISSES: u64 = 20;

struct Measured {
    /// By family.
    udp: [Outcome; 2],
    tcp: [Answered; 2],
    musl: Answered,
}

pub(super) fn run(setting: &Setting) -> Report {
    let lab = Lab::builder().start();
    untranslated(&lab);
    let hasty = Duration::from_secs(1);
    let ordinary = measure(&lab, "o", hasty, 2_000, setting.of(20_000, 400), 20);
    lab.node().conntrack().flush();
    let alive = lab.agent(&setting.agent());
    let rate = setting.of(5_000, 2_000);
    let agent = measure(
        &lab,
        "a",
        PATIENCE.0,
        rate,
        setting.of(1_000_000, 8_000),
        setting.of(1_000, 100),
    );

    let mut report = Report::default();
    report.elsewhere(&ordinary.udp, &agent.udp);
    let wrong: u64 = agent.udp.iter().map(|udp| udp.wrong_source).sum();
    let mut received = wrong + agent.udp.iter().map(Outcome::answered).sum::<u64>();
    let lost = |of: Answered| of.asked - of.right;
    for (index, family) in Family::BOTH.into_iter().enumerate() {
        let (ordinary, agent) = (ordinary.tcp[index], agent.tcp[index]);
        report.line(
            format!("lookups failed, TCP {}", family.name()),
            told(of(lost(ordinary), ordinary.asked)),
            seen(of(lost(agent), agent.asked), lost(agent) == 0),
            "0",
        );
        received += agent.right;
    }
    report.failed("lookups failed, UDP", &ordinary.udp, &agent.udp);
    report.line(
        "lookups failed, musl's getaddrinfo",
        seen(
            of(lost(ordinary.musl), ordinary.musl.asked),
            lost(ordinary.musl) > 0,
        ),
        seen(
            of(lost(agent.musl), agent.musl.asked),
            lost(agent.musl) == 0,
        ),
        "0",
    );
    let passed = |name| alive.counters().datapath(name);
    let passed = passed("ordinary_wedged_udp") + passed("ordinary_wedged_tcp");
    report.agent_line(
        "queries that passed by an agent that had no time for them",
        seen(passed.to_string(), passed == 0),
        "0",
    );
    report.note(format!(
        "With dns-cache {} answers came from elsewhere than was asked; one name in {MISSES} was in no cache.",
        of(wrong, received)
    ));
    report.note(
        "In the post-mortem a race in IPVS, which this kernel may lack, left answers untranslated. Here a rule does \
         (NOTRACK on what one of two pods answers over UDP): the client gets them from the pod's own address, as then.",
    );
    report
}

/// From now on answers of the second replica are not translated back.
fn untranslated(lab: &Lab) {
    let replica = lab.dns().replicas()[1].pod();
    for (program, family) in [("iptables", Family::V4), ("ip6tables", Family::V6)] {
        let own = replica.address(family).to_string();
        let rule = [
            "-t",
            "raw",
            "-A",
            "PREROUTING",
            "-s",
            &own,
            "-p",
            "udp",
            "--sport",
            "53",
            "-j",
            "CT",
            "--notrack",
        ];
        lab.node().netns().succeed(Command::new(program).args(rule));
    }
}

/// So many answers in all: nine of ten over UDP.
fn measure(
    lab: &Lab,
    tag: &'static str,
    timeout: Duration,
    rate: u32,
    answers: u64,
    musl: u16,
) -> Measured {
    let (_, attempts) = PATIENCE;
    let question = |tag: &'static str| {
        move |number: u64| match number % MISSES {
            0 => Question::unique(tag, number),
            _ => Question::service(number),
        }
    };
    thread::scope(|scope| {
        let both = [(0, Family::V4), (1, Family::V6)].map(|(index, family)| {
            let tag = match (tag, family) {
                ("o", Family::V4) => "o4",
                ("o", Family::V6) => "o6",
                (_, Family::V4) => "a4",
                (_, Family::V6) => "a6",
            };
            let load = Load {
                timeout,
                attempts,
                fresh_ports: true,
                connected: false,
                ..Load::new(CLUSTER_IP.dns(family), rate, answers * 9 / 20)
            };
            let udp = load.start(lab.pod(index).netns(), Box::new(question(tag)));
            let client = lab.pod(index).client(family);
            let tcp = scope.spawn(move || tcp::ask(&client, answers / 20, &question(tag)));
            (udp, tcp)
        });
        let musl = over_musl(lab, timeout, musl);
        let [(udp4, tcp4), (udp6, tcp6)] = both;
        let tcp = [tcp4, tcp6].map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let udp = [udp4.end(), udp6.end()];
        for outcome in &udp {
            assert_eq!(outcome.wrong, [""; 0], "wrong answers");
        }
        Measured { udp, tcp, musl }
    })
}

/// musl asks from a socket that is not connected, and knows no `single-request-reopen`.
fn over_musl(lab: &Lab, timeout: Duration, count: u16) -> Answered {
    let pod = lab.pod(0);
    pod.netns().write_resolv_conf(&format!(
        "search svc.cluster.local\nnameserver {}\noptions ndots:5 timeout:{} attempts:2\n",
        CLUSTER_IP.v4,
        timeout.as_secs(),
    ));
    let program = tools::binary("client-musl");
    let mut command = vec![program.to_str().or_panic("a path in UTF-8").to_owned()];
    let name = |number| format!("svc-{number}.bulk");
    command.extend((0..count).map(name));
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let output = pod.exec(&command);
    let text = String::from_utf8_lossy(&output.stdout);
    let right = (0..count).zip(text.lines()).filter(|(number, line)| {
        let (v4, _) = zones::service_addresses(*number);
        line.split(' ').any(|word| word == v4.to_string())
    });
    Answered {
        asked: count.into(),
        right: right.count() as u64,
    }
}
