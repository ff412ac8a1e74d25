//! `dns-cache upstreams`

use clap::Args;

use super::ask::Ask;
use super::table::Table;
use super::units::milliseconds;
use crate::control::UpstreamStatus;

/// Show the servers that the agent asks, zone by zone: connections, queries, failures, round-trip time
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
        ">CONNECTIONS",
        ">IN FLIGHT",
        ">QUERIES",
        ">FAILURES",
        ">ROUND TRIP",
    ]);
    for upstream in upstreams {
        table.row(vec![
            upstream.zone.clone(),
            upstream.address.to_string(),
            upstream.connections.to_string(),
            upstream.in_flight.to_string(),
            upstream.queries.to_string(),
            upstream.failures.to_string(),
            upstream
                .rtt_micros
                .map_or_else(|| "-".to_owned(), milliseconds),
        ]);
    }
    table.render()
}
