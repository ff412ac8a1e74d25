//! Loads while something happens to the agent.

use std::time::Duration;

use super::report::{self, Report, seen, told};
use super::{PATIENCE, Setting, grouped, of, time};
use crate::addresses::{CLUSTER_IP, Family};
use crate::agent::{Agent, AgentConfig, Counters};
use crate::lab::Lab;
use crate::load::{Load, Lookup, Outcome, Question, Running};
use crate::wire::rtype;
use crate::zones;

/// One lookup in so many is of a name that is in no cache: 95 % hits.
const MISSES: u64 = 20;
/// So much of the rate, in percent, has to be driven where the incidents are shown in full: what fewer lookups show is
/// another claim. A test in small is content with what the machine has time for.
const LEAST_RATE: f64 = 90.0;
/// Below so many hits of 100 lookups a load is not the one that was meant: entries expired, or were never made.
const LEAST_HITS: u64 = 80;

/// A lab, the agent with a warm cache, and lookups over both families.
pub(super) struct Life {
    // The loads' threads must be gone before the lab.
    loads: [Running; 2],
    pub(super) agent: Agent,
    pub(super) lab: Lab,
    rate: u32,
    counted: Counted,
}

/// What agents have counted of the load. Each counts from zero, and nobody can ask a dead one.
struct Counted {
    hits: u64,
    misses: u64,
    /// The counters of the agent that lives, up to here.
    since: Counters,
}

impl Counted {
    fn add(&mut self, agent: &Agent) {
        let now = agent.counters();
        self.hits += self.since.answered(&now);
        self.misses += self.since.resolved(&now);
        self.since = now;
    }
}

/// What is left when the load is over.
pub(super) struct Ended {
    pub(super) outcomes: [Outcome; 2],
    /// The last agent.
    pub(super) agent: Agent,
    pub(super) lab: Lab,
    rate: u32,
    counted: Counted,
}

impl Life {
    /// Starts so many seconds of lookups by clients with glibc's defaults.
    pub(super) fn start(agent: &AgentConfig, rate: u32, seconds: u32) -> Self {
        let lab = Lab::builder().start();
        let agent = lab.agent(agent);
        let (timeout, attempts) = PATIENCE;
        let load = |index: usize, family, rate, count, questions: crate::load::Questions| {
            let load = Load {
                timeout,
                attempts,
                ..Load::new(CLUSTER_IP.dns(family), rate, count)
            };
            load.start(lab.pod(index).netns(), questions)
        };
        // With glibc's patience, and so slowly, that a busy machine gets round to it, too.
        let warm = Load::new(CLUSTER_IP.dns(Family::V4), 500, zones::BULK.into());
        let warm = warm.run(lab.pod(0).netns(), Box::new(Question::service));
        assert_eq!(warm.failed(), 0, "a name could not be looked up beforehand");
        let counted = Counted {
            hits: 0,
            misses: 0,
            since: agent.counters(),
        };
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
            counted,
        }
    }

    /// Returns when the load has gone on for so many seconds, by the number of its lookups.
    pub(super) fn wait_until(&self, seconds: f64) {
        let lookups = (f64::from(self.rate / 2) * seconds) as u64;
        self.loads.iter().for_each(|load| load.wait_for(lookups));
    }

    /// The time on the clocks of both loads.
    pub(super) fn now(&self) -> [Duration; 2] {
        [self.loads[0].now(), self.loads[1].now()]
    }

    /// Notes what the agent has counted, as it is about to go.
    pub(super) fn count(&mut self) {
        self.counted.add(&self.agent);
    }

    /// From now on it is this agent.
    pub(super) fn succeed(&mut self, agent: Agent) {
        self.agent = agent;
        self.counted.since = Counters::default();
    }

    /// Waits for the load's end.
    pub(super) fn end(self) -> Ended {
        let outcomes = self.loads.map(Running::end);
        for outcome in &outcomes {
            assert_eq!(outcome.wrong, [""; 0], "wrong answers");
        }
        Ended {
            outcomes,
            agent: self.agent,
            lab: self.lab,
            rate: self.rate,
            counted: self.counted,
        }
    }
}

impl Ended {
    /// The lines that all of these have.
    pub(super) fn report(&self, setting: &Setting) -> Report {
        let (failed, all) = report::failed(&self.outcomes);
        let mut report = Report::default();
        report.agent_line("lookups failed", seen(of(failed, all), failed == 0), "0");
        let worst = self.outcomes.iter().map(Outcome::worst).max();
        report.agent_line(
            "the slowest answer",
            told(time(worst.unwrap_or_default())),
            "",
        );
        let driven: f64 = self.outcomes.iter().map(rate).sum();
        let least = f64::from(self.rate) * LEAST_RATE / 100.0;
        report.agent_line(
            "lookups a second, and meant",
            seen(
                of(driven.round() as u64, self.rate.into()),
                !setting.full || driven >= least,
            ),
            &match setting.full {
                true => format!("≥ {}", grouped(least as u64)),
                false => String::new(),
            },
        );
        let cached = |lookup: &&Lookup| lookup.cached;
        let cached: usize = self
            .outcomes
            .iter()
            .map(|o| o.lookups.iter().filter(cached).count())
            .sum();
        report.note(format!(
            "{} % of the lookups are of names that are cached; half of them over IPv4, half over IPv6.",
            grouped(cached as u64 * 100 / all.max(1))
        ));
        report
    }

    /// Adds the line with the hits among the queries that agents have counted; the last one still lives.
    pub(super) fn hits(&mut self, report: &mut Report) {
        self.counted.add(&self.agent);
        let Counted { hits, misses, .. } = self.counted;
        let all = hits + misses;
        report.agent_line(
            "answered by the kernel's cache, of what agents counted",
            seen(of(hits, all), all > 0 && hits * 100 >= all * LEAST_HITS),
            "about 95 %",
        );
    }

    /// How many queries the last agent was handed, one more among them: the load may have ended before it was there.
    pub(super) fn handed(&self) -> u64 {
        let pid = self.agent.process().pid();
        let name = format!("last{pid}.wild.types.svc.cluster.local");
        let reply = self.lab.pod(0).client(Family::V4).lookup(&name, rtype::A);
        assert_eq!(reply.answers.len(), 1);
        self.agent.counters().datapath("to_resolver_udp")
    }

    /// The packets of all, and those that were not answered in time.
    pub(super) fn packets(&self) -> (u64, u64) {
        let both = self.outcomes.iter().map(Outcome::packets);
        both.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Lookups a second, from the first one's start to the last one's.
fn rate(outcome: &Outcome) -> f64 {
    let sent = || outcome.lookups.iter().map(|lookup| lookup.sent);
    let (Some(first), Some(last)) = (sent().min(), sent().max()) else {
        return 0.0;
    };
    outcome.lookups.len().saturating_sub(1) as f64 / (last - first).as_secs_f64().max(0.001)
}
