//! How a stored answer becomes one client's reply: flags, TTLs counted down, what fits.
//!
//! ```text
//! reply = header · question as sent · body · OPT
//! ```
//! The body is what an upstream said, laid out so that it is valid behind any question of the same name:
//! its compression pointers lead to the question's name at offset 12 or into the body itself.

use crate::edns::{self, ExtendedError, OPT_LEN};
use crate::header::{self, Flags, Header, u16_at};
use crate::question::{Client, Refusal};
use crate::types::rtype;

/// Where a record of the body lies. Records follow each other without gaps, section by section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Offset of the TTL in the body.
    pub ttl_at: u16,
    /// Offset of the record's end in the body.
    pub end: u16,
}

/// An answer in the form in which it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The upstream's flags; AA, TC, AD and the rcode are used.
    pub flags: Flags,
    /// Records in the answer, authority and additional sections, without OPT.
    pub counts: [u16; 3],
    /// All records, in order.
    pub records: &'a [Record],
    /// Their bytes.
    pub body: &'a [u8],
    /// The addresses among them, if there are several.
    pub rotation: Option<Rotation>,
}

/// Address records of one RRset that follow each other and have the same length, so that they can change
/// places without a pointer changing its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Offset of the first one in the body.
    pub start: u16,
    /// Bytes of each.
    pub len: u16,
    /// How many there are; at least two.
    pub count: u16,
}

impl Rotation {
    /// The first RRset of addresses among the `answers` first records of a body. What stands before it (the
    /// CNAMEs that lead to it) and behind it (its signature) keeps its place.
    #[must_use]
    pub fn find(answers: u16, records: &[Record], body: &[u8]) -> Option<Self> {
        /// A pointer to the owner's name, type, class, TTL, RDLENGTH.
        const FIXED: usize = 12;
        let mut found: Option<(Self, &[u8])> = None;
        let mut start = 0;
        for record in records.iter().take(usize::from(answers)) {
            let bytes = body.get(usize::from(start)..usize::from(record.end))?;
            // With the owner's pointer, type and class, all but TTL and address is compared.
            let head = bytes.get(..6).filter(|head| {
                let (rtype, len) = (u16_at(head, 2), bytes.len() - FIXED.min(bytes.len()));
                head[0] >= 0xc0
                    && matches!((rtype, len), (Some(rtype::A), 4) | (Some(rtype::AAAA), 16))
            });
            match (&mut found, head) {
                (Some((set, first)), Some(head)) if *first == head => set.count += 1,
                (Some((set, _)), _) if set.count > 1 => break,
                (_, Some(head)) => {
                    let len = record.end - start;
                    found = Some((
                        Self {
                            start,
                            len,
                            count: 1,
                        },
                        head,
                    ));
                }
                (_, None) => found = None,
            }
            start = record.end;
        }
        found.map(|(set, _)| set).filter(|set| set.count > 1)
    }

    /// Which of the set's records comes first on this `turn`; 0 if there is no set.
    #[inline(always)]
    #[must_use]
    pub const fn first(self, turn: u32) -> usize {
        match self.count {
            0 => 0,
            count => (turn % count as u32) as usize,
        }
    }

    /// Copies the part of `body` that `out` has room for, the set's records starting with number `turn`
    /// (modulo their count).
    fn copy(self, turn: u32, body: &[u8], out: &mut [u8]) -> Option<()> {
        let (start, len, count) = (
            usize::from(self.start),
            usize::from(self.len),
            usize::from(self.count),
        );
        let at = self.first(turn) * len;
        let (before, rest) = body.split_at_checked(start)?;
        let (set, behind) = rest.split_at_checked(len * count)?;
        let (head, tail) = set.split_at_checked(at)?;
        let mut free = out;
        for part in [before, tail, head, behind] {
            let (to, left) = free.split_at_mut(part.len().min(free.len()));
            to.copy_from_slice(part.get(..to.len())?);
            free = left;
        }
        Some(())
    }
}

impl Stored<'_> {
    /// An answer that consists of nothing but a response code.
    #[must_use]
    pub const fn bare(rcode: u16) -> Self {
        Self {
            flags: Flags(rcode & 0x0f),
            counts: [0; 3],
            records: &[],
            body: &[],
            rotation: None,
        }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the cache, by its age in whole seconds.
    Cache {
        /// Time since the answer was stored.
        age: u32,
    },
    /// From the cache, after its time (RFC 8767).
    Stale {
        /// What all its records' TTLs say, in seconds.
        ttl: u32,
    },
    /// From an upstream, just now.
    Upstream,
}

/// Whether an answer whose lowest TTL is `min_ttl` may be given at this age. Not in its last second: the
/// reply would show a TTL of 0, which some clients take for an error.
#[must_use]
pub const fn is_fresh(min_ttl: u32, age: u32) -> bool {
    age < min_ttl
}

/// A TTL at this age.
#[inline(always)]
#[must_use]
pub const fn aged(ttl: u32, age: u32) -> u32 {
    ttl.saturating_sub(age)
}

/// The flags of a reply.
///
/// RD and CD are the query's (RFC 1035 §4.1.1, RFC 4035 §3.2.2). AA is what CoreDNS's cache says: set on
/// what comes from the cache, the upstream's on the first answer. AD goes to those who asked for it by AD or
/// DO (RFC 6840 §5.7, §5.8).
#[inline(always)]
#[must_use]
pub fn flags(client: &Client, stored: Flags, source: Source) -> Flags {
    let mut keep = Flags::AA.with(Flags::TC);
    if client.flags.has(Flags::AD) || client.edns.is_some_and(|edns| edns.dnssec_ok) {
        keep = keep.with(Flags::AD);
    }
    let cached = match source {
        Source::Cache { .. } | Source::Stale { .. } => Flags::AA,
        Source::Upstream => Flags::default(),
    };
    Flags::QR
        .with(Flags::RA)
        .with(client.flags.only(Flags::RD.with(Flags::CD)))
        .with(stored.only(keep))
        .with(cached)
        .with_rcode(stored.rcode())
}

/// A reply whose length is known, ready to be written.
#[derive(Debug)]
pub struct Reply<'a> {
    header: Header,
    question: &'a [u8],
    records: &'a [Record],
    /// All of the body; `len` bytes of it are sent.
    body: &'a [u8],
    len: usize,
    rotation: Option<Rotation>,
    turn: u32,
    opt: Option<[u8; OPT_LEN]>,
    /// An option of `opt`.
    error: Option<ExtendedError>,
    source: Source,
}

impl<'a> Reply<'a> {
    /// The reply to a client that asked `question` (name, type and class as it sent them).
    #[must_use]
    pub fn new(client: &Client, question: &'a [u8], stored: Stored<'a>, source: Source) -> Self {
        Self::explained(client, question, stored, source, None)
    }

    /// The same with a word on what is wrong with it, for a client that sent an OPT record.
    #[must_use]
    pub fn explained(
        client: &Client,
        question: &'a [u8],
        stored: Stored<'a>,
        source: Source,
        error: Option<ExtendedError>,
    ) -> Self {
        let error = error.filter(|_| client.edns.is_some());
        let error_size = error.map_or(0, |error| error.size());
        let opt = client
            .edns
            // An error's text is a line at most.
            .map(|edns| edns::opt_before(edns.dnssec_ok, 0, error_size as u16));
        let room = client.limit.saturating_sub(
            header::LEN + question.len() + opt.map_or(0, |opt| opt.len()) + error_size,
        );
        let fit = Fit::new(&stored, room);
        let truncated = if fit.truncated {
            Flags::TC
        } else {
            Flags::default()
        };
        let [answer, authority, additional] = fit.counts;
        Self {
            header: Header {
                id: client.id,
                flags: flags(client, stored.flags, source).with(truncated),
                questions: 1,
                records: [
                    answer,
                    authority,
                    additional.saturating_add(u16::from(opt.is_some())),
                ],
            },
            question,
            records: stored.records.get(..fit.records).unwrap_or_default(),
            body: stored.body,
            len: fit.len.min(stored.body.len()),
            rotation: stored.rotation,
            turn: 0,
            opt,
            error,
            source,
        }
    }

    /// The same with another address first, as CoreDNS's `loadbalance` does it: a client that takes the first
    /// one shall not always take the same. `turn` is any number.
    #[must_use]
    pub fn turned(self, turn: u32) -> Self {
        Self { turn, ..self }
    }

    /// Length of the reply in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        header::LEN
            + self.question.len()
            + self.len
            + self.opt.map_or(0, |opt| opt.len())
            + self.error.map_or(0, |error| error.size())
    }

    /// Writes the reply to the beginning of `out`; `None` if it is shorter than [`size`](Self::size).
    pub fn write(&self, out: &mut [u8]) -> Option<()> {
        let (header, rest) = out.split_at_mut_checked(header::LEN)?;
        let (question, rest) = rest.split_at_mut_checked(self.question.len())?;
        let (body, rest) = rest.split_at_mut_checked(self.len)?;
        header.copy_from_slice(&self.header.bytes());
        question.copy_from_slice(self.question);
        match self.rotation {
            Some(rotation) => rotation.copy(self.turn, self.body, body)?,
            None => body.copy_from_slice(self.body.get(..self.len)?),
        }
        if !matches!(self.source, Source::Upstream | Source::Cache { age: 0 }) {
            self.set_ttls(body)?;
        }
        if let Some(opt) = self.opt {
            let (record, rest) = rest.split_first_chunk_mut()?;
            *record = opt;
            if let Some(error) = self.error {
                error.write(rest)?;
            }
        }
        Some(())
    }

    fn set_ttls(&self, body: &mut [u8]) -> Option<()> {
        for record in self.records {
            let bytes: &mut [u8; 4] = body
                .get_mut(usize::from(record.ttl_at)..)?
                .first_chunk_mut()?;
            let ttl = u32::from_be_bytes(*bytes);
            let ttl = match self.source {
                Source::Cache { age } => aged(ttl, age),
                Source::Stale { ttl } => ttl,
                Source::Upstream => ttl,
            };
            *bytes = ttl.to_be_bytes();
        }
        Some(())
    }
}

/// What of an answer fits.
#[derive(Debug, PartialEq, Eq)]
struct Fit {
    counts: [u16; 3],
    records: usize,
    len: usize,
    truncated: bool,
}

impl Fit {
    /// As many whole records as fit. Clients that cannot do TCP (musl before 1.2.4) live on them. Additional
    /// records go all together and without TC (RFC 2181 §9): part of an RRset must not pass for the whole.
    fn new(stored: &Stored<'_>, room: usize) -> Self {
        let all = stored.records.len();
        if stored.body.len() <= room {
            return Self {
                counts: stored.counts,
                records: all,
                len: stored.body.len(),
                truncated: false,
            };
        }
        let [answer, authority, _] = stored.counts;
        let needed = (usize::from(answer) + usize::from(authority)).min(all);
        let mut records = 0;
        let mut len = 0;
        for record in stored.records.iter().take(needed) {
            if usize::from(record.end) > room {
                break;
            }
            len = usize::from(record.end);
            records += 1;
        }
        // Fewer than `needed`, which is the sum of two 16-bit counts; each part is at most its own count.
        let kept_answer = records.min(usize::from(answer));
        Self {
            counts: [kept_answer as u16, (records - kept_answer) as u16, 0],
            records,
            len,
            truncated: records < needed,
        }
    }
}

impl Refusal<'_> {
    /// Length of the reply in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        header::LEN + self.question.len() + self.edns.map_or(0, |_| OPT_LEN)
    }

    /// Writes the reply to the beginning of `out`; `None` if that is shorter than [`size`](Self::size).
    pub fn write(&self, out: &mut [u8]) -> Option<()> {
        let flags = Flags::QR
            .with(Flags::RA)
            .with(
                self.flags
                    .only(Flags(0x7800).with(Flags::RD).with(Flags::CD)),
            )
            .with_rcode(self.rcode);
        let opt = self.edns.map(|edns| edns::opt(edns.dnssec_ok, self.rcode));
        let header = Header {
            id: self.id,
            flags,
            questions: u16::from(!self.question.is_empty()),
            records: [0, 0, u16::from(opt.is_some())],
        };
        let (head, rest) = out.split_at_mut_checked(header::LEN)?;
        let (question, rest) = rest.split_at_mut_checked(self.question.len())?;
        head.copy_from_slice(&header.bytes());
        question.copy_from_slice(self.question);
        if let Some(opt) = opt {
            *rest.first_chunk_mut()? = opt;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::edns::Edns;
    use crate::types::rcode;
    use std::vec;
    use std::vec::Vec;

    const QUESTION: &[u8] = b"\x03wWw\0\0\x01\0\x01";

    /// `counts` records of 16 bytes each, with TTL 30.
    fn records(counts: [u16; 3]) -> (Vec<Record>, Vec<u8>) {
        let total = counts.iter().sum::<u16>();
        let table = (0..total)
            .map(|i| Record {
                ttl_at: i * 16 + 6,
                end: i * 16 + 16,
            })
            .collect();
        let body = (0..total)
            .flat_map(|i| [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, i as u8])
            .collect();
        (table, body)
    }

    fn client(limit: usize, dnssec_ok: Option<bool>, flags: Flags) -> Client {
        let edns = dnssec_ok.map(|dnssec_ok| Edns {
            udp_size: 0,
            version: 0,
            dnssec_ok,
            client_subnet: false,
        });
        Client {
            id: 7,
            flags,
            edns,
            limit,
        }
    }

    fn reply(client: &Client, counts: [u16; 3], source: Source) -> (Header, Vec<u8>) {
        let (table, body) = records(counts);
        let stored = Stored {
            flags: Flags(0x8580),
            counts,
            records: &table,
            body: &body,
            rotation: None,
        };
        let reply = Reply::new(client, QUESTION, stored, source);
        let mut out = vec![0; reply.size()];
        reply.write(&mut out).unwrap();
        assert!(reply.write(&mut vec![0; reply.size() - 1]).is_none());
        assert!(out.len() <= client.limit);
        (Header::read(&out[..]).unwrap(), out)
    }

    #[test]
    fn a_whole_reply() {
        let (header, out) = reply(
            &client(512, Some(true), Flags::RD),
            [2, 1, 1],
            Source::Cache { age: 29 },
        );
        assert_eq!(
            (header.id, header.questions, header.records),
            (7, 1, [2, 1, 2])
        );
        assert_eq!(
            header.flags,
            Flags::QR.with(Flags::AA).with(Flags::RD).with(Flags::RA)
        );
        assert_eq!(&out[12..21], QUESTION);
        assert_eq!(&out[27..31], [0, 0, 0, 1]);
        assert_eq!(out[out.len() - 11..], edns::opt(true, 0));
    }

    #[test]
    fn ttls_saturate() {
        let (_, out) = reply(
            &client(512, None, Flags::RD),
            [1, 0, 0],
            Source::Cache { age: u32::MAX },
        );
        assert_eq!(&out[27..31], [0, 0, 0, 0]);
        assert!(is_fresh(30, 29) && !is_fresh(30, 30) && !is_fresh(0, 0));
    }

    #[test]
    fn a_stale_reply_says_so() {
        let (table, body) = records([1, 0, 1]);
        let stored = Stored {
            flags: Flags(0x8180),
            counts: [1, 0, 1],
            records: &table,
            body: &body,
            rotation: None,
        };
        let error = ExtendedError {
            code: 3,
            text: "why",
        };
        for (dnssec_ok, opt) in [
            (
                Some(false),
                &b"\0\0\x29\x04\xd0\0\0\0\0\0\x09\0\x0f\0\x05\0\x03why"[..],
            ),
            (None, b""),
        ] {
            let client = client(512, dnssec_ok, Flags::RD);
            let source = Source::Stale { ttl: 5 };
            let reply = Reply::explained(&client, QUESTION, stored, source, Some(error));
            let mut out = vec![0; reply.size()];
            reply.write(&mut out).unwrap();
            assert!(reply.write(&mut vec![0; reply.size() - 1]).is_none());
            for ttl_at in [27, 43] {
                assert_eq!(&out[ttl_at..ttl_at + 4], [0, 0, 0, 5]);
            }
            assert_eq!(&out[21 + 32..], opt);
        }
    }

    /// 512 bytes less header (12), question (9) and OPT (11) leave room for 30 records of 16 bytes.
    #[test]
    fn truncation_keeps_whole_records() {
        let edns = client(512, Some(false), Flags::default());
        let cases = [
            ([30, 0, 0], [30, 0, 1], false),
            ([31, 0, 0], [30, 0, 1], true),
            ([20, 11, 5], [20, 10, 1], true),
            ([40, 2, 5], [30, 0, 1], true),
            ([29, 1, 0], [29, 1, 1], false),
            ([20, 5, 6], [20, 5, 1], false),
            ([20, 5, 5], [20, 5, 6], false),
        ];
        for (counts, shown, truncated) in cases {
            let (header, out) = reply(&edns, counts, Source::Upstream);
            assert_eq!(header.records, shown, "{counts:?}");
            assert_eq!(header.flags.has(Flags::TC), truncated, "{counts:?}");
            let records = usize::from(shown.iter().sum::<u16>()) - 1;
            assert_eq!(out.len(), 12 + 9 + 16 * records + 11);
            assert_eq!(out[out.len() - 11..], edns::opt(false, 0));
        }
        let (header, _) = reply(
            &client(65_535, None, Flags::default()),
            [31, 0, 0],
            Source::Upstream,
        );
        assert_eq!(
            (header.records, header.flags.has(Flags::TC)),
            ([31, 0, 0], false)
        );
    }

    #[test]
    fn every_limit_is_kept() {
        for limit in 512..1232 {
            for edns in [None, Some(true)] {
                let (header, out) = reply(
                    &client(limit, edns, Flags::RD),
                    [50, 20, 20],
                    Source::Upstream,
                );
                assert_eq!(header.flags.has(Flags::TC), header.records[1] < 20);
                assert!(limit - out.len() < 16 || header.records[1] == 20);
            }
        }
    }

    #[test]
    fn flags_of_the_reply() {
        let q = |flags, dnssec| client(512, dnssec, flags);
        let none = Flags::default();
        let base = Flags::QR.with(Flags::RA);
        let hit = Source::Cache { age: 0 };
        let cases = [
            (q(none, None), Flags::AD, hit, base.with(Flags::AA)),
            (
                q(Flags::AD, None),
                Flags::AD,
                hit,
                base.with(Flags::AA).with(Flags::AD),
            ),
            (
                q(none, Some(true)),
                Flags::AD,
                hit,
                base.with(Flags::AA).with(Flags::AD),
            ),
            (q(none, Some(false)), Flags::AD, hit, base.with(Flags::AA)),
            (q(Flags::AD, None), none, hit, base.with(Flags::AA)),
            (q(none, None), none, Source::Upstream, base),
            (
                q(none, None),
                Flags::AA,
                Source::Upstream,
                base.with(Flags::AA),
            ),
            (
                q(Flags::RD.with(Flags::CD), None),
                none,
                Source::Upstream,
                base.with(Flags::RD).with(Flags::CD),
            ),
            (
                q(none, None),
                Flags(rcode::NXDOMAIN),
                hit,
                base.with(Flags::AA).with(Flags(3)),
            ),
            (
                q(none, None),
                Flags::TC,
                Source::Upstream,
                base.with(Flags::TC),
            ),
            // The upstream's own RD, RA, CD and Z bits are not passed on, nor the client's AA, TC, RA, Z.
            (q(none, None), Flags(0x01d0), Source::Upstream, base),
            (q(Flags(0x06c0), None), none, Source::Upstream, base),
        ];
        for (client, stored, source, expected) in cases {
            assert_eq!(
                flags(&client, stored, source),
                expected,
                "{client:?} {stored:?} {source:?}"
            );
        }
    }

    #[test]
    fn refusals() {
        let mut out = [0; 100];
        let refusal = Refusal {
            id: 9,
            flags: Flags(0x7d30),
            rcode: rcode::NOTIMP,
            question: &[],
            edns: None,
        };
        refusal.write(&mut out).unwrap();
        assert_eq!(refusal.size(), 12);
        assert_eq!(out[..12], [0, 9, 0xf9, 0x94, 0, 0, 0, 0, 0, 0, 0, 0]);
        let edns = Some(Edns {
            udp_size: 512,
            version: 1,
            dnssec_ok: true,
            client_subnet: false,
        });
        let badvers = Refusal {
            id: 9,
            flags: Flags::RD,
            rcode: rcode::BADVERS,
            question: QUESTION,
            edns,
        };
        let size = badvers.size();
        assert_eq!(size, 23 + QUESTION.len());
        badvers.write(&mut out).unwrap();
        assert_eq!(out[..12], [0, 9, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(&out[12..size - 11], QUESTION);
        assert_eq!(
            out[size - 11..size],
            [0, 0, 41, 4, 0xd0, 1, 0, 0x80, 0, 0, 0]
        );
        assert_eq!(badvers.write(&mut [0; 20]), None);
    }

    /// A body of records, each an owner (a pointer or a name), a type and RDATA; TTL 30.
    fn body_of(list: &[(&[u8], u16, &[u8])]) -> (Vec<Record>, Vec<u8>) {
        let (mut table, mut body) = (Vec::new(), Vec::new());
        for (owner, rtype, data) in list {
            body.extend(*owner);
            body.extend(rtype.to_be_bytes());
            body.extend([0, 1]);
            let ttl_at = body.len() as u16;
            body.extend([0, 0, 0, 30]);
            body.extend((data.len() as u16).to_be_bytes());
            body.extend(*data);
            table.push(Record {
                ttl_at,
                end: body.len() as u16,
            });
        }
        (table, body)
    }

    const OWNER: &[u8] = b"\xc0\x0c";

    #[test]
    fn address_sets_are_found() {
        let a = |last| (OWNER, rtype::A, std::vec![10, 0, 0, last]);
        let other = |rtype, data: &[u8]| (OWNER, rtype, Vec::from(data));
        let cname = || other(5, b"\x01x\xc0\x0c");
        let elsewhere = (&b"\xc0\x20"[..], rtype::A, std::vec![10, 0, 0, 9]);
        let named = (&b"\x03wwx\0"[..], rtype::A, std::vec![10, 0, 0, 9]);
        let aaaa = || (OWNER, rtype::AAAA, std::vec![0; 16]);
        let found = |start, len, count| Some(Rotation { start, len, count });
        for (name, list, answers, expected) in [
            ("one", std::vec![a(1)], 1, None),
            ("two", std::vec![a(1), a(2)], 2, found(0, 16, 2)),
            (
                "IPv6",
                std::vec![aaaa(), aaaa(), aaaa()],
                3,
                found(0, 28, 3),
            ),
            (
                "behind a CNAME",
                std::vec![cname(), a(1), a(2)],
                3,
                found(16, 16, 2),
            ),
            (
                "before a signature",
                std::vec![a(1), a(2), other(46, b"sig")],
                3,
                found(0, 16, 2),
            ),
            (
                "in the answer only",
                std::vec![a(1), a(2), a(3)],
                2,
                found(0, 16, 2),
            ),
            (
                "not in the additional section",
                std::vec![cname(), a(1), a(2)],
                1,
                None,
            ),
            (
                "of two owners",
                std::vec![a(1), elsewhere.clone(), elsewhere],
                3,
                found(16, 16, 2),
            ),
            ("owners in full", std::vec![named.clone(), named], 2, None),
            (
                "A of a wrong length",
                std::vec![other(1, b"abc"), other(1, b"abc")],
                2,
                None,
            ),
            (
                "other types",
                std::vec![other(16, b"\x01a"), other(16, b"\x01b")],
                2,
                None,
            ),
        ] {
            let list: Vec<_> = list
                .iter()
                .map(|(owner, rtype, data)| (*owner, *rtype, &data[..]))
                .collect();
            let (table, body) = body_of(&list);
            assert_eq!(Rotation::find(answers, &table, &body), expected, "{name}");
        }
        assert_eq!(
            Rotation::find(2, &[Record { ttl_at: 0, end: 99 }], &[]),
            None
        );
    }

    #[test]
    fn every_address_comes_first_in_its_turn() {
        let addresses: Vec<Vec<u8>> = (1..=3).map(|last| std::vec![10, 0, 0, last]).collect();
        let mut list: Vec<(&[u8], u16, &[u8])> = std::vec![(OWNER, 5, b"\x01x\xc0\x0c")];
        list.extend(
            addresses
                .iter()
                .map(|address| (OWNER, rtype::A, &address[..])),
        );
        list.push((OWNER, 46, b"signature"));
        let (table, body) = body_of(&list);
        let stored = Stored {
            flags: Flags(0x8180),
            counts: [5, 0, 0],
            records: &table,
            body: &body,
            rotation: Rotation::find(5, &table, &body),
        };
        let write = |limit, turn| {
            let reply = Reply::new(
                &client(limit, None, Flags::RD),
                QUESTION,
                stored,
                Source::Cache { age: 10 },
            )
            .turned(turn);
            let mut out = vec![0; reply.size()];
            reply.write(&mut out).unwrap();
            out
        };
        for turn in 0..9u32 {
            let out = write(512, turn);
            let body = &out[21..];
            assert_eq!(body[..2], *OWNER, "the CNAME stays in front");
            assert!(out.ends_with(b"signature"));
            for (place, record) in body[16..64].chunks(16).enumerate() {
                assert_eq!(record[6..10], [0, 0, 0, 20], "TTLs count down");
                assert_eq!(u32::from(record[15]), (turn + place as u32) % 3 + 1);
            }
        }
        // What is cut off is cut off after the turn.
        let short = write(21 + 16 + 16, u32::MAX - 1);
        assert_eq!(short.len(), 21 + 32);
        assert_eq!(u32::from(short[21 + 31]), (u32::MAX - 1) % 3 + 1);
    }
}
