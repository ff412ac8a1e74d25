//! DNS messages as bytes: queries of any shape, and a reader that keeps what a library would drop.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::or_panic::OrPanic;

/// The header's bits by name.
pub mod flag {
    /// It is a response.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data.
    pub const AD: u16 = 0x0020;
    /// Checking disabled.
    pub const CD: u16 = 0x0010;
}

/// Record types by name.
pub mod rtype {
    #![expect(missing_docs, reason = "they are the field's own names")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const RP: u16 = 17;
    pub const AAAA: u16 = 28;
    pub const LOC: u16 = 29;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const SSHFP: u16 = 44;
    pub const TLSA: u16 = 52;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const URI: u16 = 256;
    pub const CAA: u16 = 257;
    /// From the private range: no library knows it.
    pub const UNKNOWN: u16 = 65_280;
}

/// A query to be.
#[derive(Debug, Clone)]
pub struct Query {
    /// The ID.
    pub id: u16,
    /// Opcode and bits.
    pub flags: u16,
    /// The name in presentation form, its case kept; no escapes.
    pub name: String,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// EDNS, where wanted.
    pub edns: Option<Edns>,
}

/// An OPT record to be.
#[derive(Debug, Clone, Default)]
pub struct Edns {
    /// The largest UDP answer that is taken.
    pub size: u16,
    /// The version; 0 is the only one there is.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// Options as they go on the wire.
    pub options: Vec<u8>,
}

impl Query {
    /// A query with a random ID and RD, class IN, without EDNS.
    #[must_use]
    pub fn new(name: &str, rtype: u16) -> Self {
        let id = RandomState::new().hash_one(name) as u16;
        Self {
            id,
            flags: flag::RD,
            name: name.to_owned(),
            rtype,
            class: 1,
            edns: None,
        }
    }

    /// With EDNS of this size.
    #[must_use]
    pub fn edns(mut self, size: u16) -> Self {
        self.edns = Some(Edns {
            size,
            ..Edns::default()
        });
        self
    }

    /// With EDNS of this size and the DO bit.
    #[must_use]
    pub fn dnssec_ok(mut self, size: u16) -> Self {
        self.edns = Some(Edns {
            size,
            dnssec_ok: true,
            ..Edns::default()
        });
        self
    }

    /// With exactly these header bits.
    #[must_use]
    pub const fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// With this ID.
    #[must_use]
    pub const fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// The question section.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        let mut bytes = name_to_wire(&self.name);
        bytes.extend(self.rtype.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        bytes
    }

    /// The whole message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let additional = u16::from(self.edns.is_some());
        let mut bytes: Vec<u8> = [self.id, self.flags, 1, 0, 0, additional]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        bytes.extend(self.question());
        if let Some(edns) = &self.edns {
            bytes.push(0);
            bytes.extend(rtype::OPT.to_be_bytes());
            bytes.extend(edns.size.to_be_bytes());
            bytes.extend([0, edns.version, if edns.dnssec_ok { 0x80 } else { 0 }, 0]);
            bytes.extend((edns.options.len() as u16).to_be_bytes());
            bytes.extend(&edns.options);
        }
        bytes
    }
}

/// A message as it goes over TCP: behind its length (RFC 1035, 4.2.2).
#[must_use]
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).or_panic("a message's length");
    [&length.to_be_bytes(), message].concat()
}

/// Reads the next message of a TCP connection.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A name's wire form.
#[must_use]
pub fn name_to_wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The owner, lower case, without the trailing dot.
    pub owner: String,
    /// The type.
    pub rtype: u16,
    /// The class, or what OPT has in its place.
    pub class: u16,
    /// The TTL, or what OPT has in its place.
    pub ttl: u32,
    /// The data in presentation form, names decompressed and in lower case, what is not known in hex.
    pub data: String,
}

impl Record {
    /// Type and data, without owner and TTL.
    #[must_use]
    pub fn type_and_data(&self) -> String {
        format!("{} {}", type_name(self.rtype), self.data)
    }
}

/// A message as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The ID.
    pub id: u16,
    /// Opcode, bits and the low part of the response code.
    pub flags: u16,
    /// The question section's bytes.
    pub question: Vec<u8>,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authorities: Vec<Record>,
    /// The additional section without OPT.
    pub additionals: Vec<Record>,
    /// The OPT record.
    pub opt: Option<Record>,
}

impl Message {
    /// Reads a whole message; `None` if it is torn or has bytes after its end.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let [id, flags, questions, answers, authorities, additionals] = {
            let mut header = [0; 6];
            for field in &mut header {
                *field = reader.u16()?;
            }
            header
        };
        let start = reader.at;
        for _ in 0..questions {
            reader.name()?;
            reader.take(4)?;
        }
        let question = bytes.get(start..reader.at)?.to_vec();
        let mut section = |count: u16| {
            (0..count)
                .map(|_| reader.record())
                .collect::<Option<Vec<_>>>()
        };
        let answers = section(answers)?;
        let authorities = section(authorities)?;
        let (opt, additionals): (Vec<_>, Vec<_>) = section(additionals)?
            .into_iter()
            .partition(|r| r.rtype == rtype::OPT);
        let whole = reader.at == bytes.len() && opt.len() < 2;
        whole.then(|| Self {
            id,
            flags,
            question,
            answers,
            authorities,
            additionals,
            opt: opt.into_iter().next(),
        })
    }

    /// The response code, with EDNS's upper bits.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        let upper = self.opt.as_ref().map_or(0, |opt| (opt.ttl >> 24) as u16);
        upper << 4 | self.flags & 0xf
    }

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(&self, bits: u16) -> bool {
        self.flags & bits == bits
    }

    /// The answer section's types and data, sorted.
    #[must_use]
    pub fn data(&self) -> Vec<String> {
        let mut data: Vec<_> = self.answers.iter().map(Record::type_and_data).collect();
        data.sort();
        data
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rcode = self.rcode();
        match (self.answers.as_slice(), rcode) {
            ([], 0) => f.write_str("NODATA"),
            ([], 1) => f.write_str("FORMERR"),
            ([], 2) => f.write_str("SERVFAIL"),
            ([], 3) => f.write_str("NXDOMAIN"),
            ([], 4) => f.write_str("NOTIMP"),
            ([], 5) => f.write_str("REFUSED"),
            ([], _) => write!(f, "RCODE{rcode}"),
            (records, _) => {
                let texts: Vec<_> = records.iter().map(Record::type_and_data).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// The name of a type, `TYPE…` (RFC 3597) where it has none here.
#[must_use]
pub fn type_name(number: u16) -> String {
    let name = match number {
        rtype::A => "A",
        rtype::NS => "NS",
        rtype::CNAME => "CNAME",
        rtype::SOA => "SOA",
        rtype::PTR => "PTR",
        rtype::MX => "MX",
        rtype::TXT => "TXT",
        rtype::AAAA => "AAAA",
        rtype::SRV => "SRV",
        rtype::NAPTR => "NAPTR",
        rtype::OPT => "OPT",
        rtype::SVCB => "SVCB",
        rtype::HTTPS => "HTTPS",
        rtype::CAA => "CAA",
        _ => return format!("TYPE{number}"),
    };
    name.to_owned()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let part = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(part)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A name, pointers followed; each must point further back than the last.
    fn name(&mut self) -> Option<String> {
        let mut labels = Vec::new();
        let (mut at, mut limit, mut end) = (self.at, self.at, None);
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    labels.push(label.escape_ascii().to_string().to_ascii_lowercase());
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let target =
                        usize::from(length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    if target >= limit {
                        return None;
                    }
                    (at, limit) = (target, target);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at + 1);
        Some(labels.join("."))
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let (rtype, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        let data = self.data(rtype, end)?;
        (self.at == end).then_some(Record {
            owner,
            rtype,
            class,
            ttl,
            data,
        })
    }

    fn data(&mut self, rtype: u16, end: usize) -> Option<String> {
        let numbers = |reader: &mut Self, count: usize| -> Option<String> {
            (0..count)
                .map(|_| reader.u16().map(|n| format!("{n} ")))
                .collect()
        };
        Some(match rtype {
            rtype::A => Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?).to_string(),
            rtype::AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?).to_string(),
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => self.name()?,
            rtype::MX => numbers(self, 1)? + &self.name()?,
            rtype::SRV => numbers(self, 3)? + &self.name()?,
            rtype::SOA => {
                let names = format!("{} {}", self.name()?, self.name()?);
                let numbers: Option<Vec<_>> =
                    (0..5).map(|_| self.u32().map(|n| n.to_string())).collect();
                format!("{names} {}", numbers?.join(" "))
            }
            rtype::TXT => {
                let mut strings = Vec::new();
                while self.at < end {
                    let length = usize::from(*self.take(1)?.first()?);
                    strings.push(format!("\"{}\"", self.take(length)?.escape_ascii()));
                }
                strings.join(" ")
            }
            _ => {
                let bytes = self.take(end.checked_sub(self.at)?)?;
                format!(
                    "\\# {} {}",
                    bytes.len(),
                    bytes
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect::<String>()
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_back() {
        let query = Query::new("WwW.Example.com", rtype::A).dnssec_ok(1232);
        let message = Message::read(&query.to_bytes()).unwrap();
        assert_eq!(message.id, query.id);
        assert_eq!(message.question, query.question());
        let opt = message.opt.unwrap();
        assert_eq!((opt.class, opt.ttl), (1232, 0x8000));
    }

    #[test]
    fn a_compressed_srv_is_decompressed() {
        let mut bytes = Query::new("a.example", rtype::SRV)
            .flags(flag::QR)
            .to_bytes();
        bytes[7] = 1;
        bytes.extend([
            0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 8, 0, 1, 0, 2, 0, 53, 0xc0, 14,
        ]);
        let message = Message::read(&bytes).unwrap();
        assert_eq!(message.data(), ["SRV 1 2 53 example"]);
        assert_eq!(message.answers[0].owner, "a.example");
    }

    #[test]
    fn a_pointer_loop_is_refused() {
        let mut bytes = Query::new("a", rtype::A).to_bytes();
        bytes[12] = 0xc0;
        bytes[13] = 12;
        assert_eq!(Message::read(&bytes), None);
    }
}
