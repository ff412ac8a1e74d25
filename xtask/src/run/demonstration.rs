//! The table: name, answer, way, time, conntrack.

use std::time::Duration;

use dns_cache_tests::agent::Way;
use dns_cache_tests::wire::type_name;
use dns_cache_tests::{Agent, Lab, Query, Upstream};

use super::lookup::{self, Lookup};

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    rcode: Option<u16>,
    right: bool,
}

impl Seen {
    /// Whether every lookup was right.
    pub(super) fn is_right(&self) -> bool {
        self.rows.iter().all(|row| row.right)
    }
}

/// Sends the lookups from the first pod and prints a line for each. With the agent, right is only what
/// did not take the ordinary way, is unknown to conntrack, and was answered no other than `before`.
pub(super) fn show(
    title: &str,
    lab: &Lab,
    upstream: Upstream,
    agent: Option<&Agent>,
    before: Option<&Seen>,
) -> Seen {
    let conntrack = lab.node().conntrack();
    conntrack.flush();
    println!("{title}:");
    println!(
        "  {:<47} {:<5} {:<7} {:<10} {:>9}  {:<10} answer",
        "name", "type", "over", "way", "time", "conntrack"
    );
    let mut rows = Vec::new();
    for (index, lookup) in lookup::all(upstream).iter().enumerate() {
        let counters = agent.map(Agent::counters);
        let client = lab
            .pod(0)
            .client(lookup.family)
            .timeout(Duration::from_secs(5));
        let reply = client.ask(lookup.transport, &Query::new(lookup.name, lookup.rtype));
        let way = match (agent, counters) {
            (Some(agent), Some(counters)) => counters.way(&agent.counters()),
            _ => Way::Ordinary,
        };
        let entries = conntrack.pod_dns().len();
        let (time, answer, rcode, mut right) = match reply {
            Ok(reply) => {
                let right = lookup.is_right(&reply.message);
                (
                    format!("{:.2} ms", reply.time.as_secs_f64() * 1e3),
                    reply.message.to_string(),
                    Some(reply.message.rcode()),
                    right,
                )
            }
            Err(failure) => ("–".to_owned(), failure.to_string(), None, false),
        };
        let mut remark = if right { "" } else { "← WRONG" };
        if let Some(before) = before
            && right
        {
            let same = before.rows.get(index).is_some_and(|row| row.rcode == rcode);
            remark = match (same, way, entries) {
                (false, _, _) => "← WRONG: another answer than before",
                (_, Way::Ordinary, _) => "← WRONG: not by the agent",
                (_, _, 1..) => "← WRONG: seen by conntrack",
                _ => "",
            };
            right = remark.is_empty();
        }
        let conntrack = format!("{entries} of {}", conntrack.count());
        print(lookup, way, &time, &conntrack, &answer, remark);
        rows.push(Row { rcode, right });
    }
    println!("  conntrack: entries of pods' DNS, of all entries in the node\n");
    Seen { rows }
}

fn print(lookup: &Lookup, way: Way, time: &str, conntrack: &str, answer: &str, remark: &str) {
    let way = match way {
        Way::Ordinary => "ordinary",
        Way::Resolver => "resolver",
        Way::Kernel => "kernel",
    };
    let name = match lookup.name.char_indices().nth(46) {
        Some((at, _)) => format!("{}…", &lookup.name[..at]),
        None => lookup.name.to_owned(),
    };
    let over = lookup.way();
    let line = format!(
        "  {name:<47} {:<5} {over:<7} {way:<10} {time:>9}  {conntrack:<10} {answer}   {remark}",
        type_name(lookup.rtype)
    );
    println!("{}", line.trim_end());
}
