//! `dns-cache lookup`

use clap::Args;

use super::ask::Ask;
use super::table::Table;
use super::units::milliseconds;
use crate::control::{Command, Response};
use crate::resolver::Lookup;

/// Look a name up as a pod would, and show the answer
///
/// The agent answers from its cache, or asks the zone's servers. Names are absolute, with a trailing dot or
/// without: search lists do not apply.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache lookup kubernetes.default.svc.cluster.local
  dns-cache lookup kubernetes.default.svc.cluster.local SRV --trace
  dns-cache lookup example.com --output json | jq .steps")]
pub(super) struct LookupCommand {
    /// The name
    name: String,

    /// The record type, as in A, SRV or TYPE65
    #[arg(value_name = "TYPE", default_value = "A")]
    rtype: String,

    /// Show each step on the way to the answer, and its time (JSON always has them)
    #[arg(long)]
    trace: bool,

    #[command(flatten)]
    agent: Ask,
}

impl LookupCommand {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let command = Command::Lookup {
            name: self.name,
            rtype: self.rtype,
        };
        let lookup = self.agent.agent(&command, |response| match response {
            Response::Lookup(lookup) => Ok(*lookup),
            other => Err(other),
        })?;
        self.agent.print(&lookup, |lookup| text(lookup, self.trace))
    }
}

fn text(lookup: &Lookup, trace: bool) -> String {
    let Lookup {
        name,
        rtype,
        rcode,
        records,
        server,
        stale,
        cause,
        micros,
        steps,
    } = lookup;
    let by = match (server, stale) {
        (None, false) => String::new(),
        (None, true) => ", stale".to_owned(),
        (Some(server), false) => format!(", by {server}"),
        (Some(server), true) => format!(", stale, once by {server}"),
    };
    let mut text = format!("{name} {rtype}: {rcode} in {}{by}\n", milliseconds(*micros));
    if let Some(cause) = cause {
        text.push_str(&format!("  {cause}\n"));
    }
    for record in records {
        text.push_str(&format!("  {record}\n"));
    }
    if trace {
        let mut table = Table::new(&["STEP", "OUTCOME", ">TIME"]);
        for step in steps {
            let time = milliseconds(step.micros);
            table.row(vec![step.part.clone(), step.outcome.clone(), time]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Step;

    #[test]
    fn steps_are_shown_when_asked_for() {
        let lookup = Lookup {
            name: "a.example".to_owned(),
            rtype: "A".to_owned(),
            rcode: "NOERROR".to_owned(),
            records: vec!["a.example. 25 IN A 192.0.2.1".to_owned()],
            server: Some("192.0.2.53:53".parse().unwrap()),
            stale: false,
            cause: None,
            micros: 1_520,
            steps: vec![Step {
                part: "cache".to_owned(),
                outcome: "nothing".to_owned(),
                micros: 20,
            }],
        };
        let answer =
            "a.example A: NOERROR in 1.52 ms, by 192.0.2.53:53\n  a.example. 25 IN A 192.0.2.1\n";
        assert_eq!(text(&lookup, false), answer);
        let steps = "\nSTEP   OUTCOME     TIME\ncache  nothing  0.02 ms\n";
        assert_eq!(text(&lookup, true), format!("{answer}{steps}"));
    }

    #[test]
    fn a_stale_answer_is_no_server_s_of_now() {
        let lookup = Lookup {
            name: "a.example".to_owned(),
            rtype: "A".to_owned(),
            rcode: "NOERROR".to_owned(),
            records: Vec::new(),
            server: Some("192.0.2.53:53".parse().unwrap()),
            stale: true,
            cause: Some("no upstream answered in time (Extended DNS Error 22)".to_owned()),
            micros: 1_800_000,
            steps: Vec::new(),
        };
        assert_eq!(
            text(&lookup, false),
            "a.example A: NOERROR in 1800.00 ms, stale, once by 192.0.2.53:53\n  \
             no upstream answered in time (Extended DNS Error 22)\n"
        );
    }
}
