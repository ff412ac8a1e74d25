//! How long the pods of a full node wait for their program when an agent starts where none was.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use dns_cache_tests::agent::attach_modes;
use dns_cache_tests::{AgentConfig, Lab, Upstream, Veths};
use serde::Serialize;

use super::marks::{self, Disturbance, Taken};
use super::plan::Plan;
use super::statistics::Summary;
use super::systems::Setting;

/// Above a table.
pub(super) const TITLE: &str = "From the agent's start until all pods are attached";

/// How the numbers came about, for whoever reads them.
pub(super) const METHOD: &str = "from the start of the agent's process until its status names every interface; what the agent before it left is removed first; in turns. The kernel lets each TCX link wait for a grace period of its own, during which nobody can change an interface: so auto has filters where many interfaces come at once, and TCX alone is measured with a tenth of them";

/// The mode that the agent has if none is configured.
pub(super) const DEFAULT: &str = "auto";

/// A start with so many interfaces there.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StandingStart {
    /// The setting `attach`.
    pub(super) attach: &'static str,
    pub(super) interfaces: usize,
    /// How many of them have their program by TCX and by clsact, in the last round.
    pub(super) mechanisms: BTreeMap<String, usize>,
    /// Over the rounds.
    pub(super) millis: Summary,
    pub(super) rounds: Vec<Taken>,
}

/// Measures each way to attach, and a start that has nothing to attach to.
pub(super) fn run(plan: &Plan, setting: &Setting) -> Result<Vec<StandingStart>> {
    println!(
        "Starts of the agent with {} interfaces there …",
        plan.interfaces
    );
    let lab = Lab::builder()
        .pods(0)
        .replicas(1)
        .upstream(Upstream::Embedded)
        .start();
    let veths = Veths::new(lab.node(), plan.interfaces);
    let all = veths.names();
    let mut starts = vec![Start::new(DEFAULT, &[]), Start::new(DEFAULT, &all)];
    for attach in attach_modes() {
        let names = match attach {
            "tcx" => &all[..all.len() / 10],
            _ => &all,
        };
        starts.push(Start::new(attach, names));
    }
    for round in 1..=plan.rounds {
        for start in &mut starts {
            start.measure(plan, setting, &lab, round)?;
        }
    }
    starts.into_iter().map(Start::summary).collect()
}

struct Start<'a> {
    attach: &'static str,
    names: &'a [&'a str],
    mechanisms: BTreeMap<String, usize>,
    rounds: Vec<Taken>,
}

impl<'a> Start<'a> {
    const fn new(attach: &'static str, names: &'a [&'a str]) -> Self {
        Self {
            attach,
            names,
            mechanisms: BTreeMap::new(),
            rounds: Vec::new(),
        }
    }

    fn measure(&mut self, plan: &Plan, setting: &Setting, lab: &Lab, round: u32) -> Result<()> {
        // Of many, a pattern each would be a cost of its own.
        let interfaces = match self.names {
            [] => vec!["none".to_owned()],
            names if names.len() > 100 => vec!["veth*".to_owned()],
            names => names.iter().map(|&name| name.to_owned()).collect(),
        };
        let config = AgentConfig {
            attach: self.attach.to_owned(),
            binary: Some(setting.agent.clone()),
            interfaces,
            log_level: "info".to_owned(),
            wedged_after: None,
            ..AgentConfig::default()
        };
        let ((agent, took), disturbance) = Disturbance::during(|| {
            let start = Instant::now();
            let agent = lab.agent_on(&config, self.names);
            Ok((agent, start.elapsed()))
        })?;
        let taken = Taken::new(round, took.as_secs_f64() * 1e3, disturbance);
        println!(
            "  round {round} of {}, {}, {} interfaces: {:.0} ms{}",
            plan.rounds,
            self.attach,
            self.names.len(),
            taken.value,
            taken.marks()
        );
        self.rounds.push(taken);
        self.mechanisms = agent.mechanisms(self.names);
        agent.stop();
        agent.detach();
        Ok(())
    }

    fn summary(self) -> Result<StandingStart> {
        Ok(StandingStart {
            attach: self.attach,
            interfaces: self.names.len(),
            mechanisms: self.mechanisms,
            millis: marks::summary(&self.rounds).context("no round")?,
            rounds: self.rounds,
        })
    }
}

impl StandingStart {
    /// `clsact 990, tcx 10`
    fn by(&self) -> String {
        let each = self.mechanisms.iter();
        let each: Vec<_> = each
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        each.join(", ")
    }

    /// What it says of itself, beside another's figure.
    pub(super) fn beside(&self) -> String {
        let Self {
            attach,
            interfaces,
            millis,
            ..
        } = self;
        let by = self.by();
        match interfaces {
            0 => format!("{:.0} ms without any interface", millis.median),
            _ => format!("{:.0} ms by {attach} ({by})", millis.median),
        }
    }
}

/// A table: a heading, and a row a way to start.
pub(super) fn table(starts: &[StandingStart]) -> Vec<Vec<String>> {
    let heading = ["attach", "interfaces", "ms", "range", "by"];
    let rows = starts.iter().map(|start| {
        vec![
            start.attach.to_owned(),
            start.interfaces.to_string(),
            format!("{:.0}{}", start.millis.median, marks::star(&start.rounds)),
            start.millis.range(),
            start.by(),
        ]
    });
    std::iter::once(heading.map(str::to_owned).to_vec())
        .chain(rows)
        .collect()
}
