//! What the configuration answers by itself: hosts, and zones that are blocked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::KeyParts;
use dns_cache_common::types::{class, rcode, rtype};

use super::Error;
use super::clock::Time;
use super::contents::is_within;
use super::entry::{Entry, Terms};
use super::zones::wire_name;
use crate::config::{BlockedAnswer, Config, TtlCaps};

/// The TTL of a host's records, in seconds. A change of the configuration is seen after it.
const TTL: u32 = 30;

/// Names with answers of their own, in wire form and lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Local {
    hosts: HashMap<Box<[u8]>, Records>,
    blocked: HashMap<Box<[u8]>, u16>,
}

/// A host's records: types and RDATA.
type Records = Vec<(u16, Vec<u8>)>;

/// What there is for a name.
#[derive(Debug)]
pub(super) enum Found {
    /// The host's answer.
    Host(Arc<Entry>),
    /// The response code for all names of the zone.
    Blocked(u16),
}

impl Local {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let mut hosts: HashMap<Box<[u8]>, Records> = HashMap::new();
        for host in &config.hosts {
            let name = wire_name(&host.name)?;
            for address in &host.addresses {
                let record = match address {
                    IpAddr::V4(ip) => (rtype::A, ip.octets().to_vec()),
                    IpAddr::V6(ip) => (rtype::AAAA, ip.octets().to_vec()),
                };
                hosts.entry(name.clone()).or_default().push(record);
                let reverse = wire_name(&reverse_name(*address))?;
                let pointer = (rtype::PTR, name.to_vec());
                hosts.entry(reverse).or_default().push(pointer);
            }
        }
        let blocked = config.blocked.iter().map(|blocked| {
            let rcode = match blocked.answer {
                BlockedAnswer::NxDomain => rcode::NXDOMAIN,
                BlockedAnswer::Refused => rcode::REFUSED,
            };
            Ok((wire_name(&blocked.zone)?, rcode))
        });
        Ok(Self {
            hosts,
            blocked: blocked.collect::<Result<_, _>>()?,
        })
    }

    /// Whether anything is configured for a name in wire form and lower case.
    pub(super) fn decides(&self, name: &[u8]) -> bool {
        let mut zones = self.blocked.keys();
        self.hosts.contains_key(name) || zones.any(|zone| is_within(name, zone))
    }

    /// What is configured for a key's name. Hosts come before blocked zones, longer zones before shorter ones.
    pub(super) fn find(&self, key: &[u8], now: Time) -> Option<Found> {
        if self.hosts.is_empty() && self.blocked.is_empty() {
            return None;
        }
        let parts = KeyParts::read(key).filter(|parts| parts.class == class::IN)?;
        if let Some(records) = self.hosts.get(parts.name) {
            return answer(records, &parts, now).map(|entry| Found::Host(Arc::new(entry)));
        }
        let mut zone = parts.name;
        loop {
            if let Some(rcode) = self.blocked.get(zone) {
                return Some(Found::Blocked(*rcode));
            }
            let label = usize::from(*zone.first().filter(|len| **len != 0)?);
            zone = zone.get(1 + label..)?;
        }
    }
}

/// The answer to a question about a host: its records of that type, or that it has none.
fn answer(records: &Records, key: &KeyParts<'_>, now: Time) -> Option<Entry> {
    let of_type = |rtype: &u16| *rtype == key.rtype || key.rtype == rtype::ANY;
    let records: Vec<_> = records.iter().filter(|(rtype, _)| of_type(rtype)).collect();
    let header = Header {
        id: 0,
        flags: Flags::QR.with(Flags::AA),
        questions: 1,
        records: [u16::try_from(records.len()).ok()?, 0, 0],
    };
    let [kind, class] = [key.rtype, key.class].map(u16::to_be_bytes);
    let mut message = [&header.bytes()[..], key.name, &kind, &class].concat();
    for (rtype, rdata) in records {
        message.extend(b"\xc0\x0c");
        message.extend(rtype.to_be_bytes());
        message.extend(class);
        message.extend(TTL.to_be_bytes());
        message.extend(u16::try_from(rdata.len()).ok()?.to_be_bytes());
        message.extend(rdata);
    }
    let caps = TtlCaps {
        positive: TTL,
        negative: TTL,
        minimum: 0,
    };
    let terms = Terms {
        caps,
        cut: false,
        now,
    };
    Entry::new(&message, key, terms).ok()
}

/// The name below which an address's PTR records stand (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev();
            let labels = nibbles.flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<_> = labels.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}
