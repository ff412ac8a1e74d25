//! How a query is read: everything about it that decides the answer, or the refusal it gets.

use crate::edns::{Edns, Opt, udp_limit};
use crate::header::{self, Flags, Header, u16_at};
use crate::message::Message;
use crate::name;
use crate::types::{class, rcode, rtype};

/// Longest key: a name, type, class, and the byte of bits.
pub const MAX_KEY: usize = name::MAX_LEN + 5;

/// Largest reply that a stream can carry, by its two-byte length (RFC 1035 §4.2.2).
pub const TCP_LIMIT: usize = 65_535;

/// What a query came by; it bounds the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// What becomes of a message from a client.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and there is no allocator"
)]
pub enum Parsed<'a> {
    /// A question to answer.
    Query(Query<'a>),
    /// An error to send back.
    Refuse(Refusal<'a>),
    /// Not to be answered at all: too short for a header, or a response (RFC 9267 §6; answering one
    /// starts an endless exchange between two servers).
    Drop,
}

/// A query that can be answered.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// What the client's reply needs besides the answer.
    pub client: Client,
    /// The question section as sent: name, type, class.
    pub question: &'a [u8],
    /// What the answer depends on.
    pub key: Key,
}

/// What the reply to one client needs besides question and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The query's ID.
    pub id: u16,
    /// The query's flags.
    pub flags: Flags,
    /// Its OPT record, if it had one.
    pub edns: Option<Edns>,
    /// The longest reply it takes, in bytes.
    pub limit: usize,
}

/// An error reply: a header, the question where it could be read, and an OPT record where the query's could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The query's ID.
    pub id: u16,
    /// The query's flags.
    pub flags: Flags,
    /// The error.
    pub rcode: u16,
    /// The question as sent; empty where it could not be read. Clients that check a reply's question
    /// (glibc does) pass over one without.
    pub question: &'a [u8],
    /// The query's OPT record, where it could be read.
    pub edns: Option<Edns>,
}

const DO: u8 = 1;
const CD: u8 = 2;

/// Whether the bits of a key have DO.
#[inline(always)]
#[must_use]
pub const fn is_dnssec_ok(bits: u8) -> bool {
    bits & DO != 0
}

/// DO and CD in the bits that the key has them in.
#[inline(always)]
const fn key_bits(dnssec_ok: bool, checking_disabled: bool) -> u8 {
    (dnssec_ok as u8 * DO) | (checking_disabled as u8 * CD)
}

/// Everything that the answer to a question depends on, in one byte string: the name in lower case, type,
/// class, and a byte with DO and CD.
#[derive(Debug, Clone)]
pub struct Key {
    bytes: [u8; MAX_KEY],
    len: usize,
}

impl Key {
    /// The key with these parts; `None` if the name is longer than one can be.
    #[must_use]
    pub fn from_parts(parts: &KeyParts<'_>) -> Option<Self> {
        let mut key = Self {
            bytes: [0; MAX_KEY],
            len: parts.name.len() + 5,
        };
        let (name, rest) = key
            .bytes
            .get_mut(..key.len)?
            .split_at_mut_checked(parts.name.len())?;
        name::lower(parts.name, name);
        let ([t0, t1], [c0, c1]) = (parts.rtype.to_be_bytes(), parts.class.to_be_bytes());
        rest.copy_from_slice(&[t0, t1, c0, c1, parts.bits()]);
        Some(key)
    }

    /// The key of type A for the ancestor that begins at an offset of a key's name, DO and CD as there:
    /// where a cut ([`crate::cut`]) is kept.
    #[must_use]
    pub fn of_ancestor(key: &[u8], at: usize) -> Option<Self> {
        let name = key.get(at..key.len().checked_sub(5)?)?;
        let [high, low] = rtype::A.to_be_bytes();
        let tail = [high, low, 0, class::IN as u8, *key.last()?];
        let mut this = Self {
            bytes: [0; MAX_KEY],
            len: name.len() + tail.len(),
        };
        this.bytes.get_mut(..name.len())?.copy_from_slice(name);
        this.bytes
            .get_mut(name.len()..this.len)?
            .copy_from_slice(&tail);
        Some(this)
    }

    /// The whole key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A key's parts, read from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The name in wire form and lower case.
    pub name: &'a [u8],
    /// The type asked for.
    pub rtype: u16,
    /// The class asked for.
    pub class: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// Validation is not wanted.
    pub checking_disabled: bool,
}

impl<'a> KeyParts<'a> {
    /// The parts of a key, DO and CD as it has them.
    #[must_use]
    pub fn new(name: &'a [u8], rtype: u16, class: u16, bits: u8) -> Self {
        Self {
            name,
            rtype,
            class,
            dnssec_ok: is_dnssec_ok(bits),
            checking_disabled: bits & CD != 0,
        }
    }

    /// DO and CD as the key has them.
    #[must_use]
    pub fn bits(&self) -> u8 {
        key_bits(self.dnssec_ok, self.checking_disabled)
    }

    /// Takes a key apart; `None` if it is too short to be one.
    #[must_use]
    pub fn read(key: &'a [u8]) -> Option<Self> {
        let name = key.get(..key.len().checked_sub(5)?)?;
        Some(Self::new(
            name,
            u16_at(key, name.len())?,
            u16_at(key, name.len() + 2)?,
            *key.last()?,
        ))
    }

    /// Whether an answer may be kept.
    #[must_use]
    pub fn is_cacheable(&self) -> bool {
        is_cacheable(self.rtype, self.class)
    }
}

/// Whether answers to a type and class may be kept.
#[inline(always)]
#[must_use]
pub const fn is_cacheable(rtype: u16, class: u16) -> bool {
    class == class::IN && rtype::is_data(rtype)
}

/// A query in numbers, as the programs need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// What the client's reply needs besides the answer.
    pub client: Client,
    /// Length of the question section (name, type, class), which follows the header.
    pub len: usize,
    /// The type asked for.
    pub rtype: u16,
    /// The class asked for.
    pub class: u16,
}

impl Question {
    /// DO and CD as the key has them.
    #[inline(always)]
    #[must_use]
    pub fn bits(&self) -> u8 {
        let dnssec_ok = self.client.edns.is_some_and(|edns| edns.dnssec_ok);
        key_bits(dnssec_ok, self.client.flags.has(Flags::CD))
    }
}

/// What becomes of a message from a client, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// A question to answer.
    Query(Question),
    /// An error to send back.
    Refuse {
        /// The error.
        rcode: u16,
        /// Length of the question section; 0 where it could not be read.
        question_len: usize,
    },
    /// Not to be answered at all.
    Drop,
    /// More EDNS options than the reader looks at.
    Long,
}

/// Reads a message from a client; of its EDNS options, at most `max_options` are looked at.
#[inline(always)]
#[must_use]
pub fn scan<M: Message + ?Sized>(message: &M, transport: Transport, max_options: usize) -> Scanned {
    let Some(header) = Header::read(message) else {
        return Scanned::Drop;
    };
    if header.flags.has(Flags::QR) {
        return Scanned::Drop;
    }
    let refuse = |rcode, question_len| Scanned::Refuse {
        rcode,
        question_len,
    };
    if header.flags.opcode() != 0 {
        return refuse(rcode::NOTIMP, 0);
    }
    // More than one question has no meaning (RFC 9619); none has one only with cookies.
    if header.questions != 1 {
        return refuse(rcode::FORMERR, 0);
    }
    let Some(name_len) = name::plain_len(message, header::LEN) else {
        return refuse(rcode::FORMERR, 0);
    };
    let len = message.settled(name_len) + 4;
    let end = header::LEN + len;
    if end > message.len() {
        return refuse(rcode::FORMERR, 0);
    }
    let (rtype, class) = (message.number(end - 4), message.number(end - 2));
    let edns = match header.records {
        [0, 0, 1] => match Edns::read(message, end, max_options) {
            Opt::Sound(edns) => Some(edns),
            Opt::Broken => None,
            Opt::Long => return Scanned::Long,
        },
        _ => None,
    };
    match rtype {
        // A transfer is a stream of messages and no business of a cache. An IXFR has a record in its
        // authority section, so this comes before the counts.
        rtype::AXFR | rtype::IXFR => return refuse(rcode::REFUSED, len),
        rtype::OPT | rtype::TSIG | rtype::TKEY => return refuse(rcode::FORMERR, len),
        _ => {}
    }
    // Besides the question a query to a resolver holds one OPT record, or nothing. A second OPT
    // is an error (RFC 6891 §6.1.1); a signature (TSIG, SIG(0)) would need keys that we do not have.
    let plain = header.records == [0, 0, 0] && end == message.len();
    if !plain && edns.is_none() {
        return refuse(rcode::FORMERR, len);
    }
    if edns.is_some_and(|edns| edns.version != 0) {
        return refuse(rcode::BADVERS, len);
    }
    let limit = match transport {
        Transport::Udp => udp_limit(edns),
        Transport::Tcp => TCP_LIMIT,
    };
    let client = Client {
        id: header.id,
        flags: header.flags,
        edns,
        limit,
    };
    Scanned::Query(Question {
        client,
        len,
        rtype,
        class,
    })
}

/// Reads a message from a client.
#[must_use]
pub fn parse(message: &[u8], transport: Transport) -> Parsed<'_> {
    match scan(message, transport, usize::MAX) {
        Scanned::Query(scanned) => {
            let question = part(message, scanned.len);
            let name = part(message, scanned.len - 4);
            let parts = KeyParts::new(name, scanned.rtype, scanned.class, scanned.bits());
            match Key::from_parts(&parts) {
                Some(key) => Parsed::Query(Query {
                    client: scanned.client,
                    question,
                    key,
                }),
                None => Parsed::Drop,
            }
        }
        Scanned::Refuse {
            rcode,
            question_len,
        } => Parsed::Refuse(Refusal {
            id: message.number(0),
            flags: Flags(message.number(2)),
            rcode,
            question: part(message, question_len),
            // A reply to a query with an OPT record has one too, an error as well (RFC 6891 §6.1.1).
            edns: Edns::find(message),
        }),
        // No message has more options than were allowed.
        Scanned::Drop | Scanned::Long => Parsed::Drop,
    }
}

/// The `len` bytes behind the header.
fn part(message: &[u8], len: usize) -> &[u8] {
    message
        .get(header::LEN..header::LEN + len)
        .unwrap_or_default()
}

/// The question section of a message with one question (name without compression, type, class), and what
/// follows it.
#[must_use]
pub fn split_question(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = name::plain_len(message, header::LEN)? + 4;
    message.get(header::LEN..)?.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::edns::opt;
    use std::vec::Vec;

    const NAME: &[u8] = b"\x03wWw\x07eXample\0";

    fn query(flags: u16, counts: [u16; 4], sections: &[&[u8]]) -> Vec<u8> {
        let mut message = Vec::from([0xab, 0xcd]);
        message.extend(flags.to_be_bytes());
        message.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        message.extend(sections.concat());
        message
    }

    fn plain(flags: u16) -> Vec<u8> {
        query(flags, [1, 0, 0, 0], &[NAME, &[0, 1, 0, 1]])
    }

    fn refusal(message: &[u8]) -> u16 {
        match parse(message, Transport::Udp) {
            Parsed::Refuse(refusal) => {
                assert_eq!(refusal.id, 0xabcd);
                refusal.rcode
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_query() {
        let message = plain(0x0110);
        let Parsed::Query(query) = parse(&message, Transport::Udp) else {
            panic!()
        };
        assert_eq!(query.question, &message[12..]);
        assert_eq!(query.client.limit, 512);
        assert_eq!(
            query.key.as_bytes(),
            b"\x03www\x07example\0\0\x01\0\x01\x02"
        );
        let parts = KeyParts::read(query.key.as_bytes()).unwrap();
        assert_eq!(
            (parts.name, parts.rtype, parts.class),
            (&b"\x03www\x07example\0"[..], 1, 1)
        );
        assert!(parts.checking_disabled && !parts.dnssec_ok && parts.is_cacheable());
    }

    #[test]
    fn the_key_of_an_ancestor() {
        let key = b"\x03www\x07example\0\0\x1c\0\x01\x03";
        let ancestor = Key::of_ancestor(key, 4).unwrap();
        assert_eq!(ancestor.as_bytes(), b"\x07example\0\0\x01\0\x01\x03");
        assert!(Key::of_ancestor(b"\0\0\x01\0", 0).is_none());
        assert!(Key::of_ancestor(key, 14).is_none());
    }

    #[test]
    fn edns_is_read() {
        let message = query(0x0100, [1, 0, 0, 1], &[NAME, &[0, 28, 0, 1], &opt(true, 0)]);
        let Parsed::Query(query) = parse(&message, Transport::Udp) else {
            panic!()
        };
        assert_eq!(query.client.limit, 1232);
        assert!(KeyParts::read(query.key.as_bytes()).unwrap().dnssec_ok);
        let Parsed::Query(query) = parse(&message, Transport::Tcp) else {
            panic!()
        };
        assert_eq!(query.client.limit, 65_535);
    }

    #[test]
    fn a_refusal_carries_the_querys_opt() {
        for (rtype, rcode) in [
            (rtype::TSIG, rcode::FORMERR),
            (rtype::TKEY, rcode::FORMERR),
            (rtype::OPT, rcode::FORMERR),
            (rtype::AXFR, rcode::REFUSED),
        ] {
            let [high, low] = rtype.to_be_bytes();
            let sections: [&[u8]; 3] = [NAME, &[high, low, 0, 1], &opt(true, 0)];
            let message = query(0x0100, [1, 0, 0, 1], &sections);
            let Parsed::Refuse(refusal) = parse(&message, Transport::Udp) else {
                panic!("type {rtype}")
            };
            assert_eq!(refusal.rcode, rcode);
            assert!(
                refusal.edns.is_some_and(|edns| edns.dnssec_ok),
                "type {rtype}"
            );
        }
    }

    #[test]
    fn a_refusal_carries_the_opt_of_whatever_can_be_walked() {
        let question = &[NAME, &[0, 1, 0, 1]].concat()[..];
        let a = &b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04"[..];
        let opt = &opt(true, 0)[..];
        type Sent<'a> = (u16, [u16; 4], &'a [&'a [u8]]);
        let carried: &[Sent<'_>] = &[
            (0x2000, [1, 0, 0, 1], &[question, opt]),
            (0x7800, [1, 0, 0, 1], &[question, opt]),
            (0x2800, [1, 1, 1, 1], &[question, a, a, opt]),
            (0x0100, [0, 0, 0, 1], &[opt]),
            (0x0100, [2, 0, 0, 1], &[question, question, opt]),
            (0x0100, [1, 1, 0, 2], &[question, a, a, opt]),
            (0x0100, [1, 0, 0, 2], &[question, opt, opt]),
            (0x0100, [1, 0, 0, 1], &[question, opt, b"\0"]),
        ];
        let edns = |flags, counts, sections| {
            let message = query(flags, counts, sections);
            match parse(&message, Transport::Udp) {
                Parsed::Refuse(refusal) => refusal.edns,
                other => panic!("{other:?}"),
            }
        };
        for (flags, counts, sections) in carried {
            let edns = edns(*flags, *counts, sections);
            assert!(
                edns.is_some_and(|edns| edns.dnssec_ok),
                "{flags} {counts:?}"
            );
        }
        let none: &[([u16; 4], &[&[u8]])] = &[
            ([1, 0, 1, 0], &[question, opt]),
            ([1, 0, 0, 1], &[question, &opt[..10]]),
            ([1, 0, 0, 65535], &[question, a]),
            ([65535, 0, 0, 1], &[question, opt]),
        ];
        for (counts, sections) in none {
            assert_eq!(edns(0x2000, *counts, sections), None, "{counts:?}");
        }
    }

    #[test]
    fn silence() {
        for len in 0..12 {
            assert!(matches!(
                parse(&plain(0)[..len], Transport::Udp),
                Parsed::Drop
            ));
        }
        assert!(matches!(
            parse(&plain(0x8000), Transport::Udp),
            Parsed::Drop
        ));
    }

    #[test]
    fn refusals() {
        let question = &[NAME, &[0, 1, 0, 1]].concat()[..];
        let asks = |rtype: u8| [NAME, &[0, rtype, 0, 1]].concat();
        let mut version1 = opt(false, 0);
        version1[6] = 1;
        let opt = &opt(false, 0)[..];
        let a = &b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04"[..];
        let table: &[(&str, u16, Vec<u8>)] = &[
            ("opcode NOTIFY", rcode::NOTIMP, plain(0x2000)),
            ("opcode 15", rcode::NOTIMP, plain(0x7800)),
            ("no question", rcode::FORMERR, query(0, [0; 4], &[])),
            (
                "two questions",
                rcode::FORMERR,
                query(0, [2, 0, 0, 0], &[question, question]),
            ),
            (
                "question missing",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[]),
            ),
            (
                "question cut",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[&question[..question.len() - 1]]),
            ),
            (
                "name is a pointer",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[b"\xc0\x0c\0\x01\0\x01"]),
            ),
            (
                "label over 63",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[b"\x40", &[b'a'; 64], b"\0\0\x01\0\x01"]),
            ),
            (
                "name over 255",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[&[1; 256], b"\0\0\x01\0\x01"]),
            ),
            (
                "bytes after the question",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[question, b"x"]),
            ),
            (
                "an answer",
                rcode::FORMERR,
                query(0, [1, 1, 0, 0], &[question, a]),
            ),
            (
                "an authority",
                rcode::FORMERR,
                query(0, [1, 0, 1, 0], &[question, a]),
            ),
            (
                "an additional that is not OPT",
                rcode::FORMERR,
                query(0, [1, 0, 0, 1], &[question, a]),
            ),
            (
                "OPT announced and missing",
                rcode::FORMERR,
                query(0, [1, 0, 0, 1], &[question]),
            ),
            (
                "OPT not announced",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[question, opt]),
            ),
            (
                "OPT in authority",
                rcode::FORMERR,
                query(0, [1, 0, 1, 0], &[question, opt]),
            ),
            (
                "two OPT",
                rcode::FORMERR,
                query(0, [1, 0, 0, 2], &[question, opt, opt]),
            ),
            (
                "bytes after OPT",
                rcode::FORMERR,
                query(0, [1, 0, 0, 1], &[question, opt, b"\0"]),
            ),
            (
                "count that lies",
                rcode::FORMERR,
                query(0, [1, 65535, 65535, 65535], &[question]),
            ),
            (
                "EDNS version 1",
                rcode::BADVERS,
                query(0, [1, 0, 0, 1], &[question, &version1]),
            ),
            (
                "AXFR",
                rcode::REFUSED,
                query(0, [1, 0, 0, 0], &[&asks(252)]),
            ),
            (
                "IXFR",
                rcode::REFUSED,
                query(0, [1, 0, 1, 0], &[&asks(251), a]),
            ),
            (
                "type OPT",
                rcode::FORMERR,
                query(0, [1, 0, 0, 0], &[&asks(41)]),
            ),
        ];
        for (what, expected, message) in table {
            assert_eq!(refusal(message), *expected, "{what}");
        }
    }

    #[test]
    fn flags_a_resolver_does_not_know_are_ignored() {
        // TC, AA, RA, Z, AD and an rcode in a query.
        assert!(matches!(
            parse(&plain(0x06ef), Transport::Udp),
            Parsed::Query(_)
        ));
    }

    #[test]
    fn what_may_be_kept() {
        let kept = |rtype: u16, class: u16| {
            KeyParts {
                name: b"\0",
                rtype,
                class,
                dnssec_ok: false,
                checking_disabled: false,
            }
            .is_cacheable()
        };
        assert!(kept(1, 1) && kept(65, 1) && kept(65_280, 1) && kept(256, 1));
        assert!(!kept(255, 1) && !kept(252, 1) && !kept(0, 1) && !kept(41, 1) && !kept(1, 3));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(message: Vec<u8>) {
            let _ = parse(&message, Transport::Udp);
        }

        #[test]
        fn never_panics_behind_a_sound_question(tail: Vec<u8>, counts: [u16; 3]) {
            let message = query(0, [1, counts[0], counts[1], counts[2]], &[NAME, &[0, 1, 0, 1], &tail]);
            let _ = parse(&message, Transport::Udp);
        }

        #[test]
        fn case_does_not_change_the_key(upper: u16) {
            let mut name = Vec::from(NAME);
            for (i, byte) in name.iter_mut().enumerate() {
                *byte = if upper >> i & 1 == 1 { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
            }
            let message = query(0, [1, 0, 0, 0], &[&name, &[0, 1, 0, 1]]);
            let Parsed::Query(query) = parse(&message, Transport::Udp) else { panic!() };
            proptest::prop_assert_eq!(query.key.as_bytes(), b"\x03www\x07example\0\0\x01\0\x01\0");
            proptest::prop_assert_eq!(query.question, &message[12..]);
        }
    }
}
