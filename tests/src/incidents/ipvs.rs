//! INCIDENTS.md, 3, in the mode in which it happened: kube-proxy with IPVS. What IPVS has forgotten it does not translate
//! back: an answer that comes late reaches the client from the CoreDNS pod's own address.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::report::{Report, seen, told};
use super::{Setting, grouped};
use crate::addresses::{CLUSTER_IP, Family};
use crate::ipvs::Ipvs;
use crate::lab::Lab;
use crate::load::{Load, Outcome, Question};

/// Whether this kernel has IPVS.
pub(super) fn is_there() -> bool {
    // A module, or built in.
    let _ = Command::new("modprobe").arg("ip_vs_rr").output();
    fs::exists("/proc/net/ip_vs").unwrap_or(false)
}

struct Measured {
    /// By family.
    udp: [Outcome; 2],
    /// Exchanges that IPVS has known.
    known: usize,
    insert_failed: u64,
}

pub(super) fn run(setting: &Setting) -> Report {
    let lab = Lab::builder().start();
    let ipvs = Ipvs::of(lab.node(), &lab.dns().endpoints());
    // Seconds of TCP, of TCP's end, and of UDP.
    let mut forget = Command::new("ipvsadm");
    forget.args(["--set", "0", "0", "1"]);
    lab.node().netns().succeed(&mut forget);
    let ordinary = measure(&lab, &ipvs, setting, "o");
    let known = ordinary.known;
    lab.node().conntrack().flush();
    let _agent = lab.agent(&setting.agent());
    let agent = measure(&lab, &ipvs, setting, "a");

    let mut report = Report::default();
    report.elsewhere(&ordinary.udp, &agent.udp);
    report.failed("lookups failed", &ordinary.udp, &agent.udp);
    report.line(
        "exchanges of pods that IPVS has seen",
        seen(grouped(known as u64), known > 0),
        seen(grouped(agent.known as u64), agent.known == 0),
        "0",
    );
    report.line(
        "conntrack -S: insert_failed",
        told(format!("+{}", grouped(ordinary.insert_failed))),
        seen(
            format!("+{}", grouped(agent.insert_failed)),
            agent.insert_failed == 0,
        ),
        "+0",
    );
    report.note(
        "One of two CoreDNS pods stands still for two seconds, longer than IPVS remembers an exchange here (1 s; \
         300 s by default). Each lookup has a port of its own and one try.",
    );
    report
}

fn measure(lab: &Lab, ipvs: &Ipvs<'_>, setting: &Setting, tag: &'static str) -> Measured {
    let conntrack = lab.node().conntrack();
    let statistics = || conntrack.statistics().get("insert_failed").copied();
    let (before, known) = (statistics(), ipvs.connections());
    // Other kernels run 15 to 45 times slower.
    let (rate, count) = (10, setting.of(300, 100));
    let loads = [(0, Family::V4), (1, Family::V6)].map(|(pod, family)| {
        let load = Load {
            timeout: Duration::from_secs(5),
            attempts: 1,
            fresh_ports: true,
            connected: false,
            ..Load::new(CLUSTER_IP.dns(family), rate, count)
        };
        let unique = move |number| Question::unique(tag, number << 1 | pod as u64);
        let questions = move |number: u64| match number % 2 {
            0 => Question::service(number / 2),
            _ => unique(number),
        };
        load.start(lab.pod(pod).netns(), Box::new(questions))
    });
    let replica = &lab.dns().replicas()[1];
    let two_seconds = u64::from(2 * rate);
    loads[0].wait_for(two_seconds);
    replica.pause();
    loads[0].wait_for(2 * two_seconds);
    replica.resume();
    let seen = ipvs.connections().difference(&known).count();
    let udp = loads.map(crate::load::Running::end);
    Measured {
        udp,
        known: seen,
        insert_failed: statistics().unwrap_or(0) - before.unwrap_or(0),
    }
}
