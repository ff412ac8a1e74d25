//! The message header (RFC 1035 §4.1.1): its fields and flag bits.

use crate::message::Message;

/// Length of the header in bytes.
pub const LEN: usize = 12;

/// The header's third and fourth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// A response.
    pub const QR: Self = Self(0x8000);
    /// Authoritative answer.
    pub const AA: Self = Self(0x0400);
    /// Truncated.
    pub const TC: Self = Self(0x0200);
    /// Recursion desired.
    pub const RD: Self = Self(0x0100);
    /// Recursion available.
    pub const RA: Self = Self(0x0080);
    /// Authentic data (RFC 6840 §5.7).
    pub const AD: Self = Self(0x0020);
    /// Checking disabled (RFC 4035 §3.2.2).
    pub const CD: Self = Self(0x0010);

    const RCODE: u16 = 0x000f;

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of the bits that `mask` has too.
    #[must_use]
    pub const fn only(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    /// The kind of query; 0 is an ordinary one.
    #[must_use]
    pub const fn opcode(self) -> u8 {
        ((self.0 >> 11) & 0x0f) as u8
    }

    /// The header's part of the response code.
    #[must_use]
    pub const fn rcode(self) -> u16 {
        self.0 & Self::RCODE
    }

    /// The same flags with another response code; only its low four bits fit here.
    #[must_use]
    pub const fn with_rcode(self, rcode: u16) -> Self {
        Self((self.0 & !Self::RCODE) | (rcode & Self::RCODE))
    }
}

/// The whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by whoever asks.
    pub id: u16,
    /// Flags, opcode and rcode.
    pub flags: Flags,
    /// Questions.
    pub questions: u16,
    /// Records in the answer, authority and additional sections.
    pub records: [u16; 3],
}

impl Header {
    /// Reads the header; `None` if the message is shorter than one.
    #[inline(always)]
    #[must_use]
    pub fn read<M: Message + ?Sized>(message: &M) -> Option<Self> {
        if message.len() < LEN {
            return None;
        }
        Some(Self {
            id: message.number(0),
            flags: Flags(message.number(2)),
            questions: message.number(4),
            records: [message.number(6), message.number(8), message.number(10)],
        })
    }

    /// The header's bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; LEN] {
        let (i, f, q) = (
            self.id.to_be_bytes(),
            self.flags.0.to_be_bytes(),
            self.questions.to_be_bytes(),
        );
        let (a, n, x) = (
            self.records[0].to_be_bytes(),
            self.records[1].to_be_bytes(),
            self.records[2].to_be_bytes(),
        );
        [
            i[0], i[1], f[0], f[1], q[0], q[1], a[0], a[1], n[0], n[1], x[0], x[1],
        ]
    }
}

/// Reads a 16-bit number at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a 32-bit number at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fields_are_inverse() {
        let bytes = [0x12, 0x34, 0x85, 0xb3, 0, 1, 0, 2, 0, 3, 0, 4];
        let header = Header::read(&bytes[..]).unwrap();
        assert_eq!(header.bytes(), bytes);
        assert_eq!(header.id, 0x1234);
        assert_eq!((header.questions, header.records), (1, [2, 3, 4]));
        assert_eq!((header.flags.opcode(), header.flags.rcode()), (0, 3));
        for flag in [
            Flags::QR,
            Flags::AA,
            Flags::RD,
            Flags::RA,
            Flags::AD,
            Flags::CD,
        ] {
            assert!(header.flags.has(flag));
        }
        assert!(!header.flags.has(Flags::TC));
    }

    #[test]
    fn eleven_bytes_are_no_header() {
        assert_eq!(Header::read(&[0; 11][..]), None);
    }

    #[test]
    fn opcode_is_four_bits() {
        assert_eq!(Flags(0x7800).opcode(), 15);
        assert_eq!(Flags(0x87ff).opcode(), 0);
    }
}
