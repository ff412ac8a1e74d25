//! Names on the wire (RFC 1035 §3.1, §4.1.4).

use crate::message::Message;

/// Longest name on the wire, with its length bytes and the root's zero.
pub const MAX_LEN: usize = 255;
/// Longest label.
pub const MAX_LABEL: usize = 63;
/// A name has at most so many labels besides the root.
pub(crate) const MAX_LABELS: usize = MAX_LEN / 2;
/// No honest message needs more compression pointers for a name than it has labels.
const MAX_JUMPS: usize = MAX_LABELS;

/// Length of the uncompressed name at `at`, its final zero included; `None` if it runs past the message's
/// end, is longer than [`MAX_LEN`], or has a pointer or a reserved label type.
#[inline(always)]
#[must_use]
pub fn plain_len<M: Message + ?Sized>(message: &M, at: usize) -> Option<usize> {
    let mut end = at;
    // A name has at most 127 labels and the root.
    for _ in 0..=MAX_LABELS {
        if end >= message.len() {
            return None;
        }
        let label = usize::from(message.byte(end));
        end += 1;
        if label == 0 {
            return Some(end - at);
        }
        end += label;
        if label > MAX_LABEL || end - at >= MAX_LEN {
            return None;
        }
    }
    None
}

/// Copies bytes of names in lower case (RFC 4343). Length bytes pass unchanged: they are at most 63,
/// below `A`.
pub fn lower(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.chunks_mut(8).zip(from.chunks(8)) {
        for (to, from) in to.iter_mut().zip(word(from).to_le_bytes()) {
            *to = from;
        }
    }
}

/// Up to eight bytes of a name as a number in lower case, the first byte lowest, filled up with zeros.
#[must_use]
pub fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    lower_word(u64::from_le_bytes(word))
}

/// Eight bytes at once in lower case, wherever they lie in the number.
#[inline(always)]
#[must_use]
pub const fn lower_word(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // Without its highest bit no byte's sum reaches the next byte; that bit then says which bytes are large enough.
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let beyond_z = low + (0x80 - b'Z' as u64 - 1) * ONES;
    let upper = from_a & !beyond_z & !word & HIGH;
    // The highest bit moved to 0x20, by which the cases differ.
    word | upper >> 2
}

/// Where the possibly compressed name at `at` ends in the message, without following its pointers.
#[must_use]
pub fn skip(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0..=0xff => return message.get(at + 1).map(|_| at + 2),
            label if usize::from(label) <= MAX_LABEL => at += 1 + usize::from(label),
            _ => return None,
        }
        if at - start >= MAX_LEN {
            return None;
        }
    }
}

/// A name taken out of a message, without compression, in the case it was sent in.
#[derive(Debug, Clone)]
pub struct Expanded {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Expanded {
    /// Reads the name at `at`, following its pointers, and says where it ends in the message.
    ///
    /// A pointer must lead to an earlier place than the part of the name that holds it, so that loops and
    /// pointers forward end the reading (RFC 9267 §2); the whole name must keep within [`MAX_LEN`].
    #[must_use]
    pub fn read(message: &[u8], mut at: usize) -> Option<(Self, usize)> {
        let mut name = Self {
            bytes: [0; MAX_LEN],
            len: 0,
        };
        let mut end = None;
        let mut part = at;
        let mut jumps = 0;
        loop {
            let byte = *message.get(at)?;
            if byte >= 0xc0 {
                let target = usize::from(u16::from_be_bytes([byte & 0x3f, *message.get(at + 1)?]));
                end.get_or_insert(at + 2);
                jumps += 1;
                if target >= part || jumps > MAX_JUMPS {
                    return None;
                }
                (at, part) = (target, target);
                continue;
            }
            let step = 1 + usize::from(byte);
            if step > 1 + MAX_LABEL {
                return None;
            }
            name.bytes
                .get_mut(name.len..name.len + step)?
                .copy_from_slice(message.get(at..at + step)?);
            name.len += step;
            at += step;
            if byte == 0 {
                return Some((name, end.unwrap_or(at)));
            }
        }
    }

    /// The name's bytes, from the first length to the root's zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lowered_as_bytes_are() {
        for byte in 0..=u8::MAX {
            for around in [0, b'A', b'Z', b'[', 0x7f, 0x80, 0xff] {
                let bytes = [around, byte, around, byte, byte, around, around, byte];
                let lowered = bytes.map(|byte| byte.to_ascii_lowercase());
                assert_eq!(lower_word(u64::from_le_bytes(bytes)).to_le_bytes(), lowered);
            }
        }
        let mut lowered = [0; 11];
        lower(b"\x0aWwW-EXAMPL", &mut lowered[..]);
        assert_eq!(&lowered, b"\x0awww-exampl");
    }

    #[test]
    fn plain_names() {
        assert_eq!(plain_len(&b"\0"[..], 0), Some(1));
        assert_eq!(plain_len(&b"\x03www\x07example\0rest"[..], 0), Some(13));
        for bad in [
            &b""[..],
            b"\x03ww",
            b"\x03www",
            b"\x40",
            b"\xc0\x0c",
            b"\x80\0",
            b"\x03www\xc0\x0c",
        ] {
            assert_eq!(plain_len(bad, 0), None, "{bad:?}");
        }
    }

    #[test]
    fn the_longest_name_has_255_bytes() {
        let mut longest = [1u8; 255];
        longest[254] = 0;
        assert_eq!(plain_len(&longest[..], 0), Some(255));
        let mut longer = [1u8; 257];
        longer[256] = 0;
        assert_eq!(plain_len(&longer[..], 0), None);
        let mut label = [b'a'; 65];
        (label[0], label[64]) = (63, 0);
        assert_eq!(plain_len(&label[..], 0), Some(65));
    }

    #[test]
    fn lower_leaves_lengths_alone() {
        let mut out = [0; 66];
        let mut name = [b'Z'; 66];
        (name[0], name[64], name[65]) = (63, 0, b'[');
        lower(&name, &mut out);
        assert_eq!((out[0], out[1], out[64], out[65]), (63, b'z', 0, b'['));
    }

    #[test]
    fn pointers_are_followed_backwards_only() {
        let message = b"\x01a\x01b\0\x01c\xc0\x02\xc0\x05";
        let (name, end) = Expanded::read(message, 9).unwrap();
        assert_eq!((name.as_bytes(), end), (&b"\x01c\x01b\0"[..], 11));
        let loops: [(&[u8], usize); 5] = [
            (b"\xc0\x00", 0),         // itself
            (b"\x01a\xc0\x00", 0),    // its own beginning
            (b"\xc0\x02\x01a\0", 0),  // forward
            (b"\xc0\x02\xc0\x00", 0), // two that point at each other
            (b"\x01a\xc0\xff", 0),    // past the end
        ];
        for (message, at) in loops {
            assert!(Expanded::read(message, at).is_none(), "{message:?}");
        }
        assert!(Expanded::read(b"\x01a\xc0", 0).is_none());
        assert!(Expanded::read(b"\x01a", 0).is_none());
        assert!(Expanded::read(b"", 0).is_none());
        assert!(Expanded::read(b"\x40a", 0).is_none());
    }

    #[test]
    fn expansion_is_bounded() {
        // 63 + 63 + 63 + 63 bytes of labels reached by pointers: longer than 255.
        let mut message = [0u8; 400];
        let mut at = 0;
        let mut last: Option<u16> = None;
        for _ in 0..4 {
            let start = at;
            message[at] = 63;
            at += 64;
            if let Some(last) = last {
                message[at..at + 2].copy_from_slice(&(0xc000u16 | last).to_be_bytes());
                at += 2;
            } else {
                at += 1;
            }
            last = Some(start as u16);
        }
        assert!(Expanded::read(&message, usize::from(last.unwrap())).is_none());
        // A long chain of pointers to pointers.
        let mut chain = [0u8; 400];
        for i in 1..200u16 {
            chain[usize::from(i) * 2..][..2]
                .copy_from_slice(&(0xc000 | ((i - 1) * 2)).to_be_bytes());
        }
        assert!(Expanded::read(&chain, 20).is_some());
        assert!(Expanded::read(&chain, 398).is_none());
    }

    #[test]
    fn skip_stops_at_the_first_pointer() {
        assert_eq!(skip(b"\x01a\xc0\xff", 0), Some(4));
        assert_eq!(skip(b"\x01a\0", 0), Some(3));
        assert_eq!(skip(b"\x01a\xc0", 0), None);
        assert_eq!(skip(b"\x80", 0), None);
        assert_eq!(skip(&[1; 400], 0), None);
    }
}
