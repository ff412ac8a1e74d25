//! Messages from and to text.

use dns_cache_common::edns::{ExtendedError, OPT_LEN};
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::{KeyParts, split_question};
use hickory_proto::op::Message;

use crate::presentation;

/// A record: owner, TTL, type, RDATA.
#[derive(Debug, Clone)]
pub(super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    /// Reads `OWNER TTL IN TYPE RDATA`.
    pub(super) fn read(words: &[&str]) -> Option<Self> {
        let [owner, ttl, "IN", rtype, rdata @ ..] = words else {
            return None;
        };
        let number = presentation::rtype(rtype).ok()?;
        let rdata = self::rdata(rtype, rdata)?;
        let bytes = [
            &name(owner)?[..],
            &number.to_be_bytes(),
            &[0, 1],
            &ttl.parse::<u32>().ok()?.to_be_bytes(),
            &u16::try_from(rdata.len()).ok()?.to_be_bytes(),
            &rdata,
        ];
        Some(Self {
            bytes: bytes.concat(),
        })
    }
}

/// A name's bytes on the wire, in the case that it has.
pub(super) fn name(text: &str) -> Option<Vec<u8>> {
    let mut wire = vec![];
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    Some(wire)
}

fn rdata(rtype: &str, words: &[&str]) -> Option<Vec<u8>> {
    let short = |word: &str| Some(word.parse::<u16>().ok()?.to_be_bytes());
    Some(match (rtype, words) {
        ("A", [ip]) => ip.parse::<std::net::Ipv4Addr>().ok()?.octets().into(),
        ("AAAA", [ip]) => ip.parse::<std::net::Ipv6Addr>().ok()?.octets().into(),
        ("NS" | "CNAME" | "PTR" | "DNAME", [target]) => name(target)?,
        ("MX", [preference, target]) => [&short(preference)?[..], &name(target)?].concat(),
        ("SRV", [priority, weight, port, target]) => [
            &short(priority)?[..],
            &short(weight)?,
            &short(port)?,
            &name(target)?,
        ]
        .concat(),
        ("TXT", [text]) => [&[u8::try_from(text.len()).ok()?], text.as_bytes()].concat(),
        ("SOA", [mname, rname, numbers @ ..]) if numbers.len() == 5 => {
            let mut soa = [name(mname)?, name(rname)?].concat();
            for number in numbers {
                soa.extend(number.parse::<u32>().ok()?.to_be_bytes());
            }
            soa
        }
        // RFC 3597 §5.
        (_, ["\\#", length, hex]) => {
            let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            let bytes: Vec<_> = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
            (length.parse() == Ok(bytes.len())).then_some(bytes)?
        }
        _ => return None,
    })
}

/// A question as a file has it: name, type, and what the answer depends on besides.
pub(super) fn question_text(key: &KeyParts<'_>) -> String {
    let (name, rtype) = (
        presentation::name_text(key.name),
        presentation::rtype_text(key.rtype),
    );
    let dot = if name == "." { "" } else { "." };
    let mut text = format!("{name}{dot} {rtype}");
    text += if key.dnssec_ok { " do" } else { "" };
    text += if key.checking_disabled { " cd" } else { "" };
    text
}

/// A response to what `key` asks.
pub(super) fn response(key: &KeyParts<'_>, flags: u16, records: &[Vec<Record>; 3]) -> Vec<u8> {
    let header = Header {
        id: 0,
        flags: Flags(flags),
        questions: 1,
        records: records.each_ref().map(|section| section.len() as u16),
    };
    let mut message = [
        &header.bytes()[..],
        key.name,
        &key.rtype.to_be_bytes(),
        &key.class.to_be_bytes(),
    ]
    .concat();
    for record in records.iter().flatten() {
        message.extend(&record.bytes);
    }
    message
}

/// A reply as a file has it.
#[derive(Debug)]
pub(super) struct Reply {
    /// Response code, flags and Extended DNS Error, in alphabetical order but for the code.
    pub(super) summary: String,
    pub(super) counts: [usize; 3],
    /// Section and record, sorted.
    pub(super) records: Vec<String>,
}

impl Reply {
    /// Reads a reply to a query; what holds of every reply is checked.
    pub(super) fn read(reply: &[u8], query: &[u8]) -> Result<Self, String> {
        let message = Message::from_vec(reply).map_err(|error| format!("reply: {error}"))?;
        let header = Header::read(reply).ok_or("no header")?;
        if !header.flags.has(Flags::QR) || reply[..2] != query[..2] {
            return Err("it is no reply to the query".to_owned());
        }
        if let (Some((asked, _)), Some((said, rest))) =
            (split_question(query), split_question(reply))
        {
            if header.questions == 1 && asked != said {
                return Err("the question is not as it was sent".to_owned());
            }
            let has_opt = rest.windows(3).any(|bytes| bytes == [0, 0, 41]);
            let asked_with_opt = query.len() > 12 + asked.len();
            if has_opt != asked_with_opt && header.questions == 1 {
                return Err(format!(
                    "OPT record: {has_opt}; in the query: {asked_with_opt}"
                ));
            }
        }
        let code = message.metadata.response_code;
        let mut words = vec![presentation::rcode_text(u16::from(code))];
        for (word, flag) in [
            ("aa", Flags::AA),
            ("ad", Flags::AD),
            ("cd", Flags::CD),
            ("ra", Flags::RA),
            ("rd", Flags::RD),
            ("tc", Flags::TC),
        ] {
            if header.flags.has(flag) {
                words.push(word.to_owned());
            }
        }
        if let Some(code) = extended_error(reply) {
            words.push(format!("ede={code}"));
        }
        words[1..].sort();
        let sections = [
            ("answer", &message.answers),
            ("authority", &message.authorities),
            ("additional", &message.additionals),
        ];
        let mut records: Vec<_> = sections
            .iter()
            .flat_map(|(section, records)| {
                records
                    .iter()
                    .map(move |record| format!("{section} {record}"))
            })
            .collect();
        records.sort();
        Ok(Self {
            summary: words.join(" "),
            counts: sections.map(|(_, records)| records.len()),
            records,
        })
    }
}

/// The info code of a reply's Extended DNS Error.
fn extended_error(reply: &[u8]) -> Option<u16> {
    let opt = reply
        .windows(5)
        .rposition(|bytes| bytes == [0, 0, 41, 4, 0xd0])?;
    let option = reply.get(opt + OPT_LEN..)?;
    let code = u16::from_be_bytes(*option.first_chunk()?);
    (code == ExtendedError::OPTION).then(|| u16::from_be_bytes([option[4], option[5]]))
}
