//! Loads while something happens to the agent.

use super::report::{self, Report, seen, told};
use super::{Setting, grouped, of, time};
use crate::addresses::{CLUSTER_IP, Family};
use crate::agent::{Agent, AgentConfig};
use crate::lab::Lab;
use crate::load::{Load, Lookup, Outcome, Question, Running};
use crate::wire::rtype;
use crate::zones;

/// One lookup in so many is of a name that is in no cache: 95 % hits.
const MISSES: u64 = 20;

/// A lab, the agent with a warm cache, and lookups over both families.
pub(super) struct Life {
    // The loads' threads must be gone before the lab.
    loads: [Running; 2],
    pub(super) agent: Agent,
    pub(super) lab: Lab,
    rate: u32,
}

impl Life {
    /// Starts so many seconds of lookups: clients with glibc's defaults, or shorter ones in a test.
    pub(super) fn start(setting: &Setting, agent: &AgentConfig, rate: u32, seconds: u32) -> Self {
        let lab = Lab::builder().start();
        let agent = lab.agent(agent);
        let (timeout, attempts) = setting.patience();
        let load = |index: usize, family, rate, count, questions: crate::load::Questions| {
            let load = Load {
                timeout,
                attempts,
                ..Load::new(CLUSTER_IP.dns(family), rate, count)
            };
            load.start(lab.pod(index).netns(), questions)
        };
        let warm = Box::new(Question::service);
        let warm = load(0, Family::V4, 2_000, zones::BULK.into(), warm).end();
        assert_eq!(warm.failed(), 0, "a name could not be looked up beforehand");
        let loads = [(0, Family::V4, "f"), (1, Family::V6, "s")].map(|(index, family, tag)| {
            let questions = move |number: u64| match number % MISSES {
                0 => Question::unique(tag, number),
                _ => Question::service(number),
            };
            let (half, count) = (rate / 2, u64::from(rate / 2 * seconds));
            load(index, family, half, count, Box::new(questions))
        });
        Self {
            loads,
            agent,
            lab,
            rate,
        }
    }

    /// Returns when the load has gone on for so many seconds, by the number of its lookups.
    pub(super) fn wait_until(&self, seconds: f64) {
        let lookups = (f64::from(self.rate / 2) * seconds) as u64;
        self.loads.iter().for_each(|load| load.wait_for(lookups));
    }

    /// The time on the clocks of both loads.
    pub(super) fn now(&self) -> [std::time::Duration; 2] {
        [self.loads[0].now(), self.loads[1].now()]
    }

    /// Waits for the load's end; the agent's, too, which the caller may have replaced.
    pub(super) fn end(self) -> ([Outcome; 2], Agent, Lab) {
        let outcomes = self.loads.map(Running::end);
        for outcome in &outcomes {
            assert_eq!(outcome.wrong, [""; 0], "wrong answers");
        }
        (outcomes, self.agent, self.lab)
    }
}

/// The lines that all of these have.
pub(super) fn report(outcomes: &[Outcome; 2]) -> Report {
    let (failed, all) = report::failed(outcomes);
    let mut report = Report::default();
    report.agent_line("lookups failed", seen(of(failed, all), failed == 0), "0");
    let worst = outcomes.iter().map(Outcome::worst).max();
    report.agent_line(
        "the slowest answer",
        told(time(worst.unwrap_or_default())),
        "",
    );
    let hits = |lookup: &&Lookup| lookup.cached;
    let hits: usize = outcomes
        .iter()
        .map(|o| o.lookups.iter().filter(hits).count())
        .sum();
    report.note(format!(
        "{} % of the lookups are of names that are cached; half of them over IPv4, half over IPv6.",
        grouped(hits as u64 * 100 / all.max(1))
    ));
    report
}

/// Adds the line with the rate of the load.
pub(super) fn rate(report: &mut Report, rate: u32, bound: &str) {
    let rate = format!("{}/s", grouped(rate.into()));
    report.agent_line("rate", told(rate), bound);
}

/// How many queries this agent was handed, one more among them: the load may have ended before it was there.
pub(super) fn handed(agent: &Agent, lab: &Lab) -> u64 {
    let name = format!("last{}.wild.types.svc.cluster.local", agent.process().pid());
    let reply = lab.pod(0).client(Family::V4).lookup(&name, rtype::A);
    assert_eq!(reply.answers.len(), 1);
    agent.counters().datapath("to_resolver_udp")
}

/// The packets of all, and those that were not answered in time.
pub(super) fn packets(outcomes: &[Outcome; 2]) -> (u64, u64) {
    let both = outcomes.iter().map(Outcome::packets);
    both.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
