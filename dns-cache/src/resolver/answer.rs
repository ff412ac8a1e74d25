//! From query to reply: local → cache → cut → failures → coalesce → upstream → stale.

use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use dns_cache_common::question::{self, Key, KeyParts, Parsed, Refusal, TCP_LIMIT, Transport};
use dns_cache_common::reply::{Reply, Source};
use tokio::time::{Instant, timeout, timeout_at};

use super::clock::Time;
use super::entry::{BadResponse, Entry, Terms};
use super::failures::Failure;
use super::flights::{Boarding, Flight, Landing};
use super::given::{Given, Waited};
use super::local::Found;
use super::zones::Zone;
use super::{Answer, Miss, Resolver};
use crate::upstream;

/// An answer that may be given although its TTL is over.
#[derive(Debug)]
pub(super) struct Expired {
    entry: Arc<Entry>,
    /// The key that it stands under, if it is a cut's.
    cut: Option<Key>,
}

/// An entry that says that there is nothing below its name.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) key: Key,
    entry: Arc<Entry>,
}

/// What a client waits for.
struct Wait {
    landing: Landing,
    /// It was on its way already.
    joined: bool,
    /// What it gets in the place of no answer,
    stale: Option<Arc<Entry>>,
    /// after this moment.
    until: Instant,
}

impl Resolver {
    /// Answers a message at once if it can be: from what is at hand, or by an error. The reply is appended
    /// to `out`; nothing is allocated if that has room. Must be called within a tokio runtime: upstreams are asked
    /// on the thread that the question comes by.
    pub fn answer_cached(
        self: &Arc<Self>,
        message: &[u8],
        transport: Transport,
        now: Time,
        out: &mut Vec<u8>,
    ) -> Answer {
        match question::parse(message, transport) {
            Parsed::Query(query) => match self.at_hand(query.key.as_bytes(), now) {
                Some(given) => {
                    let reply = given.reply(&query.client, query.question);
                    Answer::Reply(append(&reply, out))
                }
                None => Answer::Miss(Miss::new(&query)),
            },
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

    /// Gets the answer to a miss and makes the client's reply; a stale one or SERVFAIL if there is none in
    /// time.
    pub async fn resolve(self: &Arc<Self>, miss: Miss) -> Vec<u8> {
        self.resolve_telling(miss).await.0
    }

    /// The same, and how it came to the reply.
    pub(super) async fn resolve_telling(self: &Arc<Self>, miss: Miss) -> (Vec<u8>, Waited) {
        self.counters.misses.add(1);
        let zone = self.zone(&miss.key);
        if let Some(zone) = &zone {
            zone.counts.misses.add(1);
        }
        let waited = self.wait(&miss.key, miss.arrived).await;
        if let (Some(zone), Given::Failure(failure)) = (zone, &waited.given)
            && *failure != Failure::Overload
        {
            zone.counts.failures.add(1);
        }
        (miss.reply(&waited.given), waited)
    }

    /// The reply to a query that [`Self::admit`] has no place for.
    pub(crate) fn turn_away(&self, miss: &Miss, failure: Failure) -> Vec<u8> {
        miss.reply(&match failure {
            Failure::Overload | Failure::TooOften => self.stale_or(&miss.key, failure),
            failure => Given::Failure(failure),
        })
    }

    /// As [`Self::answer_cached`], for a client that may not ask.
    pub(crate) fn deny(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) -> Answer {
        self.counters.access_denied.add(1);
        match question::parse(message, transport) {
            Parsed::Query(query) => {
                let given = Given::Failure(Failure::Denied);
                Answer::Reply(append(&given.reply(&query.client, query.question), out))
            }
            Parsed::Refuse(refusal) => Answer::Reply(append_refusal(&refusal, out)),
            Parsed::Drop => Answer::Drop,
        }
    }

    /// What can be given without a wait.
    pub(super) fn at_hand(self: &Arc<Self>, key: &[u8], now: Time) -> Option<Given> {
        match self.zones.load().local.find(key, now) {
            Some(Found::Host(entry)) => {
                self.counters.local.add(1);
                return Some(Given::Entry(entry, Source::Upstream, None));
            }
            Some(Found::Blocked(rcode)) => {
                self.counters.blocked.add(1);
                return Some(Given::Blocked(rcode));
            }
            None => {}
        }
        let cached = self.cache.get(key);
        if let Some((entry, age)) = cached
            .as_ref()
            .and_then(|entry| Some((entry, entry.age(now)?)))
        {
            self.counters.hits.add(1);
            if entry.is_denial() {
                self.counters.denial_hits.add(1);
            }
            return Some(self.give_cached(key, Arc::clone(entry), age, now));
        }
        // Behind the cache, so that a longer name with an answer of its own is never hidden.
        let cuts = self.cuts_above(key);
        if let Some((cut, entry, age)) = fresh(&cuts, now) {
            self.counters.cuts.add(1);
            return Some(self.give_cached(cut.as_bytes(), Arc::clone(entry), age, now));
        }
        let stale = self.expired(cached, cuts, now);
        let failures = [Some(key), stale.as_ref().and_then(Expired::cut)].map(|key| {
            // What failed for a cut fails for all that it covers.
            key.and_then(|key| self.failures.get(key, now))
        });
        let remembered = failures
            .into_iter()
            .flatten()
            .max_by_key(|last| last.until)?;
        match stale {
            Some(stale) if remembered.is_recent(now) => {
                // The upstreams may be well again, but no client shall wait for the proof.
                if !remembered.holds(now) {
                    self.refresh(stale.cut().unwrap_or(key));
                }
                Some(self.give_stale(key, stale.entry))
            }
            None if remembered.holds(now) => {
                self.counters.remembered_failures.add(1);
                Some(Given::Failure(remembered.failure))
            }
            _ => None,
        }
    }

    /// The entries, fresh or not, of the names above that say that there is nothing below them, the shortest name first.
    pub(super) fn cuts_above(&self, key: &[u8]) -> Vec<Cut> {
        let zones = self.zones.load();
        let entries = zones.cuts.above(key).filter_map(|key| {
            let entry = self.cache.get(key.as_bytes())?;
            entry.covers_below().then_some(Cut { key, entry })
        });
        entries.collect()
    }

    /// Asks whether the name above this one exists. For a deep name that is done while it is asked for itself; for
    /// one that may be a service's, which mostly exists, once it is known that it does not.
    fn ask_above(self: &Arc<Self>, key: &[u8]) {
        let now = self.clock.now();
        if let Some(above) = self.zones().cuts.worth_asking(key, now)
            && self.cache.fresh(above.as_bytes(), now).is_none()
        {
            self.ask_for_cut(above.as_bytes(), now);
        }
    }

    /// Asks whether a name exists that others are below, unless that failed just now.
    fn ask_for_cut(self: &Arc<Self>, above: &[u8], now: Time) {
        let failed = self.failures.get(above, now);
        if !failed.is_some_and(|failed| failed.holds(now)) {
            self.refresh(above);
        }
    }

    fn give_cached(self: &Arc<Self>, key: &[u8], entry: Arc<Entry>, age: u32, now: Time) -> Given {
        entry.usage().hit();
        self.refresh_if_due(key, &entry, now);
        Given::Entry(entry, Source::Cache { age }, None)
    }

    /// Waits for the upstreams, until the deadline of a query that arrived then; for a shorter time if there is a stale
    /// answer.
    async fn wait(self: &Arc<Self>, key: &[u8], arrived: Instant) -> Waited {
        let Wait {
            landing,
            joined,
            stale,
            until,
        } = match self.board(key, arrived) {
            Ok(wait) => wait,
            Err(waited) => return waited,
        };
        let (given, failure) = match timeout_at(until, landing.outcome()).await {
            Ok(Some(Ok(entry))) => (Given::Entry(entry, Source::Upstream, None), None),
            failed => {
                let failure = match failed {
                    Ok(Some(Err(Failure::Overload))) => self.overload(),
                    Ok(Some(Err(failure))) => failure,
                    _ => Failure::Timeout,
                };
                let given =
                    stale.map_or(Given::Failure(failure), |entry| self.give_stale(key, entry));
                (given, Some(failure))
            }
        };
        Waited {
            given,
            joined,
            failure,
        }
    }

    /// What there is to wait for. No part of [`Self::wait`], whose every local variable would take its place in the memory
    /// of each query that waits.
    fn board(self: &Arc<Self>, key: &[u8], arrived: Instant) -> Result<Wait, Waited> {
        let stale = self.stale(key);
        let cut = stale.as_ref().and_then(Expired::cut);
        let boarding = self
            .flights
            .board(key, || self.cache.fresh(key, self.clock.now()));
        let (landing, joined) = match boarding {
            Boarding::Landed(entry, age) => {
                let given = Given::Entry(entry, Source::Cache { age }, None);
                return Err(Waited::at_once(given, None));
            }
            Boarding::Full => {
                let failure = self.overload();
                return Err(Waited::at_once(self.stale_or(key, failure), Some(failure)));
            }
            Boarding::Joined(landing) => {
                self.counters.coalesced.add(1);
                (landing, true)
            }
            Boarding::New(landing, flight) => {
                tokio::spawn(Arc::clone(self).fly(flight));
                match cut {
                    Some(cut) => self.ask_for_cut(cut, self.clock.now()),
                    None if self.zones().cuts.is_deep(key) => self.ask_above(key),
                    None => {}
                }
                (landing, false)
            }
        };
        let mut until = arrived + self.deadline;
        if stale.is_some() {
            // By the flight's time, or the cut's: who comes later need not wait as long again.
            let of_cut = cut.and_then(|cut| self.flights.began(cut));
            let began = of_cut.map_or(landing.began, |began| began.min(landing.began));
            until = until.min(began + self.stale.patience(self.silence(key)));
        }
        Ok(Wait {
            landing,
            joined,
            stale: stale.map(|stale| stale.entry),
            until,
        })
    }

    /// How long no server for a key has answered anything.
    fn silence(&self, key: &[u8]) -> Duration {
        self.zone(key)
            .map_or(Duration::ZERO, |zone| zone.group.silence())
    }

    /// The zone that a key's name is in.
    fn zone(&self, key: &[u8]) -> Option<Arc<Zone>> {
        let parts = KeyParts::read(key)?;
        self.zones.load().of(parts.name).cloned()
    }

    /// An expired answer that may still be given.
    fn stale(&self, key: &[u8]) -> Option<Expired> {
        let own = self.cache.get(key);
        self.expired(own, self.cuts_above(key), self.clock.now())
    }

    /// The same; `own` is what the cache has for the key itself, `cuts` are those above it.
    pub(super) fn expired(
        &self,
        own: Option<Arc<Entry>>,
        cuts: Vec<Cut>,
        now: Time,
    ) -> Option<Expired> {
        let allowed = |entry: &Arc<Entry>| self.stale.allows(entry, now);
        let own = own.filter(allowed);
        // A cut says "no such name" for all that is below it: one question, and one failure, are enough.
        let says_no_more = |entry: &Arc<Entry>| entry.is_nxdomain() && entry.is_denial();
        if own.as_ref().is_none_or(says_no_more)
            && let Some(cut) = self.stale_cut(cuts, now)
        {
            return Some(cut);
        }
        own.map(|entry| Expired { entry, cut: None })
    }

    /// The expired one of these that may still be given. Names below it that were found since have taken it out of the
    /// cache.
    fn stale_cut(&self, cuts: Vec<Cut>, now: Time) -> Option<Expired> {
        let mut cuts = cuts.into_iter();
        let cut = cuts.find(|cut| {
            self.stale.allows(&cut.entry, now) && !self.is_refuted(cut.key.as_bytes(), &cut.entry)
        })?;
        Some(Expired {
            entry: cut.entry,
            cut: Some(cut.key),
        })
    }

    fn give_stale(&self, key: &[u8], entry: Arc<Entry>) -> Given {
        self.counters.stale.add(1);
        if let Some(zone) = self.zone(key) {
            zone.counts.stale.add(1);
        }
        self.stale.give(entry)
    }

    fn stale_or(&self, key: &[u8], failure: Failure) -> Given {
        self.stale(key).map_or(Given::Failure(failure), |stale| {
            self.give_stale(key, stale.entry)
        })
    }

    /// Brings a flight to its end: fetches its answer, keeps it, and gives it to all who wait.
    pub(super) async fn fly(self: Arc<Self>, flight: Flight) {
        let outcome = self.fetch(flight.key()).await;
        self.land(flight, outcome, true).await;
    }

    /// Keeps what a flight brings, and gives it to all who wait; a failure is remembered on request.
    pub(super) async fn land(
        self: &Arc<Self>,
        flight: Flight,
        outcome: Result<Entry, Failure>,
        remember: bool,
    ) {
        let outcome = outcome.map(Arc::new);
        if let Err(failure) = &outcome {
            tracing::debug!(%failure, "no answer from upstream");
            let is_failed = *failure != Failure::Overload;
            self.counters.failed.add(is_failed.into());
        }
        let mut mirrored = None;
        let missing = outcome.as_ref().is_ok_and(|entry| entry.is_nxdomain());
        let above =
            (missing && !self.zones().cuts.is_deep(flight.key())).then(|| flight.key().to_vec());
        self.flights
            .land(flight, outcome, |key, outcome| match outcome {
                Ok(entry) => {
                    self.failures.forget(key, self.clock.now());
                    self.keep(key, entry);
                    mirrored = self.to_mirror(key, entry);
                }
                // There may be a place in a moment.
                Err(Failure::Overload) => {}
                Err(failure) if remember => {
                    self.failures.insert(key, *failure, self.clock.now());
                }
                Err(_) => {}
            });
        if let Some(mirrored) = mirrored {
            // Those who wait are on this thread: they send their replies first.
            behind_others().await;
            self.mirror(&mirrored);
        }
        if let Some(key) = above {
            self.ask_above(&key);
        }
    }

    /// Enters a real answer into the cache. One that may not be kept still ends what was there.
    pub(super) fn keep(&self, key: &[u8], entry: &Arc<Entry>) {
        for refuted in self.zones().cuts.learn(key, entry, self.clock.now()) {
            let cached = self.cache.get(&refuted);
            if cached.is_some_and(|cached| cached.covers_below()) {
                self.cache.remove(&refuted);
            }
            // The kernel may have it for longer.
            self.mirror_removal_of_cut(&refuted);
        }
        if entry.ttl().is_some() {
            self.cache.insert(key.into(), Arc::clone(entry));
            if self.is_refuted(key, entry) {
                self.cache.remove(key);
            }
        } else {
            self.counters.not_cacheable.add(1);
            self.cache.remove(key);
            self.mirror_removal(key);
        }
    }

    /// Whether an answer covers names below it of which one was found meanwhile. Who finds one takes out the cuts that
    /// are there already: whichever comes last, the cut goes.
    pub(super) fn is_refuted(&self, key: &[u8], entry: &Entry) -> bool {
        entry.covers_below()
            && KeyParts::read(key)
                .is_some_and(|key| !self.zones().cuts.may_stand(&key, self.clock.now()))
    }

    /// Asks the zone's servers what `key` asks.
    pub(super) async fn fetch(&self, key: &[u8]) -> Result<Entry, Failure> {
        let zones = self.zones();
        let (parts, zone) = KeyParts::read(key)
            .and_then(|parts| Some((parts, zones.of(parts.name)?)))
            .ok_or(Failure::NoServers)?;
        let query = Arc::new(upstream::Query::new(&parts));
        let read = |response: &Bytes, server: Option<SocketAddr>| {
            let now = self.clock.now();
            let terms = Terms {
                caps: zone.caps,
                cut: zones.cuts.may_stand(&parts, now),
                now,
            };
            match Entry::new(response, &parts, terms) {
                Err(bad @ (BadResponse::Malformed | BadResponse::TooLarge)) => {
                    self.counters.malformed_responses.add(1);
                    Err(bad)
                }
                // An answer, or the server's word that it has none: another's may be better.
                sound => Ok(sound.map(|entry| entry.said_by(server))),
            }
        };
        #[cfg(test)]
        if let Some(script) = self.script.get() {
            let answer = timeout(self.deadline, script.ask(&parts));
            let response = answer.await.map_err(|_| Failure::Timeout)??;
            return Ok(read(&response, None)??);
        }
        let answer = timeout(
            self.deadline,
            zone.group
                .ask(&query, |response, server| read(response, Some(server))),
        )
        .await
        .map_err(|_| Failure::Timeout)??;
        Ok(answer?)
    }
}

/// The first of these that is fresh, and its age in seconds.
pub(super) fn fresh(cuts: &[Cut], now: Time) -> Option<(&Key, &Arc<Entry>, u32)> {
    let mut cuts = cuts.iter();
    cuts.find_map(|Cut { key, entry }| Some((key, entry, entry.age(now)?)))
}

/// Lets the tasks that are ready on this thread go first. tokio's `yield_now` would also look for what has come in
/// meanwhile, which is a system call.
async fn behind_others() {
    let mut has_waited = false;
    poll_fn(|context| {
        if mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Expired {
    pub(super) fn cut(&self) -> Option<&[u8]> {
        self.cut.as_ref().map(Key::as_bytes)
    }
}

impl Miss {
    fn reply(&self, given: &Given) -> Vec<u8> {
        let truncated = Given::Failure(Failure::Truncated);
        // TC would send a client that came by TCP to where it is.
        let given = match self.client.limit == TCP_LIMIT && given.is_truncated() {
            true => &truncated,
            false => given,
        };
        let reply = given.reply(&self.client, &self.question);
        let mut out = Vec::with_capacity(reply.size());
        append(&reply, &mut out);
        out
    }
}

pub(super) fn append(reply: &Reply<'_>, out: &mut Vec<u8>) -> usize {
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
