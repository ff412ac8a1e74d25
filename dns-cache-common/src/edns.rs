//! EDNS (RFC 6891): the OPT record of a query, and the one we send.

use crate::header::{self, Header, u16_at};
use crate::message::Message;
use crate::name;
use crate::types::rtype;

/// What we take over UDP and say in our OPT: no fragments on any path (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;
/// What every client takes over UDP (RFC 1035 §4.2.1; RFC 6891 §6.2.3).
pub const MIN_UDP_SIZE: u16 = 512;
/// Length of an OPT record without options.
pub const OPT_LEN: usize = 11;
/// The option that names a network (RFC 7871 §6).
const CLIENT_SUBNET: u16 = 8;

/// What a client says in its OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP message it takes, as it says.
    pub udp_size: u16,
    /// The version it speaks; only 0 exists.
    pub version: u8,
    /// It wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// It names a network for which it asks (RFC 7871).
    pub client_subnet: bool,
}

/// What stands where an OPT record should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    /// One.
    Sound(Edns),
    /// Something else, or one that is not well-formed.
    Broken,
    /// One with more options than the reader looks at.
    Long,
}

impl Edns {
    /// Reads everything from `at` to the message's end as one OPT record: root owner, options that fill its
    /// RDATA; of these at most `max_options` are looked at.
    #[inline(always)]
    #[must_use]
    pub fn read<M: Message + ?Sized>(message: &M, at: usize, max_options: usize) -> Opt {
        let len = message.len();
        if len < at + OPT_LEN
            || message.byte(at) != 0
            || message.number(at + 1) != rtype::OPT
            || usize::from(message.number(at + 9)) != len - at - OPT_LEN
        {
            return Opt::Broken;
        }
        let mut client_subnet = false;
        let mut option = at + OPT_LEN;
        let mut options = 0;
        while option < len {
            if options == max_options {
                return Opt::Long;
            }
            if option + 4 > len {
                return Opt::Broken;
            }
            client_subnet |= message.number(option) == CLIENT_SUBNET;
            option += 4 + usize::from(message.number(option + 2));
            options += 1;
        }
        if option != len {
            return Opt::Broken;
        }
        Opt::Sound(Self {
            client_subnet,
            ..Self::fixed(message, at)
        })
    }

    /// The first OPT record among a message's additional ones, whatever else is wrong with the message; its
    /// options are not looked at. `None` if there is none, or what stands before it cannot be walked.
    #[must_use]
    pub fn find(message: &[u8]) -> Option<Self> {
        let header = Header::read(message)?;
        let mut at = header::LEN;
        for _ in 0..header.questions {
            at = name::skip(message, at)? + 4;
        }
        let [answer, authority, additional] = header.records.map(u32::from);
        for record in 0..answer + authority + additional {
            let owner = at;
            at = name::skip(message, at)?;
            let end = at + 10 + usize::from(u16_at(message, at + 8)?);
            if end > message.len() {
                return None;
            }
            let is_opt = message[owner] == 0 && u16_at(message, at) == Some(rtype::OPT);
            if is_opt && record >= answer + authority {
                return Some(Self::fixed(message, owner));
            }
            at = end;
        }
        None
    }

    /// What the fixed part of the OPT record at `at` says.
    #[inline(always)]
    fn fixed<M: Message + ?Sized>(message: &M, at: usize) -> Self {
        Self {
            udp_size: message.number(at + 3),
            version: message.byte(at + 6),
            dnssec_ok: message.byte(at + 7) & 0x80 != 0,
            client_subnet: false,
        }
    }
}

/// An OPT record of ours: version 0, no options. The upper bits of an rcode over 15 go here.
#[inline(always)]
#[must_use]
pub const fn opt(dnssec_ok: bool, rcode: u16) -> [u8; OPT_LEN] {
    opt_before(dnssec_ok, rcode, 0)
}

/// The same before options of so many bytes.
pub(crate) const fn opt_before(dnssec_ok: bool, rcode: u16, options: u16) -> [u8; OPT_LEN] {
    let options = options.to_be_bytes();
    let size = UDP_SIZE.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    [
        0,
        0,
        rtype::OPT as u8,
        size[0],
        size[1],
        (rcode >> 4) as u8,
        0,
        flags,
        0,
        options[0],
        options[1],
    ]
}

/// Why an answer is not what it should be (RFC 8914); an option of our OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedError {
    /// The info code, of [`crate::types::ede`].
    pub code: u16,
    /// For people; short, so that it fits wherever the reply does.
    pub text: &'static str,
}

impl ExtendedError {
    /// The option's code.
    pub const OPTION: u16 = 15;
    /// Bytes before the text: option code, length, info code.
    const FIXED: usize = 6;

    /// Length of the option in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        Self::FIXED + self.text.len()
    }

    /// Writes the option to the beginning of `out`; `None` if that is shorter than [`size`](Self::size).
    pub(crate) fn write(&self, out: &mut [u8]) -> Option<()> {
        let (fixed, rest) = out.split_first_chunk_mut::<{ Self::FIXED }>()?;
        let [option, length, code] =
            [Self::OPTION, self.text.len() as u16 + 2, self.code].map(u16::to_be_bytes);
        *fixed = [option[0], option[1], length[0], length[1], code[0], code[1]];
        rest.get_mut(..self.text.len())?
            .copy_from_slice(self.text.as_bytes());
        Some(())
    }
}

/// The longest UDP reply for a client: what it takes, within what we send.
#[inline(always)]
#[must_use]
pub fn udp_limit(edns: Option<Edns>) -> usize {
    let size = edns.map_or(MIN_UDP_SIZE, |edns| edns.udp_size);
    usize::from(size.clamp(MIN_UDP_SIZE, UDP_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &[u8]) -> Opt {
        Edns::read(record, 0, usize::MAX)
    }

    #[test]
    fn our_own_record_is_read_back() {
        assert_eq!(
            Edns::read(&opt(true, 16)[..], 0, 0),
            Opt::Sound(Edns {
                udp_size: 1232,
                version: 0,
                dnssec_ok: true,
                client_subnet: false,
            })
        );
        assert_eq!(opt(false, 16)[5], 1);
    }

    #[test]
    fn options_must_fill_the_rdata() {
        let mut record = [0u8; 11 + 6];
        record[..11].copy_from_slice(&opt(false, 0));
        record[10] = 6;
        record[14] = 2;
        assert!(matches!(read(&record), Opt::Sound(_)));
        for (at, value) in [(14, 1), (14, 3), (13, 1), (10, 5), (10, 7), (0, 1), (2, 42)] {
            let mut bad = record;
            bad[at] = value;
            assert_eq!(read(&bad), Opt::Broken, "byte {at} = {value}");
        }
        for len in 0..record.len() {
            assert_eq!(read(&record[..len]), Opt::Broken, "cut at {len}");
        }
    }

    #[test]
    fn options_are_counted_and_a_subnet_is_seen() {
        let mut record = [0u8; 11 + 8];
        record[..11].copy_from_slice(&opt(false, 0));
        record[10] = 8;
        assert_eq!(Edns::read(&record[..], 0, 1), Opt::Long);
        let subnet = |record: &[u8]| match Edns::read(record, 0, 2) {
            Opt::Sound(edns) => edns.client_subnet,
            other => panic!("{other:?}"),
        };
        assert!(!subnet(&record));
        record[16] = 8;
        assert!(subnet(&record));
    }

    #[test]
    fn limits() {
        let with = |udp_size| {
            Some(Edns {
                udp_size,
                version: 0,
                dnssec_ok: false,
                client_subnet: false,
            })
        };
        assert_eq!(udp_limit(None), 512);
        assert_eq!(udp_limit(with(0)), 512);
        assert_eq!(udp_limit(with(511)), 512);
        assert_eq!(udp_limit(with(900)), 900);
        assert_eq!(udp_limit(with(4096)), 1232);
    }
}
