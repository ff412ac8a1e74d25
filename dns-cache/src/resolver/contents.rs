//! A look into the cache from outside, and its flush.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dns_cache_common::header::Flags;
use dns_cache_common::question::{Client, KeyParts, TCP_LIMIT};
use dns_cache_common::reply::{Reply, Source, Stored};
use serde::{Deserialize, Serialize};

use super::answer::append;
use super::cache::size;
use super::lookup::{self, question};
use super::zones::Zones;
use super::{Resolver, Time};
use crate::kernel_cache::Seen;
use crate::presentation::{name_text, rcode_text, rtype_text};

/// Which names are meant; in wire form and lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// This name and every name below it.
    Zone(Box<[u8]>),
    /// This name alone.
    Name(Box<[u8]>),
}

/// What the cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Answers.
    pub entries: u64,
    /// Those among them without data: NXDOMAIN and NODATA.
    pub denials: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
    /// Answers that had to make room since the start.
    pub evicted: u64,
    /// Those among them without data.
    pub evicted_denials: u64,
}

/// What a flush took out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// Answers that were in the agent's cache.
    pub entries: u64,
    /// Answers that were in the kernel's, most of them the same ones.
    pub kernel_entries: u64,
}

/// Some of the cache's answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Those that are given most often, the first of them first.
    pub entries: Vec<Cached>,
    /// How many more are meant, beyond the limit; none of them is given more often.
    pub more: u64,
}

/// An answer in the cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cached {
    /// The question's name, without the trailing dot.
    pub name: String,
    /// The question's type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The answer is for clients that want DNSSEC records (DO).
    pub dnssec_ok: bool,
    /// The answer is for clients that want no validation (CD).
    pub checking_disabled: bool,
    /// The response code.
    pub rcode: String,
    /// Seconds for which it is still fresh; 0 if it is not any more.
    pub ttl_seconds: u32,
    /// Seconds since it came from an upstream.
    pub age_seconds: u32,
    /// Bytes of memory that it takes.
    pub bytes: u64,
    /// How often the agent gave it; none if only the kernel has it.
    pub hits: Option<u32>,
    /// How often the kernel gave it since it last looked whether it is in use; none if it is not there.
    pub kernel_hits: Option<u32>,
    /// It answers for every name below as well (RFC 8020).
    #[serde(default)]
    pub cut: bool,
    /// All its records as text, with TTLs as a client would get them; left out of long listings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
}

impl Selection {
    /// Whether a name in wire form and lower case is meant.
    pub(super) fn means(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(meant) => name == &**meant,
            Self::Zone(zone) => is_within(name, zone),
        }
    }

    /// Whether they are all below a name in wire form and lower case, or that name itself.
    fn are_below(&self, name: &[u8]) -> bool {
        match self {
            Self::All => false,
            Self::Name(meant) | Self::Zone(meant) => is_within(meant, name),
        }
    }
}

/// Whether a name is a zone's or below it.
pub(super) fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        // A sound name: each label is as long as it says.
        let label = rest.first().copied().map_or(0, usize::from);
        rest = rest.get(1 + label..).unwrap_or_default();
    }
    rest == zone
}

impl Resolver {
    /// What the cache holds now, and how many of its answers are in each of these zones. It looks at every entry.
    pub(super) fn usage(&self, zones: &Zones) -> (Usage, Vec<u64>) {
        let mut usage = Usage::default();
        let mut by_zone = vec![0; zones.iter().count()];
        for (key, entry) in self.cache.iter() {
            usage.entries += 1;
            usage.denials += u64::from(entry.is_denial());
            usage.bytes += size(&key, &entry) as u64;
            let index = KeyParts::read(&key).and_then(|parts| zones.index_of(parts.name));
            if let Some(entries) = index.and_then(|index| by_zone.get_mut(index)) {
                *entries += 1;
            }
        }
        let [data, denials] = self.cache.evicted();
        (usage.evicted, usage.evicted_denials) = (data + denials, denials);
        (usage, by_zone)
    }

    /// Takes the answers for these names out of both caches, whatever their types; says how many there were.
    ///
    /// When it returns none of them is given any more, and their failures are forgotten. What is on its way from
    /// an upstream reaches those who wait for it, and is not kept.
    pub fn flush(&self, names: &Selection) -> Flushed {
        // A cut answers for the names below it, too.
        self.flush_names(|name| names.means(name), |name| names.are_below(name))
    }

    /// Takes out the answers for the names that are meant, and the cuts above them. Every answer that is taken out
    /// before its time is taken out here.
    pub(super) fn flush_names(
        &self,
        meant: impl Fn(&[u8]) -> bool,
        above: impl Fn(&[u8]) -> bool,
    ) -> Flushed {
        let of = |key: &[u8], chosen: &dyn Fn(&[u8]) -> bool| {
            KeyParts::read(key).is_some_and(|parts| chosen(parts.name))
        };
        // First: from here on nothing old comes in.
        self.flights
            .forget(|key| of(key, &meant) || of(key, &above));
        self.failures.forget_all(|key| of(key, &meant));
        let mut entries = 0;
        for (key, entry) in self.cache.iter() {
            if of(&key, &meant) || entry.covers_below() && of(&key, &above) {
                entries += u64::from(self.cache.remove(&key));
            }
        }
        Flushed {
            entries,
            kernel_entries: self.mirror_flush(meant, above),
        }
    }

    /// The answers in the cache for these names, and for one type if it is given; not more than `limit`.
    #[must_use]
    pub fn cached(&self, names: &Selection, rtype: Option<u16>, limit: usize) -> Listing {
        let now = self.clock.now();
        let mut most = MostHit::new(limit);
        for (key, entry) in self.cache.iter() {
            let Some(parts) = KeyParts::read(&key) else {
                continue;
            };
            if !names.means(parts.name) || rtype.is_some_and(|rtype| rtype != parts.rtype) {
                continue;
            }
            let age = entry.seconds_old(now);
            let ttl = entry.ttl().unwrap_or_default().saturating_sub(age);
            let hits = entry.usage().hits();
            let kernel_hits = self.mirrored(&key).map(|seen| seen.hits);
            most.offer(Some(hits), kernel_hits, || Cached {
                bytes: size(&key, &entry) as u64,
                hits: Some(hits),
                kernel_hits,
                cut: entry.covers_below(),
                records: match names {
                    Selection::Name(_) => records(&parts, entry.stored(), age),
                    Selection::All | Selection::Zone(_) => Vec::new(),
                },
                ..Cached::new(&parts, entry.stored().flags.rcode(), age, ttl)
            });
        }
        self.for_each_mirrored(|seen, answer| {
            let Some(parts) = KeyParts::read(&seen.key) else {
                return;
            };
            let meant = names.means(parts.name) && rtype.is_none_or(|rtype| rtype == parts.rtype);
            if !meant || self.cache.contains(&seen.key) {
                return;
            }
            most.offer(None, Some(seen.hits), || {
                let mut cached = Cached::mirrored(&parts, seen, now);
                if let (Selection::Name(_), Some(answer)) = (names, answer()) {
                    cached.records = records(&parts, answer.stored(), cached.age_seconds);
                }
                cached
            });
        });
        most.listing()
    }
}

/// The answers that are given most often, so many at most.
struct MostHit {
    limit: usize,
    /// Hits, and the answer in the order in which equals are shown; the last of them first.
    best: BinaryHeap<Reverse<(u64, Reverse<Cached>)>>,
    more: u64,
}

impl MostHit {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            best: BinaryHeap::new(),
            more: 0,
        }
    }

    /// Takes an answer in if it is given more often than one that is there, or there is room.
    fn offer(
        &mut self,
        hits: Option<u32>,
        kernel_hits: Option<u32>,
        cached: impl FnOnce() -> Cached,
    ) {
        let hits = [hits, kernel_hits]
            .into_iter()
            .flatten()
            .map(u64::from)
            .sum();
        let least = self.best.peek().map(|Reverse((least, _))| *least);
        if self.best.len() >= self.limit {
            self.more += 1;
            if least.is_none_or(|least| hits <= least) {
                return;
            }
            self.best.pop();
        }
        self.best.push(Reverse((hits, Reverse(cached()))));
    }

    fn listing(self) -> Listing {
        let entries = self.best.into_sorted_vec().into_iter();
        Listing {
            entries: entries
                .map(|Reverse((_, Reverse(cached)))| cached)
                .collect(),
            more: self.more,
        }
    }
}

impl Cached {
    fn new(parts: &KeyParts<'_>, rcode: u16, age_seconds: u32, ttl_seconds: u32) -> Self {
        Self {
            name: name_text(parts.name),
            rtype: rtype_text(parts.rtype),
            dnssec_ok: parts.dnssec_ok,
            checking_disabled: parts.checking_disabled,
            rcode: rcode_text(rcode),
            ttl_seconds,
            age_seconds,
            bytes: 0,
            hits: None,
            kernel_hits: None,
            cut: false,
            records: Vec::new(),
        }
    }

    /// An answer that only the kernel has.
    fn mirrored(parts: &KeyParts<'_>, seen: &Seen, now: Time) -> Self {
        let age = now.seconds_since(seen.stored);
        let ttl = seen.until.seconds_since(now);
        Self {
            bytes: seen.bytes,
            kernel_hits: Some(seen.hits),
            cut: seen.covers_below,
            ..Self::new(parts, seen.rcode, age, ttl)
        }
    }
}

/// The answer's records as text, by way of the reply that a client would get.
fn records(parts: &KeyParts<'_>, stored: Stored<'_>, age: u32) -> Vec<String> {
    let client = Client {
        id: 0,
        flags: Flags::default(),
        edns: None,
        limit: TCP_LIMIT,
    };
    let question = question(parts);
    let reply = Reply::new(&client, &question, stored, Source::Cache { age });
    let mut message = Vec::new();
    append(&reply, &mut message);
    lookup::records(&message)
}
