//! A zone whose answers tell which question they are for, and when they were given.
//!
//! Names are `KIND` and a number below `chaos.svc.cluster.local`. An A RRset has two records: `10.` and the server's
//! clock in milliseconds, `11.` and a hash of the name; an AAAA record has both in one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::random::mix;
use crate::wire::{Message, Query, flag, name_to_wire, rtype};

/// The TTL of all records, in seconds.
pub(super) const TTL: u32 = 4;
/// For how long the agent may give an answer after its TTL, when all servers fail, in seconds.
pub(super) const STALE: u32 = 10;

const ORIGIN: &str = "chaos.svc.cluster.local";
const NXDOMAIN: u16 = 3;

/// What a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Addresses, and everybody asks for it.
    Hot,
    /// Addresses, and it is asked for once.
    Unique,
    /// No IPv6 address.
    V4Only,
    /// It is not there.
    Missing,
}

impl Kind {
    const ALL: [(Self, char); 4] = [
        (Self::Hot, 'h'),
        (Self::Unique, 'u'),
        (Self::V4Only, 'v'),
        (Self::Missing, 'x'),
    ];

    /// A name of this kind.
    pub(super) fn name(self, number: u64) -> String {
        let letter = Self::ALL.iter().find(|(kind, _)| *kind == self);
        let letter = letter.map_or('x', |(_, letter)| *letter);
        format!("{letter}{number}.{ORIGIN}")
    }

    fn of(name: &str) -> Self {
        let label = name.strip_suffix(ORIGIN).unwrap_or("x.");
        let label = label.trim_end_matches('.').rsplit('.').next();
        let letter = label.and_then(|label| label.chars().next());
        let found = Self::ALL.iter().find(|(_, l)| Some(*l) == letter);
        found.map_or(Self::Missing, |(kind, _)| *kind)
    }
}

/// The server's answer to this query, at this moment since the beginning; `None` if it is none.
pub(super) fn response(query: &[u8], now: Duration) -> Option<Vec<u8>> {
    let message = Message::read(query)?;
    let end = 12 + message.question.len();
    let mut response = query.get(..end)?.to_vec();
    let (name, rtype) = question(&message.question)?;
    let millis = now.as_millis() as u32;
    let data: Vec<Vec<u8>> = match (Kind::of(&name), rtype) {
        _ if is_above(&name) => Vec::new(),
        (Kind::Missing, _) | (Kind::V4Only, rtype::AAAA) => Vec::new(),
        (_, rtype::A) => v4(&name, millis).map(|a| a.octets().to_vec()).to_vec(),
        (_, rtype::AAAA) => vec![v6(&name, millis).octets().to_vec()],
        _ => Vec::new(),
    };
    let missing = Kind::of(&name) == Kind::Missing && !is_above(&name);
    let rcode = if missing { NXDOMAIN } else { 0 };
    set_flags(&mut response, message.flags, rcode);
    let authorities = u8::from(data.is_empty());
    response[4..12].copy_from_slice(&[0, 1, 0, data.len() as u8, 0, authorities, 0, 0]);
    for data in &data {
        response.extend([0xc0, 12]);
        record(&mut response, rtype, data);
    }
    if data.is_empty() {
        response.extend(name_to_wire("cluster.local"));
        record(&mut response, rtype::SOA, &soa());
    }
    Some(response)
}

/// An answer with nothing but this rcode.
pub(super) fn failure(query: &[u8], rcode: u16) -> Option<Vec<u8>> {
    let message = Message::read(query)?;
    let mut response = query.get(..12 + message.question.len())?.to_vec();
    set_flags(&mut response, message.flags, rcode);
    response[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(response)
}

/// Whether this is the right answer to a query that was sent at this moment; otherwise what is wrong. `extra` is for
/// how long after its TTL it may be given now.
pub(super) fn check(
    query: &Query,
    message: &Message,
    begun: Instant,
    sent: Instant,
    extra: Duration,
) -> Result<(), String> {
    let kind = Kind::of(&query.name);
    let missing = kind == Kind::Missing;
    let rcode = if missing { NXDOMAIN } else { 0 };
    if message.rcode() != rcode {
        return Err(format!("rcode {}", message.rcode()));
    }
    let empty = missing || (kind, query.rtype) == (Kind::V4Only, rtype::AAAA);
    if empty {
        let none = message.answers.is_empty();
        return none.then_some(()).ok_or_else(|| format!("{message}"));
    }
    let wrong = || format!("wrong: {message}");
    if message.answers.iter().any(|record| record.ttl > TTL + 1) {
        return Err(format!("a TTL of more than {TTL} s: {:?}", message.answers));
    }
    let stamp = match query.rtype {
        rtype::A => stamp_v4(&query.name, message),
        _ => stamp_v6(&query.name, message),
    };
    let stamp = Duration::from_millis(stamp.ok_or_else(wrong)?.into());
    let age = (sent - begun).saturating_sub(stamp);
    let most = Duration::from_secs(TTL.into()) + ON_ITS_WAY + extra;
    if age > most {
        return Err(format!("{age:?} old when it was asked for: {message}"));
    }
    Ok(())
}

/// An answer is cached from when the agent has read it: a stopped agent, or a server's packet that has to be sent
/// again, make that late. A second more is for whole numbers.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

fn stamp_v4(name: &str, message: &Message) -> Option<u32> {
    let [one, other] = message.answers.as_slice() else {
        return None;
    };
    let read = |data: &str| data.parse::<Ipv4Addr>().ok().map(u32::from);
    let (one, other) = (read(&one.data)?, read(&other.data)?);
    let (stamp, hash) = (one.min(other), one.max(other));
    let millis = stamp & 0xff_ffff;
    (v4(name, millis).map(u32::from) == [stamp, hash]).then_some(millis)
}

fn stamp_v6(name: &str, message: &Message) -> Option<u32> {
    let [record] = message.answers.as_slice() else {
        return None;
    };
    let address: Ipv6Addr = record.data.parse().ok()?;
    let millis = u128::from(address) as u32;
    (v6(name, millis) == address).then_some(millis)
}

fn v4(name: &str, millis: u32) -> [Ipv4Addr; 2] {
    let number = |first: u32, rest: u32| Ipv4Addr::from(first << 24 | rest & 0xff_ffff);
    [number(10, millis), number(11, hash(name) as u32)]
}

fn v6(name: &str, millis: u32) -> Ipv6Addr {
    let hash = hash(name);
    Ipv6Addr::from(0xfd << 120 | u128::from(hash as u32) << 32 | u128::from(millis))
}

fn hash(name: &str) -> u64 {
    name.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)))
}

/// The zone's own names above: they are there, and have no data.
fn is_above(name: &str) -> bool {
    ORIGIN == name || ORIGIN.ends_with(&format!(".{name}"))
}

fn question(question: &[u8]) -> Option<(String, u16)> {
    let mut labels = Vec::new();
    let mut rest = question;
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            let rtype = u16::from_be_bytes([*after.first()?, *after.get(1)?]);
            return Some((labels.join("."), rtype));
        }
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
}

fn set_flags(response: &mut [u8], query: u16, rcode: u16) {
    let flags = flag::QR | flag::AA | query & flag::RD | rcode;
    response[2..4].copy_from_slice(&flags.to_be_bytes());
}

fn record(message: &mut Vec<u8>, rtype: u16, data: &[u8]) {
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1]);
    message.extend(TTL.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

fn soa() -> Vec<u8> {
    let mut data = [
        name_to_wire("ns.cluster.local"),
        name_to_wire("admin.cluster.local"),
    ]
    .concat();
    for number in [1, 7200, 1800, 86_400, 2_u32] {
        data.extend(number.to_be_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(name: &str, rtype: u16, at: u64, sent: u64) -> Result<(), String> {
        let query = Query::new(name, rtype);
        let response = response(&query.to_bytes(), Duration::from_secs(at)).unwrap();
        let begun = Instant::now();
        let sent = begun + Duration::from_secs(sent);
        let message = Message::read(&response).unwrap();
        check(&query, &message, begun, sent, Duration::ZERO)
    }

    #[test]
    fn an_answer_tells_its_question_and_its_time() {
        for kind in Kind::ALL {
            for rtype in [rtype::A, rtype::AAAA] {
                assert_eq!(answered(&kind.0.name(7), rtype, 3, 4), Ok(()));
            }
        }
        let old = answered(&Kind::Hot.name(7), rtype::A, 3, 30);
        assert!(old.is_err_and(|why| why.contains("27s old")));
        let query = Query::new(&Kind::Hot.name(7), rtype::AAAA);
        let other = Query::new(&Kind::Hot.name(8), rtype::AAAA);
        let response = response(&other.to_bytes(), Duration::ZERO).unwrap();
        let message = Message::read(&response).unwrap();
        let now = Instant::now();
        let checked = check(&query, &message, now, now, Duration::ZERO);
        assert!(checked.is_err_and(|why| why.contains("wrong")));
    }

    #[test]
    fn names_above_are_there() {
        assert!(is_above("svc.cluster.local") && is_above("local") && is_above(ORIGIN));
        assert!(!is_above("default.svc.cluster.local") && !is_above("al"));
    }
}
