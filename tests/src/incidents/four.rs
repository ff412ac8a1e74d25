//! INCIDENTS.md, 4. A client asks from one fixed source port. CoreDNS is restarted; kube-proxy takes the old pod's
//! entries away, and for a moment its rules are gone. One query that goes through without them leaves an entry whose
//! answers are expected from the ClusterIP itself, and every later query refreshes it.

use std::thread;
use std::time::{Duration, Instant};

use super::report::{Report, Seen, seen, told};
use super::{Setting, in_time, of, time};
use crate::addresses::{CLUSTER_IP, Family};
use crate::conntrack::Entry;
use crate::fixed_port::{FixedPort, Sent};
use crate::lab::Lab;
use crate::load::Question;
use crate::pulse::Pulse;

/// As in the post-mortem.
const PORT: u16 = 52_001;
const GAP: Duration = Duration::from_millis(10);
/// The port that asks for names that nobody has asked for.
const UNCACHED: u16 = 52_002;
const UNCACHED_GAP: Duration = Duration::from_millis(50);
const PROMISED: Duration = Duration::from_secs(1);

struct Measured {
    cached: Vec<Sent>,
    uncached: Vec<Sent>,
    /// When CoreDNS answered again and the rules were back.
    back: Instant,
    /// The entry of the fixed port afterwards.
    entry: Option<Entry>,
    /// Whether a query from a new port was answered then, as `dig`'s.
    fresh_port: bool,
}

impl Measured {
    fn lost(&self) -> u64 {
        lost(&self.cached)
    }

    /// Queries from the fixed port after the return, the promised second later: lost, and all.
    fn after(&self) -> (u64, u64) {
        let late = self.cached.iter().copied();
        let late: Vec<_> = late.filter(|s| s.at > self.back + PROMISED).collect();
        (lost(&late), late.len() as u64)
    }

    /// Names in no cache that were asked for after the return.
    fn uncached_after(&self) -> Uncached {
        let after = self.uncached.iter().filter(|sent| sent.at >= self.back);
        let took = after.map(|sent| Some(sent.answered? - sent.at));
        took.fold(Uncached::default(), |sum, took| Uncached {
            asked: sum.asked + 1,
            in_time: sum.in_time + u64::from(took.is_some_and(|took| took < PROMISED)),
            slowest: sum.slowest.max(took),
        })
    }
}

/// What became of names that were in no cache.
#[derive(Default)]
struct Uncached {
    asked: u64,
    /// Those that were answered within the promised second.
    in_time: u64,
    /// The longest time of those that were answered.
    slowest: Option<Duration>,
}

impl Uncached {
    fn all_in_time(&self) -> bool {
        self.asked > 0 && self.in_time == self.asked
    }

    fn slowest(&self) -> String {
        self.slowest.map_or_else(|| "none".to_owned(), time)
    }
}

fn lost(sent: &[Sent]) -> u64 {
    sent.iter().filter(|sent| sent.answered.is_none()).count() as u64
}

pub(super) fn run(setting: &Setting) -> Report {
    in_time(|| restarted(setting))
}

/// What was seen, and how late the machine was meanwhile.
fn restarted(setting: &Setting) -> (Report, Duration) {
    // A single-node edge cluster.
    let lab = Lab::builder().replicas(1).start();
    let ordinary = restart(&lab, setting, "o");
    lab.node().conntrack().flush();
    let _agent = lab.agent(&setting.agent());
    let pulse = Pulse::start();
    let agent = restart(&lab, setting, "a");
    let late = pulse.end();

    let mut report = Report::default();
    report.line(
        format!("queries lost of a cached name, port {PORT}"),
        seen(
            of(ordinary.lost(), ordinary.cached.len() as u64),
            ordinary.lost() > 0,
        ),
        seen(
            of(agent.lost(), agent.cached.len() as u64),
            agent.lost() == 0,
        ),
        "0",
    );
    let (lost, all) = ordinary.after();
    let (agent_lost, agent_all) = agent.after();
    report.line(
        "of these, after the rules and CoreDNS were back for 1 s",
        seen(of(lost, all), lost == all),
        seen(of(agent_lost, agent_all), agent_lost == 0),
        "0",
    );
    let fresh = |measured: &Measured| match measured.fresh_port {
        true => "answered",
        false => "not answered",
    };
    report.line(
        "a query from a new port then",
        seen(fresh(&ordinary), ordinary.fresh_port),
        seen(fresh(&agent), agent.fresh_port),
        "answered",
    );
    report.line(
        format!("the entry of port {PORT} then: answers expected"),
        stale(&ordinary),
        match &agent.entry {
            None => told("no entry"),
            Some(entry) => seen(&entry.line, false),
        },
        "no entry",
    );
    let [ordinary, agent] = [&ordinary, &agent].map(Measured::uncached_after);
    report.line(
        "uncached names asked for after the return: answered within 1 s",
        told(of(ordinary.in_time, ordinary.asked)),
        seen(of(agent.in_time, agent.asked), agent.all_in_time()),
        "all",
    );
    report.line(
        "the slowest of these answers",
        told(ordinary.slowest()),
        told(agent.slowest()),
        "",
    );
    let watched = setting.of("35 s", "3 s");
    report.note(format!("A query every 10 ms; {watched} are watched after the return. An entry without replies lives for 30 s."));
    (report, late)
}

/// The post-mortem's entry: its answers are to come from the ClusterIP, to the node.
fn stale(measured: &Measured) -> Seen {
    let Some(entry) = &measured.entry else {
        return seen("no entry", false);
    };
    let reply = entry.reply;
    let unreplied = entry.flags.iter().any(|flag| flag == "UNREPLIED");
    seen(
        format!("src={} dst={}", reply.src, reply.dst),
        unreplied && reply.src == CLUSTER_IP.of(Family::V4),
    )
}

fn restart(lab: &Lab, setting: &Setting, tag: &'static str) -> Measured {
    let client = lab.pod(0).client(Family::V4);
    let cached = FixedPort::start(
        &client.clone().source_port(PORT),
        GAP,
        Box::new(|_| Question::service(0)),
    );
    let uncached = FixedPort::start(
        &client.clone().source_port(UNCACHED),
        UNCACHED_GAP,
        Box::new(move |number| Question::unique(tag, number)),
    );
    wait(&cached, 20);
    let replica = &lab.dns().replicas()[0];
    lab.node().remove_service_rules();
    replica.stop();
    lab.node().conntrack().forget_service();
    // Queries that meet neither rules nor entries.
    wait(&cached, setting.of(300, 50));
    replica.start();
    lab.node().load_rules(&lab.dns().endpoints());
    let back = Instant::now();
    thread::sleep(setting.of(Duration::from_secs(35), Duration::from_secs(3)));
    let question = Question::service(1);
    let fresh_port = client
        .ask(crate::Transport::Connected, &question.query)
        .is_ok();
    let entries = lab.node().conntrack().pod_dns();
    let of_port = |entry: &Entry| entry.original.sport == PORT;
    Measured {
        cached: cached.end(),
        uncached: uncached.end(),
        back,
        entry: entries.into_iter().find(of_port),
        fresh_port,
    }
}

/// Returns when so many more queries were sent.
fn wait(port: &FixedPort, queries: usize) {
    let wanted = port.sent().len() + queries;
    while port.sent().len() < wanted {
        thread::sleep(GAP);
    }
}
