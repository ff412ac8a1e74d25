//! `dns-cache upstreams`

use clap::Args;

use super::ask::Ask;
use super::table::Table;
use super::units::{duration, milliseconds};
use crate::control::UpstreamStatus;

/// Show the servers that the agent asks, zone by zone: state, connections, queries, failures, round-trip times
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache upstreams
  dns-cache upstreams --output json | jq '.[] | select(.suspect) | .address'")]
pub(super) struct Upstreams {
    #[command(flatten)]
    agent: Ask,
}

impl Upstreams {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let servers = self.agent.status()?.resolver.upstreams;
        self.agent
            .print(&servers, |servers| match upstreams(servers) {
                table if table.is_empty() => "no servers are known\n".to_owned(),
                table => table,
            })
    }
}

/// A row a server.
pub(super) fn upstreams(upstreams: &[UpstreamStatus]) -> String {
    let mut table = Table::new(&[
        "ZONE",
        "SERVER",
        "STATE",
        ">DISTANCE",
        ">WEIGHT",
        ">CONNECTIONS",
        ">IN FLIGHT",
        ">QUERIES",
        ">HEDGES",
        ">FAILURES",
        ">ROUND TRIP",
        ">P95",
    ]);
    let time = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), milliseconds);
    for upstream in upstreams {
        table.row(vec![
            upstream.zone.clone(),
            upstream.address.to_string(),
            state(upstream),
            upstream.distance.to_string(),
            upstream.weight.to_string(),
            upstream.connections.to_string(),
            upstream.in_flight.to_string(),
            upstream.queries.to_string(),
            upstream.hedges.to_string(),
            upstream.failures.to_string(),
            time(upstream.rtt_micros),
            time(upstream.rtt_p95_micros),
        ]);
    }
    table.render()
}

/// Whether it is relied on.
fn state(upstream: &UpstreamStatus) -> String {
    match (upstream.ejected_seconds, upstream.rtt_micros) {
        (Some(seconds), _) => format!("ejected for {}", duration(seconds)),
        (None, Some(_)) => "well".to_owned(),
        (None, None) => "no answer yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::status;

    #[test]
    fn an_operator_sees_who_is_out_and_since_when() {
        let well = status().resolver.upstreams.remove(0);
        let mut out = well.clone();
        out.address = "10.244.0.3:53".parse().unwrap();
        (out.distance, out.weight, out.hedges, out.failures) = (2, 3, 4, 5);
        (out.suspect, out.ejected_seconds) = (true, Some(65));
        let mut new = well.clone();
        new.zone = ".".to_owned();
        (new.queries, new.rtt_micros, new.rtt_p95_micros) = (0, None, None);
        let expected = "\
ZONE           SERVER         STATE              DISTANCE  WEIGHT  CONNECTIONS  IN FLIGHT  QUERIES  HEDGES  FAILURES  ROUND TRIP      P95
cluster.local  [fd00::2]:53   well                      0       1            1          0       12       0         0     1.23 ms  2.34 ms
cluster.local  10.244.0.3:53  ejected for 1m 5s         2       3            1          0       12       4         5     1.23 ms  2.34 ms
.              [fd00::2]:53   no answer yet             0       1            1          0        0       0         0           -        -
";
        assert_eq!(upstreams(&[well, out, new]), expected);
    }
}
