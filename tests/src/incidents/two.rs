//! INCIDENTS.md, 2. A and AAAA of one lookup leave one port at once; on two CPUs they race for one conntrack entry.
//! The entries stay for half a minute, until the table is full.

use std::collections::HashMap;
use std::time::Duration;

use super::report::{Report, Seen, seen, told};
use super::{Setting, grouped, of};
use crate::addresses::Family;
use crate::conntrack_max::{ConntrackMax, Machine};
use crate::lab::Lab;
use crate::pairs::{self, Outcome};

/// `nf_conntrack_max` for a table that is full at once.
const FULL: u32 = 64;
/// How often the race is tried for.
const ROUNDS: u32 = 20;
/// What moves when packets race for an entry, or find no room.
const STATISTICS: [&str; 3] = ["insert_failed", "drop", "clash_resolve"];

/// What a number of pairs did to the table.
struct Measured {
    outcome: Outcome,
    moved: HashMap<&'static str, u64>,
    entries: usize,
}

impl Measured {
    fn moved(&self, name: &str) -> Seen {
        let moved = self.moved.get(name).copied().unwrap_or_default();
        seen(format!("+{}", grouped(moved)), moved == 0)
    }

    fn races(&self) -> u64 {
        self.moved["insert_failed"] + self.moved["clash_resolve"]
    }
}

pub(super) fn run(setting: &Setting) -> Report {
    let machine = Machine::alone();
    let lab = Lab::builder().start();
    let pairs = setting.of(100_000, 2_000);
    let patience = setting.of(Duration::from_secs(5), Duration::from_secs(2));
    // What has no answer in this time on the ordinary path has met the full table: it is gone.
    let hasty = Duration::from_millis(200);
    let race = race(&lab, setting.of(20_000, 1_000), patience);
    lab.node().conntrack().flush();
    let full = {
        let _max = ConntrackMax::set(&machine, lab.scope(), FULL);
        measure(&lab, setting.of(5_000, 500), hasty)
    };
    lab.node().conntrack().flush();
    let _agent = lab.agent(&setting.agent());
    let agent = {
        let _max = ConntrackMax::set(&machine, lab.scope(), FULL);
        measure(&lab, pairs, patience)
    };

    let mut report = Report::default();
    for name in STATISTICS {
        let moved = |measured: &Measured| format!("+{}", grouped(measured.moved[name]));
        report.line(
            format!("conntrack -S: {name}, of the race (full table)"),
            told(format!("{} ({})", moved(&race), moved(&full))),
            agent.moved(name),
            "+0",
        );
    }
    report.line(
        "packets that raced for an entry",
        seen(of(race.races(), 2 * race.outcome.pairs), race.races() > 0),
        seen(grouped(agent.races()), agent.races() == 0),
        "0",
    );
    report.line(
        "port-53 entries after it",
        seen(grouped(race.entries as u64), race.entries > 0),
        seen(grouped(agent.entries as u64), agent.entries == 0),
        "0",
    );
    report.line(
        format!("lookups lost with nf_conntrack_max={FULL}"),
        seen(
            of(full.outcome.lost_pairs, full.outcome.pairs),
            full.outcome.lost_pairs > 0,
        ),
        seen(
            of(agent.outcome.lost_pairs, agent.outcome.pairs),
            agent.outcome.lost_pairs == 0,
        ),
        "0",
    );
    report.note("Each lookup is an A and an AAAA at the same moment from one port of its own, by two threads.");
    report.note(
        "New kernels let the loser of the race join the winner's entry: `clash_resolve` counts what was \
         `insert_failed` and a lost packet before.",
    );
    report
}

/// Whether two packets meet is chance, and on a busy machine a small one.
fn race(lab: &Lab, pairs: u64, patience: Duration) -> Measured {
    for _ in 1..ROUNDS {
        let measured = measure(lab, pairs, patience);
        if measured.races() > 0 {
            return measured;
        }
        lab.node().conntrack().flush();
    }
    measure(lab, pairs, patience)
}

fn measure(lab: &Lab, pairs: u64, patience: Duration) -> Measured {
    let conntrack = lab.node().conntrack();
    let before = conntrack.statistics();
    let outcome = pairs::run(&lab.pod(0).client(Family::V4), pairs, patience);
    let after = conntrack.statistics();
    let count = |statistics: &HashMap<String, u64>, name| statistics.get(name).copied();
    let moved = STATISTICS.map(|name| {
        let moved = count(&after, name).unwrap_or(0) - count(&before, name).unwrap_or(0);
        (name, moved)
    });
    Measured {
        outcome,
        moved: moved.into(),
        entries: conntrack.pod_dns().len(),
    }
}
