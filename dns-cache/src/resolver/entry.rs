//! An upstream's response in the form in which it is kept.
//!
//! A response is whatever a server chose to send. It is taken apart record by record and written anew, so
//! that what is kept is sound, stands behind any question of the same name, and has no OPT record.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use dns_cache_common::header::{Flags, Header, u16_at, u32_at};
use dns_cache_common::name::Expanded;
use dns_cache_common::question::{KeyParts, split_question};
use dns_cache_common::reply::{Record, Rotation, Stored, is_fresh};
use dns_cache_common::types::{rcode, rtype};
use dns_cache_common::{edns, header};

use super::clock::Time;
use super::compress::Writer;
use super::rdata::{Field, layout};
use super::usage::Usage;
use crate::config::TtlCaps;

/// Longest body that leaves room for header, question and OPT in a stream's message.
const MAX_BODY: usize = 65_535 - edns::OPT_LEN;

/// An answer, kept or just received.
#[derive(Debug)]
pub struct Entry {
    flags: Flags,
    counts: [u16; 3],
    records: Box<[Record]>,
    body: Box<[u8]>,
    rotation: Option<Rotation>,
    ttl: Ttl,
    stored: Time,
    covers_below: bool,
    usage: Usage,
    server: Option<SocketAddr>,
}

/// What an answer's life depends on besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The zone's caps.
    pub caps: TtlCaps,
    /// An NXDOMAIN stands for all names below as well.
    pub cut: bool,
    /// When it arrived.
    pub now: Time,
}

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ttl {
    Seconds(u32),
    NotKept,
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// It does not keep to the format, or its parts contradict each other.
    #[error("the response is malformed")]
    Malformed,
    /// Written without the compression it came with it is longer than a message may be.
    #[error("the response is too large")]
    TooLarge,
    /// The server says by this rcode that it cannot or will not answer.
    #[error("the upstream answered with rcode {0}")]
    Error(u16),
}

use BadResponse::{Error, Malformed, TooLarge};

impl Entry {
    /// Takes in a response to what `key` asks.
    pub fn new(response: &[u8], key: &KeyParts<'_>, terms: Terms) -> Result<Self, BadResponse> {
        let header = Header::read(response).ok_or(Malformed)?;
        if !header.flags.has(Flags::QR) || header.flags.opcode() != 0 {
            return Err(Malformed);
        }
        // Errors may come without a question.
        if let code @ (rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED) =
            header.flags.rcode()
        {
            return Err(Error(code));
        }
        if header.questions != 1 {
            return Err(Malformed);
        }
        let (question, _) = split_question(response).ok_or(Malformed)?;
        let (name, numbers) = question.split_at(question.len() - 4);
        if !name.eq_ignore_ascii_case(key.name)
            || u16_at(numbers, 0) != Some(key.rtype)
            || u16_at(numbers, 2) != Some(key.class)
        {
            return Err(Malformed);
        }
        let mut rebuilt = Rebuilt::new(response, header::LEN + question.len(), key);
        // With a CNAME before it, NXDOMAIN speaks of that one's target.
        let covers_below =
            terms.cut && header.flags.rcode() == rcode::NXDOMAIN && header.records[ANSWER] == 0;
        if covers_below {
            rebuilt.writer = Writer::plain(response.len());
        }
        for (section, count) in header.records.into_iter().enumerate() {
            for _ in 0..count {
                rebuilt.record(section)?;
            }
        }
        if rebuilt.extended_rcode != 0 {
            // An error that a client without EDNS could not even be told.
            return Err(Error(rcode::SERVFAIL));
        }
        let mut entry = rebuilt.entry(header.flags, terms);
        entry.covers_below = covers_below;
        Ok(entry)
    }

    /// The same, from this server.
    #[must_use]
    pub fn said_by(self, server: Option<SocketAddr>) -> Self {
        Self { server, ..self }
    }

    /// The server that it came from, if it came from one.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// The form from which replies are built.
    #[must_use]
    pub fn stored(&self) -> Stored<'_> {
        Stored {
            flags: self.flags,
            counts: self.counts,
            records: &self.records,
            body: &self.body,
            rotation: self.rotation,
        }
    }

    /// Whether it says that there is no such name, or no such data (RFC 2308).
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.counts[ANSWER] == 0
    }

    /// The seconds for which it may be kept; `None` if not at all.
    #[must_use]
    pub fn ttl(&self) -> Option<u32> {
        match self.ttl {
            Ttl::Seconds(seconds) => Some(seconds),
            Ttl::NotKept => None,
        }
    }

    /// When it arrived.
    #[must_use]
    pub fn stored_at(&self) -> Time {
        self.stored
    }

    /// When it is no longer fresh.
    #[must_use]
    pub fn expires(&self) -> Time {
        let ttl = self.ttl().unwrap_or_default();
        self.stored.after(Duration::from_secs(ttl.into()))
    }

    /// Whether it says that there is no such name.
    #[must_use]
    pub fn is_nxdomain(&self) -> bool {
        self.flags.rcode() == rcode::NXDOMAIN
    }

    /// Whether it is an NXDOMAIN that answers for every name below its own (RFC 8020). Its body has no
    /// compression pointers, so it stands behind a longer question as well.
    #[must_use]
    pub fn covers_below(&self) -> bool {
        self.covers_below
    }

    /// How often it was given, and whether it is being refreshed.
    #[must_use]
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Its age in whole seconds, as long as it may be given.
    #[must_use]
    pub fn age(&self, now: Time) -> Option<u32> {
        let age = self.seconds_old(now);
        is_fresh(self.ttl()?, age).then_some(age)
    }

    /// Its age in whole seconds, whether it may still be given or not.
    #[must_use]
    pub fn seconds_old(&self, now: Time) -> u32 {
        now.seconds_since(self.stored)
    }

    /// Bytes of memory that it takes, its own structure included.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.records) + self.body.len()
    }
}

/// A response on its way through.
struct Rebuilt<'a> {
    response: &'a [u8],
    at: usize,
    key: &'a KeyParts<'a>,
    writer: Writer,
    records: Vec<Record>,
    /// Which RRset each of them belongs to, and its TTL.
    sets: Vec<(u64, u32)>,
    counts: [u16; 3],
    lowest_ttl: u32,
    /// The answer holds a record of the type asked for.
    has_data: bool,
    /// TTL and minimum of the authority's SOA record, the smaller of them (RFC 2308 §5).
    soa: Option<u32>,
    has_opt: bool,
    extended_rcode: u8,
}

/// A number that stands for the RRset of a record with this owner, type and class. A signature belongs to that of the
/// type that it covers (RFC 4034 §3), by which its RDATA begins.
fn set(owner: &Expanded, type_and_class: &[u8], rdata: &[u8]) -> u64 {
    const RRSIG: [u8; 2] = [0, 46];
    let mut hasher = DefaultHasher::new();
    hasher.write(&owner.as_bytes().to_ascii_lowercase());
    hasher.write(type_and_class);
    if type_and_class.starts_with(&RRSIG) {
        hasher.write(rdata.get(..2).unwrap_or_default());
    }
    hasher.finish()
}

/// The TTLs of records by their RRsets: all of a set have its lowest (RFC 2181 §5.2).
fn ttls(mut sets: Vec<(u64, u32)>) -> impl Iterator<Item = u32> {
    let first = sets.first().map(|(_, ttl)| *ttl);
    if sets.iter().any(|(_, ttl)| Some(*ttl) != first) {
        let mut lowest = HashMap::new();
        for (set, ttl) in &sets {
            let lowest = lowest.entry(*set).or_insert(*ttl);
            *lowest = (*ttl).min(*lowest);
        }
        for (set, ttl) in &mut sets {
            *ttl = lowest[&*set];
        }
    }
    sets.into_iter().map(|(_, ttl)| ttl)
}

const ANSWER: usize = 0;
const AUTHORITY: usize = 1;
const ADDITIONAL: usize = 2;

impl<'a> Rebuilt<'a> {
    fn new(response: &'a [u8], at: usize, key: &'a KeyParts<'a>) -> Self {
        Self {
            response,
            at,
            key,
            writer: Writer::new(key.name, response.len()),
            records: Vec::with_capacity(16),
            sets: Vec::with_capacity(16),
            counts: [0; 3],
            lowest_ttl: u32::MAX,
            has_data: false,
            soa: None,
            has_opt: false,
            extended_rcode: 0,
        }
    }

    /// Takes over the next record.
    fn record(&mut self, section: usize) -> Result<(), BadResponse> {
        let (owner, at) = Expanded::read(self.response, self.at).ok_or(Malformed)?;
        let fixed: &[u8; 10] = self
            .response
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(Malformed)?;
        let number = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        let (rtype, rdata_at) = (number(0), at + 10);
        let rdata_end = rdata_at + usize::from(number(8));
        if rdata_end > self.response.len() {
            return Err(Malformed);
        }
        self.at = rdata_end;
        match (rtype, section) {
            (rtype::OPT, ADDITIONAL) if !self.has_opt && owner.as_bytes() == [0] => {
                (self.has_opt, self.extended_rcode) = (true, fixed[4]);
                return Ok(());
            }
            (rtype::OPT, _) => return Err(Malformed),
            // A signature over the message as it was; it is no longer that.
            (rtype::TSIG, ADDITIONAL) => return Ok(()),
            _ => {}
        }
        // RFC 2181 §8: a TTL with the highest bit set is 0.
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        match section {
            ANSWER => self.has_data |= rtype == self.key.rtype || self.key.rtype == rtype::ANY,
            AUTHORITY if rtype == rtype::SOA => {
                let minimum = rdata_end
                    .checked_sub(4)
                    .and_then(|at| u32_at(self.response, at));
                self.soa = Some(ttl.min(minimum.ok_or(Malformed)?));
            }
            _ => {}
        }
        self.lowest_ttl = self.lowest_ttl.min(ttl);
        self.counts[section] += 1;
        let rdata = self.response.get(rdata_at..rdata_end).unwrap_or_default();
        self.sets.push((set(&owner, &fixed[..4], rdata), ttl));

        self.writer.name(owner.as_bytes());
        self.writer.bytes(&fixed[..4]);
        let ttl_at = self.writer.len();
        self.writer.bytes(&ttl.to_be_bytes());
        self.writer.bytes(&[0, 0]);
        let start = self.writer.len();
        self.rdata(rtype, rdata_at, rdata_end)?;
        let end = self.writer.len();
        if end + header::LEN + self.key.name.len() + 4 > MAX_BODY {
            return Err(TooLarge);
        }
        let length = u16::try_from(end - start).map_err(|_| TooLarge)?;
        self.writer.patch(start - 2, &length.to_be_bytes());
        let offset = |at| u16::try_from(at).map_err(|_| TooLarge);
        self.records.push(Record {
            ttl_at: offset(ttl_at)?,
            end: offset(end)?,
        });
        Ok(())
    }

    /// Takes over RDATA; its parts must fill it exactly.
    fn rdata(&mut self, rtype: u16, mut at: usize, end: usize) -> Result<(), BadResponse> {
        for field in layout(rtype) {
            let length = match field {
                Field::Bytes(length) => *length,
                Field::CharacterString => 1 + usize::from(*self.response.get(at).ok_or(Malformed)?),
                Field::Rest => end.checked_sub(at).ok_or(Malformed)?,
                Field::Compressible | Field::Name => {
                    let (name, after) = Expanded::read(self.response, at).ok_or(Malformed)?;
                    if *field == Field::Compressible {
                        self.writer.name(name.as_bytes());
                    } else {
                        self.writer.bytes(name.as_bytes());
                    }
                    at = after;
                    continue;
                }
            };
            self.writer
                .bytes(self.response.get(at..at + length).ok_or(Malformed)?);
            at += length;
        }
        if at == end { Ok(()) } else { Err(Malformed) }
    }

    /// Decides how long the answer lives, and makes its TTLs say so.
    fn entry(self, flags: Flags, Terms { caps, now, .. }: Terms) -> Entry {
        // What must not be kept (TTL 0) is not kept by a minimum either.
        let least = match self.lowest_ttl.min(self.soa.unwrap_or(u32::MAX)) {
            0 => 0,
            _ => caps.minimum,
        };
        let (cap, kept) = self.cap(flags.rcode(), caps, least);
        let lowest = self.lowest_ttl.max(least).min(cap);
        let kept = kept && lowest > 0 && !flags.has(Flags::TC) && self.key.is_cacheable();
        let ttls = ttls(self.sets);
        let mut body = self.writer.finish();
        for (record, given) in self.records.iter().zip(ttls) {
            let at = usize::from(record.ttl_at);
            if let Some(ttl) = body.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *ttl = given.max(least).min(cap).to_be_bytes();
            }
        }
        Entry {
            rotation: Rotation::find(self.counts[0], &self.records, &body),
            flags,
            counts: self.counts,
            records: self.records.into(),
            body,
            ttl: if kept {
                Ttl::Seconds(lowest)
            } else {
                Ttl::NotKept
            },
            stored: now,
            covers_below: false,
            usage: Usage::default(),
            server: None,
        }
    }

    /// The cap on all TTLs, and whether this kind of answer may be kept.
    fn cap(&self, rcode: u16, caps: TtlCaps, least: u32) -> (u32, bool) {
        match (rcode, self.soa) {
            (rcode::NOERROR, _) if self.has_data => (caps.positive, true),
            (rcode::NOERROR | rcode::NXDOMAIN, Some(soa)) => {
                (soa.max(least).min(caps.negative), true)
            }
            // A chain of CNAMEs that ends nowhere, as CoreDNS gives for an ExternalName of another family.
            // The CNAMEs are data; that nothing follows them is not to be believed for long.
            (rcode::NOERROR, None) if self.counts[ANSWER] > 0 => {
                (caps.positive.min(caps.negative), true)
            }
            // RFC 2308 §5: without an SOA record a negative answer is not kept. Nor are errors.
            _ => (caps.positive, false),
        }
    }
}
