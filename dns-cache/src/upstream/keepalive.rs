//! How long a server keeps an idle connection: edns-tcp-keepalive (RFC 7828).

use std::time::Duration;

use dns_cache_common::header::{self, Header, u16_at};
use dns_cache_common::name;
use dns_cache_common::types::rtype;

/// The option's code.
const CODE: u16 = 11;
/// The option as a query has it: without a value.
pub(super) const OPTION: [u8; 4] = [0, CODE as u8, 0, 0];
/// Type, class, TTL and length of a record.
const FIXED: usize = 10;

/// The time that a response gives, if it does; in units of 100 ms on the wire.
pub(super) fn timeout(response: &[u8]) -> Option<Duration> {
    let mut options = options(response)?;
    while !options.is_empty() {
        let (code, length) = (u16_at(options, 0)?, usize::from(u16_at(options, 2)?));
        if code == CODE && length == 2 {
            return Some(Duration::from_millis(u64::from(u16_at(options, 4)?) * 100));
        }
        options = options.get(4 + length..)?;
    }
    None
}

/// The options of the OPT record, if it is the last record, where servers put it. (A TSIG would stand behind it; we
/// sign nothing.)
fn options(response: &[u8]) -> Option<&[u8]> {
    let header = Header::read(response)?;
    let mut at = header::LEN;
    for _ in 0..header.questions {
        at = name::skip(response, at)? + 4;
    }
    let records: usize = header.records.iter().map(|count| usize::from(*count)).sum();
    for left in (0..records).rev() {
        let root = response.get(at) == Some(&0);
        at = name::skip(response, at)?;
        let rdata = at + FIXED;
        let end = rdata + usize::from(u16_at(response, at + 8)?);
        if left == 0 && root && u16_at(response, at)? == rtype::OPT {
            return response.get(rdata..end);
        }
        at = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(options: &[u8]) -> Vec<u8> {
        let length = (options.len() as u16).to_be_bytes();
        [
            b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\x01\x01a\0\0\x01\0\x01".as_slice(),
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x0a\0\0\x01",
            b"\0\0\x29\x04\xd0\0\0\0\0",
            &length,
            options,
        ]
        .concat()
    }

    #[test]
    fn the_time_is_found_among_options() {
        let seconds = |options| timeout(&response(options)).map(|time| time.as_secs());
        assert_eq!(seconds(b"\0\x0b\0\x02\0\x64"), Some(10));
        assert_eq!(seconds(b"\0\x03\0\x01x\0\x0b\0\x02\0\0"), Some(0));
        for none in [
            b"".as_slice(),
            // CoreDNS gives back what it was sent.
            &OPTION,
            b"\0\x0b\0\x02\0",
            b"\0\x0b\0\x03\0\0\0",
            b"\0\x0b",
            b"\0\x03\xff\xff",
        ] {
            assert_eq!(seconds(none), None, "{none:?}");
        }
    }

    #[test]
    fn messages_cut_anywhere_have_none() {
        let whole = response(b"\0\x0b\0\x02\0\x64");
        for end in 0..whole.len() {
            assert_eq!(timeout(&whole[..end]), None, "{end}");
        }
    }
}
