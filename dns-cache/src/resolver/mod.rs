//! Query in, reply out: from the cache, or by asking the zone's servers.

mod cache;
mod clock;
mod compress;
mod contents;
pub(crate) mod counters;
mod entry;
mod flights;
mod probe;
mod rdata;
#[cfg(test)]
pub(crate) mod tests;
mod zones;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dns_cache_common::question::{self, Client, KeyParts, Parsed, Query, Refusal};
use dns_cache_common::reply::{Reply, Source, Stored};
use dns_cache_common::types::rcode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

pub use clock::{Clock, Time};
pub use contents::{Cached, Listing, Selection, Usage};
pub use dns_cache_common::question::Transport;
pub use entry::{BadResponse, Entry};

use crate::config::Config;
use crate::upstream::{self, ServerStatus, Timings};
use cache::Cache;
use counters::Counters;
use flights::{Boarding, Flights};
use zones::Zones;

/// A client is answered within this time, with SERVFAIL if need be: before glibc's 5 s.
const DEADLINE: Duration = Duration::from_secs(4);

/// Answers queries from its cache, or by asking upstreams.
#[derive(Debug)]
pub struct Resolver {
    cache: Cache,
    zones: Zones,
    flights: Flights,
    clock: Clock,
    counters: Counters,
    deadline: Duration,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Answer {
    /// A reply of so many bytes was appended.
    Reply(usize),
    /// An upstream must be asked.
    Miss(Miss),
    /// It gets no reply.
    Drop,
}

/// A query that the cache has no answer for, with all that its reply needs.
#[derive(Debug)]
pub struct Miss {
    client: Client,
    question: Box<[u8]>,
    key: Box<[u8]>,
}

/// Why there is no resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A zone's name in the configuration cannot be written as a DNS name.
    #[error("zone `{0}`: not a domain name: labels are 1 to 63 bytes long, names at most 255")]
    ZoneName(String),
    /// The servers for names outside all zones are not known.
    #[error(
        "{}: no usable servers: {reason}; write a `nameserver` line there, name another file in the \
         configuration, or give the zone `.` upstreams of its own",
        path.display()
    )]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The resolver's state, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is in the cache.
    pub cache: Usage,
    /// Counts since the start, by name.
    pub counters: Vec<(&'static str, u64)>,
    /// All servers of all zones.
    pub upstreams: Vec<UpstreamStatus>,
}

/// A server's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The zone for which it is asked.
    pub zone: String,
    /// Its address.
    pub address: SocketAddr,
    /// How far it is: nearer ones are asked first.
    pub distance: u32,
    /// Its share of the queries among those of the same distance.
    pub weight: u32,
    /// Open connections.
    pub connections: u64,
    /// Queries that wait for its answer.
    pub in_flight: u64,
    /// Queries sent to it.
    pub queries: u64,
    /// Of them, those that were sent because another server took long.
    pub hedges: u64,
    /// Attempts that ended without an answer, or without one in time.
    pub failures: u64,
    /// The same by kind: `unreachable`, `closed`, `timeout`, `mismatched`, `malformed`.
    pub failures_by_kind: BTreeMap<String, u64>,
    /// Messages that answered none of its queries, and were dropped.
    pub unmatched: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// What half of its last answers took at most, in microseconds; `None` before the first answer.
    pub rtt_micros: Option<u64>,
    /// What 95 % of its last answers took at most, in microseconds; `None` before the first answer.
    pub rtt_p95_micros: Option<u64>,
    /// It is ejected: it did not answer lately and is asked last.
    pub suspect: bool,
}

impl Resolver {
    /// A resolver with an empty cache; it connects to servers when they are needed.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        Self::with(config, Clock::default(), Timings::default(), DEADLINE)
    }

    pub(crate) fn with(
        config: &Config,
        clock: Clock,
        timings: Timings,
        deadline: Duration,
    ) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            cache: Cache::new(config.cache),
            zones: Zones::new(config, timings)?,
            flights: Flights::default(),
            clock,
            counters: Counters::default(),
            deadline,
        }))
    }

    /// The clock that answers age by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Answers a message at once if it can be: from the cache, or by an error. The reply is appended to `out`;
    /// nothing is allocated if that has room.
    pub fn answer_cached(
        &self,
        message: &[u8],
        transport: Transport,
        now: Time,
        out: &mut Vec<u8>,
    ) -> Answer {
        match question::parse(message, transport) {
            Parsed::Query(query) => {
                if let Some((entry, age)) = self.cache.fresh(query.key.as_bytes(), now) {
                    self.counters.hits.add(1);
                    if entry.is_denial() {
                        self.counters.denial_hits.add(1);
                    }
                    let source = Source::Cache { age };
                    let reply = Reply::new(&query.client, query.question, entry.stored(), source)
                        .turned(turn());
                    Answer::Reply(append(&reply, out))
                } else {
                    Answer::Miss(Miss::new(&query))
                }
            }
            Parsed::Refuse(refusal) => {
                self.counters.refused.add(1);
                Answer::Reply(append_refusal(&refusal, out))
            }
            Parsed::Drop => {
                self.counters.dropped.add(1);
                Answer::Drop
            }
        }
    }

    /// Gets the answer to a miss and makes the client's reply; SERVFAIL if there is none in time.
    pub async fn resolve(self: &Arc<Self>, miss: Miss) -> Vec<u8> {
        self.counters.misses.add(1);
        let mut flight = match self.board(&miss.key) {
            Boarding::Landed(entry, age) => {
                return miss.reply(entry.stored(), Source::Cache { age });
            }
            Boarding::Flight(flight) => flight,
        };
        let landed = timeout(self.deadline, flight.wait_for(Option::is_some)).await;
        let entry = landed
            .ok()
            .and_then(Result::ok)
            .and_then(|entry| entry.as_ref().map(Arc::clone));
        match entry {
            Some(entry) => miss.reply(entry.stored(), Source::Upstream),
            None => {
                self.counters.failed.add(1);
                miss.reply(Stored::bare(rcode::SERVFAIL), Source::Upstream)
            }
        }
    }

    /// The reply to a query that cannot be worked on because too many are.
    pub(crate) fn turn_away(&self, miss: &Miss) -> Vec<u8> {
        self.counters.overload.add(1);
        miss.reply(Stored::bare(rcode::REFUSED), Source::Upstream)
    }

    /// The state of cache and upstreams. It looks at every entry.
    #[must_use]
    pub fn status(&self) -> Status {
        let upstreams = self.zones.iter().flat_map(|zone| {
            zone.group
                .status()
                .into_iter()
                .map(|server| UpstreamStatus::new(&zone.name, server))
        });
        Status {
            cache: self.usage(),
            counters: self.counters.list(),
            upstreams: upstreams.collect(),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Joins the flight that fetches a key's answer, or starts it.
    fn board(self: &Arc<Self>, key: &[u8]) -> Boarding {
        let (boarding, new) = self
            .flights
            .board(key, || self.cache.fresh(key, self.clock.now()));
        match new {
            Some(flight) => {
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    let entry = Arc::new(this.fetch(flight.key()).await);
                    let key = flight.key().into();
                    this.flights.land(flight, entry, |entry| match entry.ttl() {
                        Some(_) => this.cache.insert(key, entry),
                        None => this.counters.not_cacheable.add(1),
                    });
                });
            }
            None => self.counters.coalesced.add(1),
        }
        boarding
    }

    /// Asks the zone's servers what `key` asks.
    async fn fetch(&self, key: &[u8]) -> Entry {
        let failed = |reason: &dyn std::fmt::Display| {
            self.counters.failed.add(1);
            tracing::debug!(%reason, "no answer from upstream");
            Entry::bare(rcode::SERVFAIL, self.clock.now())
        };
        let Some((parts, zone)) =
            KeyParts::read(key).and_then(|parts| Some((parts, self.zones.of(parts.name)?)))
        else {
            return failed(&"no zone matches");
        };
        let query = Arc::new(upstream::Query::new(&parts));
        let read = |response: &Bytes| {
            Entry::new(response, &parts, zone.caps, self.clock.now())
                .inspect_err(|_| self.counters.malformed_responses.add(1))
        };
        match timeout(self.deadline, zone.group.ask(&query, read)).await {
            Ok(Ok(entry)) => entry,
            Ok(Err(failure)) => failed(&failure),
            Err(elapsed) => failed(&elapsed),
        }
    }
}

impl Miss {
    fn new(query: &Query<'_>) -> Self {
        Self {
            client: query.client,
            question: query.question.into(),
            key: query.key.as_bytes().into(),
        }
    }

    fn reply(&self, stored: Stored<'_>, source: Source) -> Vec<u8> {
        let reply = Reply::new(&self.client, &self.question, stored, source).turned(turn());
        let mut out = Vec::with_capacity(reply.size());
        append(&reply, &mut out);
        out
    }
}

impl UpstreamStatus {
    fn new(zone: &str, server: ServerStatus) -> Self {
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let kinds = server.failures_by_kind.into_iter();
        Self {
            zone: zone.to_owned(),
            address: server.address,
            distance: server.distance,
            weight: server.weight,
            connections: server.connections as u64,
            in_flight: server.in_flight as u64,
            queries: server.queries,
            hedges: server.hedges,
            failures: server.failures,
            failures_by_kind: kinds
                .map(|(kind, count)| (kind.to_owned(), count))
                .collect(),
            unmatched: server.unmatched,
            ejections: server.ejections,
            rtt_micros: server.rtt_p50.map(micros),
            rtt_p95_micros: server.rtt_p95.map(micros),
            suspect: server.suspect,
        }
    }
}

/// A number for the next reply's order of addresses: Marsaglia's xorshift32. Not one after the other, or
/// a client that asks for A and AAAA in turn would always get the same first A.
fn turn() -> u32 {
    thread_local!(static STATE: Cell<u32> = const { Cell::new(0x9e37_79b9) });
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x
    })
}

fn append(reply: &Reply<'_>, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + reply.size(), 0);
    // It was given the room that it asked for.
    let _ = reply.write(&mut out[start..]);
    reply.size()
}

fn append_refusal(refusal: &Refusal<'_>, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + refusal.size(), 0);
    // It was given the room that it asked for.
    let _ = refusal.write(&mut out[start..]);
    refusal.size()
}
