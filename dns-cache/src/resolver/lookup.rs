//! A lookup for whoever looks in from outside, by the same way as a client's, and what it met on it.

use std::sync::Arc;
use std::time::Instant;

use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::{KeyParts, Parsed, Transport, parse};
use dns_cache_common::types::class;
use hickory_proto::op::Message;
use serde::{Deserialize, Serialize};

use super::{Answer, Resolver};
use crate::presentation::{name_text, rcode_text, rtype_text};

/// What a client would be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The question's name, without the trailing dot.
    pub name: String,
    /// The question's type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The reply's code.
    pub rcode: String,
    /// The reply's records, all sections, as text.
    pub records: Vec<String>,
    /// From the question to the reply, in microseconds.
    pub micros: u64,
    /// What was met on the way, in order.
    pub steps: Vec<Step>,
}

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `cache`, `zone` or `upstream`.
    pub part: String,
    /// What it said.
    pub outcome: String,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Steps with their times.
struct Trace {
    began: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Trace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            steps: Vec::new(),
        }
    }

    /// A step that ended just now.
    fn step(&mut self, part: &str, outcome: String) {
        let now = Instant::now();
        self.steps.push(Step {
            part: part.to_owned(),
            outcome,
            micros: micros(now - self.last),
        });
        self.last = now;
    }
}

impl Resolver {
    /// Looks a name up as a client's query would, which it is counted as. The name is in wire form.
    pub async fn lookup(self: &Arc<Self>, name: &[u8], rtype: u16) -> Lookup {
        let mut trace = Trace::new();
        let query = query(name, rtype);
        let mut reply = Vec::new();
        let now = self.clock.now();
        // Looked at before it is used, which may change it.
        let cached = match parse(&query, Transport::Tcp) {
            Parsed::Query(query) => self.cached_as(query.key.as_bytes()),
            _ => None,
        };
        match self.answer_cached(&query, Transport::Tcp, now, &mut reply) {
            Answer::Reply(_) => {
                let outcome = cached.unwrap_or_else(|| "answered without it".to_owned());
                trace.step("cache", outcome);
            }
            Answer::Drop => trace.step("cache", "not a query".to_owned()),
            Answer::Miss(miss) => {
                trace.step("cache", cached.unwrap_or_else(|| "nothing".to_owned()));
                trace.step("zone", self.zone_of(name));
                reply = self.resolve(miss).await;
                let rcode = Header::read(&reply[..]).map_or(0, |header| header.flags.rcode());
                trace.step("upstream", rcode_text(rcode));
            }
        }
        let rcode = Header::read(&reply[..]).map_or(0, |header| header.flags.rcode());
        Lookup {
            name: name_text(name),
            rtype: rtype_text(rtype),
            rcode: rcode_text(rcode),
            records: records(&reply),
            micros: micros(trace.began.elapsed()),
            steps: trace.steps,
        }
    }

    /// What the cache has for a key, in words.
    fn cached_as(&self, key: &[u8]) -> Option<String> {
        let now = self.clock.now();
        let (entry, age) = self.cache.fresh(key, now)?;
        let ttl = entry.ttl().unwrap_or_default().saturating_sub(age);
        Some(format!("an answer of age {age}s with {ttl}s to go"))
    }

    fn zone_of(&self, name: &[u8]) -> String {
        self.zones().of(name).map_or_else(
            || "none".to_owned(),
            |zone| {
                let servers: Vec<_> = zone
                    .group
                    .status()
                    .iter()
                    .map(|server| server.address.to_string())
                    .collect();
                format!("{}, by {}", zone.name, servers.join(", "))
            },
        )
    }
}

/// All records of a message as text; what cannot be shown is said.
pub(super) fn records(message: &[u8]) -> Vec<String> {
    match Message::from_vec(message) {
        Ok(message) => message
            .answers
            .iter()
            .chain(&message.authorities)
            .chain(&message.additionals)
            .map(ToString::to_string)
            .collect(),
        Err(error) => {
            let counts = Header::read(message).map(|header| header.records);
            vec![format!(
                "; {counts:?} records that cannot be shown: {error}"
            )]
        }
    }
}

/// The question section for a name, a type and class IN.
pub(super) fn question(parts: &KeyParts<'_>) -> Vec<u8> {
    let KeyParts {
        name, rtype, class, ..
    } = parts;
    [*name, &rtype.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn query(name: &[u8], rtype: u16) -> Vec<u8> {
    let header = Header {
        id: 0,
        flags: Flags::RD,
        questions: 1,
        records: [0; 3],
    };
    let parts = KeyParts {
        name,
        rtype,
        class: class::IN,
        dnssec_ok: false,
        checking_disabled: false,
    };
    [&header.bytes()[..], &question(&parts)].concat()
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presentation::name;
    use crate::resolver::tests::Bench;
    use crate::upstream::fake::Fake;

    #[tokio::test]
    async fn each_step_is_told() {
        let (fake, _) = Fake::answering().await;
        let bench = Bench::new(&[fake.address]);
        let web = name("web.cluster.local").unwrap();
        let first = bench.resolver.lookup(&web, 1).await;
        assert_eq!(first.rcode, "NOERROR");
        assert_eq!(first.records, ["web.cluster.local. 20 IN A 10.0.0.1"]);
        let told = |lookup: &Lookup| -> Vec<(String, String)> {
            let steps = lookup.steps.iter();
            steps
                .map(|step| (step.part.clone(), step.outcome.clone()))
                .collect()
        };
        let step = |part: &str, outcome: &str| (part.to_owned(), outcome.to_owned());
        assert_eq!(
            told(&first),
            [
                step("cache", "nothing"),
                step("zone", &format!("cluster.local, by {}", fake.address)),
                step("upstream", "NOERROR"),
            ]
        );
        bench.pass(7.0);
        let second = bench.resolver.lookup(&web, 1).await;
        assert_eq!(
            told(&second),
            [step("cache", "an answer of age 7s with 13s to go")]
        );
        assert_eq!(second.records, ["web.cluster.local. 13 IN A 10.0.0.1"]);
        let refused = bench.resolver.lookup(&web, 252).await;
        assert_eq!((&*refused.rcode, refused.steps.len()), ("REFUSED", 1));
    }
}
