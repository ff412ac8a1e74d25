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

/// Sends the lookups from the first pod and prints a line for each. Without the agent, right is only what
/// conntrack has seen; with it, what did not take the ordinary way, is unknown to conntrack, and was
/// answered no other than `before`.
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
    let mut known = 0;
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
        let (time, answer, rcode, right) = match reply {
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
        let remark = if !right {
            "← WRONG"
        } else if let Some(before) = before {
            let same = before.rows.get(index).is_some_and(|row| row.rcode == rcode);
            remark_with_agent(same, way, entries)
        } else {
            remark_without_agent(entries.saturating_sub(known))
        };
        known = entries;
        let right = remark.is_empty();
        let conntrack = format!("{entries} of {}", conntrack.count());
        print(lookup, way, &time, &conntrack, &answer, remark);
        rows.push(Row { rcode, right });
    }
    println!("  conntrack: entries of pods' DNS, of all entries in the node\n");
    Seen { rows }
}

/// What is wrong with a right answer that the agent had the chance to give.
const fn remark_with_agent(same: bool, way: Way, entries: usize) -> &'static str {
    match (same, way, entries) {
        (false, _, _) => "← WRONG: another answer than before",
        (_, Way::Ordinary, _) => "← WRONG: not by the agent",
        (_, _, 1..) => "← WRONG: seen by conntrack",
        _ => "",
    }
}

/// What is wrong with a right answer on the ordinary way. Unless it shows there what the agent spares the
/// node, its absence with the agent proves nothing. `added` counts the entries that this lookup made.
const fn remark_without_agent(added: usize) -> &'static str {
    match added {
        0 => "← WRONG: not seen by conntrack",
        _ => "",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_agent_conntrack_sees_each_lookup() {
        assert_eq!(remark_without_agent(1), "");
        assert!(remark_without_agent(0).contains("not seen by conntrack"));
    }

    #[test]
    fn with_the_agent_conntrack_sees_none() {
        assert_eq!(remark_with_agent(true, Way::Resolver, 0), "");
        for (wrong, word) in [
            (remark_with_agent(false, Way::Resolver, 0), "another answer"),
            (
                remark_with_agent(true, Way::Ordinary, 0),
                "not by the agent",
            ),
            (remark_with_agent(true, Way::Kernel, 1), "seen by conntrack"),
        ] {
            assert!(wrong.contains(word), "{wrong}");
        }
    }
}
