//! NXDOMAIN cuts (RFC 8020) in the cluster's zone: one cached "there is no `com.default.svc.cluster.local`" answers
//! for every name below it, so a search list's attempts end on the node.

use std::time::Duration;

use dns_cache_common::cut::{self, Points};
use dns_cache_common::question::{Key, KeyParts};
use dns_cache_common::types::{rcode, rtype};
use moka::sync::Cache as Moka;

use super::Error;
use super::clock::Time;
use super::contents::is_within;
use super::entry::Entry;
use super::zones::wire_name;
use crate::config::Config;

/// Names above others that are known to exist, at most: namespaces, and services with names below them.
const MOST: u64 = 10_000;
/// How long a name that exists is not asked about again.
const EXISTS: Duration = Duration::from_secs(60);
/// For so much longer than its data is cached a name counts as one that exists: within that time more of it, or of what is
/// below it, needs no new note.
const LONGER: Duration = Duration::from_secs(1);
/// Bits of a key that a name's existence does not depend on.
const DO_AND_CD: u8 = 4;

/// `web.default.svc`.
const LABELS_OF_A_SERVICE: usize = 3;

/// Where cuts may stand, and where they may not although the name would allow it.
#[derive(Debug)]
pub(super) struct Cuts {
    /// The zone's name in wire form; `None` if there are no cuts.
    zone: Option<Box<[u8]>>,
    /// Zones within it that have servers of their own, hosts and blocked zones: what the cluster's servers say of a
    /// name above is nothing to them.
    others: Vec<Box<[u8]>>,
    /// Names that exist, and until when they surely do. Whatever an upstream says, nothing is cut there.
    existing: Moka<Box<[u8]>, Time>,
}

impl Cuts {
    /// Cuts in the cluster's zone, if they are wanted there.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let zone = match config.cluster.nxdomain_cut {
            true => Some(wire_name(&config.cluster.domain)?),
            false => None,
        };
        let zones = config.zones.iter().map(|zone| &zone.zone);
        let hosts = config.hosts.iter().map(|host| &host.name);
        let blocked = config.blocked.iter().map(|blocked| &blocked.zone);
        let others = zones.chain(hosts).chain(blocked);
        let others = others.map(|name| wire_name(name));
        let mut others = others.collect::<Result<Vec<_>, _>>()?;
        others.retain(|other| zone.as_ref().is_some_and(|zone| is_within(other, zone)));
        Ok(Self {
            zone,
            others,
            existing: Moka::builder()
                .max_capacity(MOST)
                .time_to_live(Duration::from_secs(86_400))
                .build(),
        })
    }

    /// The zone's name in wire form; `None` if there are no cuts.
    pub(super) fn zone(&self) -> Option<&[u8]> {
        self.zone.as_deref()
    }

    /// Whether cuts may stand at the same names, as far as the configuration says.
    pub(super) fn are_as(&self, other: &Self) -> bool {
        self.zone == other.zone && self.others == other.others
    }

    /// Where cuts may stand for a name of the zone.
    fn points(&self, name: &[u8]) -> Points {
        self.zone
            .as_ref()
            .filter(|_| !self.others.iter().any(|other| is_within(name, other)))
            .map_or(Points::default(), |zone| cut::points(name, zone))
    }

    /// Whether a cut may stand at a name, as far as the configuration says.
    pub(super) fn is_point(&self, name: &[u8]) -> bool {
        self.points(name).is_cut()
    }

    /// The keys of the cuts that a key's name may be below, the shortest name first.
    pub(super) fn above(&self, key: &[u8]) -> impl Iterator<Item = Key> {
        let points = KeyParts::read(key).map_or(Points::default(), |key| self.points(key.name));
        points.above().filter_map(|at| Key::of_ancestor(key, at))
    }

    /// Whether a key's name has more labels than a service's in the zone, so that it is rarely one that exists.
    pub(super) fn is_deep(&self, key: &[u8]) -> bool {
        let (Some(zone), Some(key)) = (&self.zone, KeyParts::read(key)) else {
            return false;
        };
        labels(key.name) > labels(zone) + LABELS_OF_A_SERVICE
    }

    /// Whether an NXDOMAIN for this question holds for everything below its name.
    pub(super) fn may_stand(&self, key: &KeyParts<'_>, now: Time) -> bool {
        key.rtype == rtype::A
            && self.is_point(key.name)
            && !self.exists(key.name, now)
            && !self.would_hide(key.name)
    }

    /// Whether a cut at this name would cover what the cluster's servers know nothing of. The kernel goes by the
    /// cut alone.
    fn would_hide(&self, name: &[u8]) -> bool {
        self.others.iter().any(|other| is_within(other, name))
    }

    /// The key of the name above `key`'s that is worth asking about: the shortest that may not exist.
    pub(super) fn worth_asking(&self, key: &[u8], now: Time) -> Option<Key> {
        self.above(key).find(|above| {
            KeyParts::read(above.as_bytes())
                .is_some_and(|above| !self.exists(above.name, now) && !self.would_hide(above.name))
        })
    }

    /// Learns from an answer which names exist. Returns the keys under which it refutes a cut.
    pub(super) fn learn(&self, key: &[u8], entry: &Entry, now: Time) -> Vec<Vec<u8>> {
        let mut refuted = vec![];
        let Some(parts) = KeyParts::read(key) else {
            return refuted;
        };
        if entry.stored().flags.rcode() != rcode::NOERROR {
            return refuted;
        }
        if self.is_point(parts.name)
            && let Some(own) = Key::of_ancestor(key, 0)
        {
            self.found(own.as_bytes(), now.after(EXISTS), &mut refuted);
        }
        if entry.stored().counts[0] == 0 {
            return refuted;
        }
        // A name with data exists for as long as it is cached, and with it all above.
        let until = now.after(Duration::from_secs(entry.ttl().unwrap_or_default().into()));
        for above in self.above(key) {
            self.found(above.as_bytes(), until, &mut refuted);
        }
        refuted
    }

    /// Notes that the name of a cut's key exists, and what stands against that: nothing if that much is known. Whoever
    /// noted it took out the cuts that were there, and who has entered one since looks for the note.
    fn found(&self, cut: &[u8], until: Time, refuted: &mut Vec<Vec<u8>>) {
        let Some(KeyParts { name, .. }) = KeyParts::read(cut) else {
            return;
        };
        if self.existing.get(name).is_some_and(|known| until <= known) {
            return;
        }
        self.existing.insert(name.into(), until.after(LONGER));
        refuted.extend((0..DO_AND_CD).map(|bits| {
            let mut key = cut.to_vec();
            if let Some(last) = key.last_mut() {
                *last = bits;
            }
            key
        }));
    }

    fn exists(&self, name: &[u8], now: Time) -> bool {
        self.existing.get(name).is_some_and(|until| now < until)
    }
}

/// Labels of a sound name in wire form, the root's not among them.
fn labels(name: &[u8]) -> usize {
    let (mut count, mut at) = (0, 0);
    while let Some(&length) = name.get(at).filter(|length| **length != 0) {
        (count, at) = (count + 1, at + 1 + usize::from(length));
    }
    count
}
