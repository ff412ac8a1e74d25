//! A lookup for whoever looks in from outside, by the same way as a client's, and what it met on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use dns_cache_common::edns::ExtendedError;
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::{KeyParts, Parsed, Transport, parse};
use dns_cache_common::reply::Source;
use dns_cache_common::types::class;
use hickory_proto::op::Message;
use serde::{Deserialize, Serialize};

use super::answer::{append, fresh};
use super::failures::Failure;
use super::given::{Given, Waited};
use super::{Entry, Miss, Resolver, Time};
use crate::kernel_cache::Seen;
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
    /// The server that the answer came from, lately or for the cache; none if it came from none.
    #[serde(default)]
    pub server: Option<SocketAddr>,
    /// The answer's TTL is over: that server did not say it now.
    #[serde(default)]
    pub stale: bool,
    /// Why the upstreams gave no answer, with the Extended DNS Error (RFC 8914) that a client is told; none if they did,
    /// or were not asked.
    #[serde(default)]
    pub cause: Option<String>,
    /// From the question to the reply, in microseconds.
    pub micros: u64,
    /// What was met on the way, in order.
    pub steps: Vec<Step>,
}

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the caches have: `kernel`, `kernel cut`, `cache`, `cut`, and `remembered` for a failure. What was decided here:
    /// `hosts`, `blocked`, or `reply` for an answer at once. What the servers did: `zone`, `joined` for a query that was on
    /// its way, `upstream` or `failure`. At the end `stale`, for an answer after its time.
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

    /// What was given without a wait.
    fn at_hand(&mut self, given: &Given, now: Time) {
        match given {
            Given::Entry(entry, Source::Stale { .. }, _) => {
                self.step("stale", in_cache(entry, now))
            }
            // Only what the configuration says is as new as that.
            Given::Entry(_, Source::Upstream, _) => {
                self.step("hosts", "the configuration has this name".to_owned());
            }
            Given::Blocked(rcode) => self.step("blocked", rcode_text(*rcode)),
            Given::Entry(_, Source::Cache { .. }, _) | Given::Failure(_) => {
                self.step("reply", "at once".to_owned());
            }
        }
    }

    /// What came of a wait for the upstreams.
    fn waited(&mut self, waited: &Waited, now: Time) {
        if waited.joined {
            self.step("joined", "a query that was on its way already".to_owned());
        }
        if let Some(failure) = waited.failure {
            self.step("failure", told_cause(failure));
        }
        match &waited.given {
            Given::Entry(entry, Source::Stale { .. }, _) => {
                self.step("stale", in_cache(entry, now))
            }
            Given::Entry(entry, Source::Cache { .. }, _) => {
                let outcome = format!("{}, which came meanwhile", in_cache(entry, now));
                self.step("cache", outcome);
            }
            Given::Entry(entry, Source::Upstream, _) => {
                let rcode = entry.stored().flags.rcode();
                self.step("upstream", rcode_text(rcode) + &by(entry.server()));
            }
            Given::Blocked(_) | Given::Failure(_) => {}
        }
    }
}

impl Resolver {
    /// Looks a name up as a client's query would, which it is counted as. The name is in wire form.
    pub async fn lookup(self: &Arc<Self>, name: &[u8], rtype: u16) -> Lookup {
        let mut trace = Trace::new();
        let message = query(name, rtype);
        let mut reply = Vec::new();
        let now = self.clock.now();
        let (mut server, mut stale, mut cause) = (None, false, None);
        let mut told = |given: &Given, failure: Option<Failure>| {
            (server, stale) = (given.server(), given.is_stale());
            cause = failure.map(told_cause);
        };
        match parse(&message, Transport::Tcp) {
            Parsed::Query(query) => {
                let key = query.key.as_bytes();
                // Looked at before they are used, which may change them.
                self.look_at_caches(key, &mut trace);
                if let Some(given) = self.at_hand(key, now) {
                    append(&given.reply(&query.client, query.question), &mut reply);
                    trace.at_hand(&given, now);
                    let failure = match given {
                        Given::Failure(failure) => Some(failure),
                        _ => None,
                    };
                    told(&given, failure);
                } else {
                    trace.step("zone", self.zone_of(name));
                    let mut waited;
                    (reply, waited) = self.resolve_telling(Miss::new(&query)).await;
                    if waited.given.is_truncated() {
                        // It asks as over TCP, where that is no answer.
                        waited.failure = Some(Failure::Truncated);
                    }
                    trace.waited(&waited, self.clock.now());
                    told(&waited.given, waited.failure);
                }
            }
            Parsed::Refuse(_) | Parsed::Drop => {
                self.answer_cached(&message, Transport::Tcp, now, &mut reply);
                trace.step("reply", "at once".to_owned());
            }
        }
        let rcode = Header::read(&reply[..]).map_or(0, |header| header.flags.rcode());
        Lookup {
            name: name_text(name),
            rtype: rtype_text(rtype),
            rcode: rcode_text(rcode),
            records: records(&reply),
            server,
            stale,
            cause,
            micros: micros(trace.began.elapsed()),
            steps: trace.steps,
        }
    }

    /// What the caches have for a key, in words.
    fn look_at_caches(&self, key: &[u8], trace: &mut Trace) {
        let nothing = || "nothing".to_owned();
        let now = self.clock.now();
        if self.has_kernel() {
            let own = self.mirrored(key);
            let is_fresh = own.as_ref().is_some_and(|own| now < own.until);
            let outcome = own.map(|own| in_kernel(&own, now));
            trace.step("kernel", outcome.unwrap_or_else(nothing));
            if !is_fresh && let Some(cut) = self.mirrored_cut(key) {
                let outcome = format!("{}: {}", nothing_below(&cut.key), in_kernel(&cut, now));
                trace.step("kernel cut", outcome);
            }
        }
        let cached = self.cache.get(key);
        let outcome = cached.as_ref().map(|entry| in_cache(entry, now));
        trace.step("cache", outcome.unwrap_or_else(nothing));
        if cached
            .as_ref()
            .is_some_and(|entry| entry.age(now).is_some())
        {
            return;
        }
        let cuts = self.cuts_above(key);
        if let Some((cut, ..)) = fresh(&cuts, now) {
            trace.step("cut", nothing_below(cut.as_bytes()));
            return;
        }
        if let Some(stale) = self.expired(cached, cuts, now)
            && let Some(cut) = stale.cut()
        {
            trace.step("cut", nothing_below(cut) + ", expired");
        }
        if let Some(remembered) = self.failures.get(key, now)
            && remembered.is_recent(now)
        {
            trace.step("remembered", told_cause(remembered.failure));
        }
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

/// What the resolver's entry is, and who said so.
fn in_cache(entry: &Entry, now: Time) -> String {
    let age = entry.seconds_old(now);
    let ttl = entry.ttl().unwrap_or_default().saturating_sub(age);
    age_and_ttl(age, ttl) + &by(entry.server())
}

/// A failure as a client with EDNS is told it.
fn told_cause(failure: Failure) -> String {
    let ExtendedError { code, text } = failure.explanation();
    format!("{text} (Extended DNS Error {code})")
}

/// What the kernel's entry is.
fn in_kernel(seen: &Seen, now: Time) -> String {
    let age = now.seconds_since(seen.stored);
    let ttl = seen.until.seconds_since(now);
    format!("{}, {} hits", age_and_ttl(age, ttl), seen.hits)
}

/// What the cut under a key says.
fn nothing_below(key: &[u8]) -> String {
    let name = KeyParts::read(key).map(|parts| name_text(parts.name));
    format!("there is nothing below {}", name.unwrap_or_default())
}

/// Who said so.
fn by(server: Option<SocketAddr>) -> String {
    server.map_or_else(String::new, |server| format!(", by {server}"))
}

fn age_and_ttl(age: u32, ttl: u32) -> String {
    match ttl {
        0 => format!("an answer of age {age}s, expired"),
        ttl => format!("an answer of age {age}s with {ttl}s to go"),
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
        assert_eq!(first.server, Some(fake.address));
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
                step("upstream", &format!("NOERROR, by {}", fake.address)),
            ]
        );
        bench.pass(7.0);
        let second = bench.resolver.lookup(&web, 1).await;
        assert_eq!(
            told(&second),
            [
                step(
                    "cache",
                    &format!("an answer of age 7s with 13s to go, by {}", fake.address)
                ),
                step("reply", "at once"),
            ]
        );
        assert_eq!(second.server, Some(fake.address));
        assert_eq!(second.records, ["web.cluster.local. 13 IN A 10.0.0.1"]);
        let refused = bench.resolver.lookup(&web, 252).await;
        assert_eq!((&*refused.rcode, refused.steps.len()), ("REFUSED", 1));
    }
}
