//! A query as it goes to an upstream.

use dns_cache_common::edns;
use dns_cache_common::header::{self, Flags, Header};
use dns_cache_common::question::{KeyParts, split_question};
use dns_cache_common::types::rcode;

use super::keepalive;

/// Bytes of the length that precedes a message on a stream (RFC 1035 §4.2.2).
pub(super) const PREFIX: usize = 2;

/// A query for an upstream: its message behind the length that a stream wants, the ID still open.
#[derive(Debug, Clone)]
pub struct Query {
    frame: Box<[u8]>,
    /// It ends with an OPT record.
    has_opt: bool,
}

impl Query {
    /// The query for what a key asks: RD, CD as asked, AD because the answer's AD is wanted
    /// (RFC 6840 §5.7), and an OPT record with our size and the client's DO.
    #[must_use]
    pub fn new(key: &KeyParts<'_>) -> Self {
        let mut flags = Flags::RD.with(Flags::AD);
        if key.checking_disabled {
            flags = flags.with(Flags::CD);
        }
        let header = Header {
            id: 0,
            flags,
            questions: 1,
            records: [0, 0, 1],
        };
        let opt = edns::opt(key.dnssec_ok, 0);
        let message = [
            &header.bytes()[..],
            key.name,
            &key.rtype.to_be_bytes(),
            &key.class.to_be_bytes(),
            &opt,
        ]
        .concat();
        // A header, a name of at most 255 bytes and an OPT record: far below 64 K.
        let length = (message.len() as u16).to_be_bytes();
        Self {
            frame: [&length[..], &message].concat().into(),
            has_opt: true,
        }
    }

    /// The same without an OPT record, for a server that does not know EDNS (RFC 6891 §6.2.2).
    pub(super) fn plain(&self) -> Self {
        let mut frame = self.frame.to_vec();
        if self.has_opt {
            frame.truncate(frame.len() - edns::OPT_LEN);
            let length = (frame.len() - PREFIX) as u16;
            frame[..PREFIX].copy_from_slice(&length.to_be_bytes());
            // The count of additional records ends the header.
            frame[PREFIX + header::LEN - 1] = 0;
        }
        Self {
            frame: frame.into(),
            has_opt: false,
        }
    }

    pub(super) fn has_opt(&self) -> bool {
        self.has_opt
    }

    /// Appends the query with an ID to what goes out on a stream; on request with the question how long the
    /// connection may be idle.
    pub(super) fn write(&self, id: u16, keepalive: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        out[start + PREFIX..][..2].copy_from_slice(&id.to_be_bytes());
        if keepalive && self.has_opt {
            // The OPT record is the last one, and has no options yet.
            let end = out.len();
            out[end - 2..].copy_from_slice(&(keepalive::OPTION.len() as u16).to_be_bytes());
            out.extend_from_slice(&keepalive::OPTION);
            let length = (out.len() - start - PREFIX) as u16;
            out[start..][..PREFIX].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// The query with an ID as a datagram.
    pub(super) fn datagram(&self, id: u16) -> Vec<u8> {
        let mut message = self.frame[PREFIX..].to_vec();
        message[..2].copy_from_slice(&id.to_be_bytes());
        message
    }

    /// Whether `response` answers this query, the ID apart.
    #[must_use]
    pub fn is_answered_by(&self, response: &[u8]) -> bool {
        let Some(header) = Header::read(response) else {
            return false;
        };
        if !header.flags.has(Flags::QR) || header.flags.opcode() != 0 {
            return false;
        }
        if header.questions == 0 {
            // Errors may come without the question that they are about.
            return header.records[..2] == [0, 0]
                && matches!(
                    header.flags.rcode(),
                    rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED
                );
        }
        let (Some((asked, _)), Some((answered, _))) = (
            split_question(&self.frame[PREFIX..]),
            split_question(response),
        ) else {
            return false;
        };
        let (name, numbers) = asked.split_at(asked.len() - 4);
        let (answered_name, answered_numbers) = answered.split_at(answered.len() - 4);
        header.questions == 1
            && numbers == answered_numbers
            && name.eq_ignore_ascii_case(answered_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(rtype: u16) -> Query {
        Query::new(&KeyParts {
            name: b"\x03www\0",
            rtype,
            class: 1,
            dnssec_ok: true,
            checking_disabled: true,
        })
    }

    fn response(flags: u16, counts: [u16; 4], question: &[u8]) -> Vec<u8> {
        let header = Header {
            id: 5,
            flags: Flags(flags),
            questions: counts[0],
            records: [counts[1], counts[2], counts[3]],
        };
        [&header.bytes()[..], question].concat()
    }

    #[test]
    fn bytes_of_a_query() {
        let mut out = vec![];
        query(28).write(0x1234, false, &mut out);
        assert_eq!(
            out,
            b"\0\x20\x12\x34\x01\x30\0\x01\0\0\0\0\0\x01\x03www\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0"
        );
        out.clear();
        query(28).write(0x1234, true, &mut out);
        assert_eq!(
            out,
            b"\0\x24\x12\x34\x01\x30\0\x01\0\0\0\0\0\x01\x03www\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\x04\0\x0b\0\0"
        );
    }

    #[test]
    fn bytes_of_a_query_without_edns() {
        let expected = b"\0\x15\x12\x34\x01\x30\0\x01\0\0\0\0\0\0\x03www\0\0\x1c\0\x01";
        for keepalive in [false, true] {
            let mut out = vec![];
            let plain = query(28).plain();
            plain.write(0x1234, keepalive, &mut out);
            assert_eq!(out, expected);
            assert_eq!(plain.datagram(0x1234), expected[PREFIX..]);
        }
    }

    #[test]
    fn what_answers_it() {
        let one = [1, 0, 0, 0];
        let table = [
            (true, response(0x8180, one, b"\x03www\0\0\x41\0\x01")),
            (true, response(0x8180, one, b"\x03WwW\0\0\x41\0\x01")),
            (false, response(0x8180, one, b"\x03WwW\0\0\x61\0\x01")),
            (false, response(0x8180, one, b"\x03www\0\0\x41\0\x03")),
            (false, response(0x8180, one, b"\x03wwv\0\0\x41\0\x01")),
            (false, response(0x0100, one, b"\x03www\0\0\x41\0\x01")),
            (false, response(0xa180, one, b"\x03www\0\0\x41\0\x01")),
            (
                false,
                response(0x8180, [2, 0, 0, 0], b"\x03www\0\0\x41\0\x01"),
            ),
            (false, response(0x8180, [0; 4], b"")),
            (true, response(0x8182, [0; 4], b"")),
            (false, response(0x8183, [0; 4], b"")),
            (false, response(0x8180, one, b"\xc0\x0c\0\x41\0\x01")),
            (false, vec![0x80; 11]),
        ];
        for (expected, response) in table {
            assert_eq!(
                query(0x41).is_answered_by(&response),
                expected,
                "{response:?}"
            );
        }
    }
}
