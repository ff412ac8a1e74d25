//! An answer as the kernel cache holds it.
//!
//! The agent writes entries into memory that it shares with the programs; nobody else does. All numbers are in
//! the machine's byte order (little-endian), in words of eight bytes:
//! ```text
//! entry  = 8 words of head · name · body · table of TTLs
//! name   = the question's name in lower case, filled up with zeros to a word
//! body   = the answer as in `reply`: all records as they stand behind the question, filled up
//! table  = for each record the 16-bit offset of its TTL in the body, filled up
//! ```
//! An entry begins on a cell of 64 bytes of the arena (map `ARENA`, elements of [`ELEMENT`] bytes) and lies
//! within one element. The index (map `INDEX`) is an array of buckets: the hash says which bucket, and eight ways
//! in it hold the upper bits of a hash and the cell of its entry.
//!
//! **Consistency.** A writer sets an entry's generation to 0, writes it, and gives it a generation that no entry ever
//! had. A reader copies the entry between two looks at its way and its generation; if both are still the same, the copy
//! is of one writing. A new answer to the same question that fits is written where the old one is: entry and way stay at
//! their places, and the generation tells. Before memory is used anew, where its entry's first word may be anything, the
//! entry's way is taken out of the index; the new one's is put in when it is written. What a reader writes itself (hits)
//! is in the bucket, not in the entry: a late write must not hit memory that has become another entry's.

use crate::header::{self, Flags};
use crate::name;
use crate::reply::Rotation;

/// Bytes of a word.
pub const WORD: usize = 8;
/// Bytes of a cell: entries begin on multiples of it.
pub const CELL: usize = 64;
/// Bytes of an element of the arena.
pub const ELEMENT: usize = 256 * 1024;
/// The word of the arena that says how long the name of the zone with NXDOMAIN cuts ([`crate::cut`]) is; 0: there is
/// none. It lies in cell 0, where no entry is.
pub const CUT_ZONE_LEN: usize = 0;
/// Cells of an element.
pub const ELEMENT_CELLS: u32 = (ELEMENT / CELL) as u32;
/// Longest body: with header and the shortest question it fills the largest UDP message that we send.
pub const MAX_BODY: usize = crate::edns::UDP_SIZE as usize - header::LEN - 5;
/// No record is shorter: root name, type, class, TTL, RDLENGTH.
const MIN_RECORD: usize = 11;
/// Most records of a body.
pub const MAX_RECORDS: usize = MAX_BODY / MIN_RECORD;
/// Words of the longest body and its table.
pub const MAX_TAIL_WORDS: usize = MAX_BODY.div_ceil(WORD) + (2 * MAX_RECORDS).div_ceil(WORD);
/// Bytes of the largest entry, rounded up to cells.
pub const MAX_ENTRY: usize =
    ((HEAD_WORDS + name::MAX_LEN.div_ceil(WORD) + MAX_TAIL_WORDS) * WORD).next_multiple_of(CELL);
/// So many bytes from an entry's beginning belong to its element, whatever its size; the program reads nothing
/// beyond them.
pub const WINDOW: usize = 2048;
/// Ways of a bucket.
pub const WAYS: usize = 8;

/// Words of the head.
pub const HEAD_WORDS: usize = 8;

/// Numbers of the head's words.
pub mod word {
    /// Unique to this writing of the entry; 0 while it is being written.
    pub const GENERATION: usize = 0;
    /// The key's whole hash.
    pub const HASH: usize = 1;
    /// When the answer was stored: nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub const STORED: usize = 2;
    /// When it expires.
    pub const UNTIL: usize = 3;
    /// From when on a hit asks for a refresh.
    pub const PREFETCH: usize = 4;
    /// [`super::Shape`].
    pub const SHAPE: usize = 5;
    /// [`super::Counts`].
    pub const COUNTS: usize = 6;
    /// The rotation, and the cells that the entry takes.
    pub const ROTATION: usize = 7;
}

/// The second half of a bucket follows the ways: hits, then the lower half of the generation for which a
/// refresh was asked, 32 bits a way each.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Bucket {
    /// [`way`] of each, 0 where it is free.
    pub ways: [u64; WAYS],
    /// Hits since the agent last set it to 0; counted without a lock, so some get lost between CPUs.
    pub hits: [u32; WAYS],
    /// Lower half of the generation for which a refresh was asked.
    pub asked: [u32; WAYS],
}

/// Bits of a way that hold the cell.
const CELL_BITS: u32 = 28;
/// Most cells that ways can tell apart (16 GiB).
pub const MAX_CELLS: u32 = 1 << CELL_BITS;

/// The bucket of a hash among `buckets`, which is not 0.
#[inline(always)]
#[must_use]
pub const fn bucket(hash: u64, buckets: u32) -> u32 {
    // The lower half as a fraction of `buckets`: as even as a remainder, without a division.
    (((hash & 0xffff_ffff) * buckets as u64) >> 32) as u32
}

/// The way that leads from `hash` to `cell`. Cell 0 is never used, so no way is 0.
#[inline(always)]
#[must_use]
pub const fn way(hash: u64, cell: u32) -> u64 {
    hash & !(MAX_CELLS as u64 - 1) | cell as u64
}

/// The cell to which a way leads.
#[inline(always)]
#[must_use]
pub const fn cell(way: u64) -> u32 {
    way as u32 & (MAX_CELLS - 1)
}

/// Whether a way may lead to the entry of `hash`.
#[inline(always)]
#[must_use]
pub const fn may_lead(way: u64, hash: u64) -> bool {
    (way ^ hash) >> CELL_BITS == 0
}

/// What an entry is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the body, without filling.
    pub body_len: u16,
    /// The answer's flags and rcode, as `reply::Stored` has them.
    pub flags: Flags,
    /// The question's type.
    pub rtype: u16,
    /// Words of the name.
    pub name_words: u8,
    /// DO and CD of the question.
    pub bits: u8,
    /// The answer is an NXDOMAIN that holds for every name below as well.
    pub covers_below: bool,
}

/// In the byte of DO and CD.
const COVERS_BELOW: u8 = 0x80;

impl Shape {
    /// The word of the head.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.body_len as u64
            | (self.flags.0 as u64) << 16
            | (self.rtype as u64) << 32
            | (self.name_words as u64) << 48
            | ((self.bits | (COVERS_BELOW * self.covers_below as u8)) as u64) << 56
    }

    /// The inverse of [`Self::pack`].
    #[inline(always)]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self {
            body_len: word as u16,
            flags: Flags((word >> 16) as u16),
            rtype: (word >> 32) as u16,
            name_words: (word >> 48) as u8,
            bits: (word >> 56) as u8 & !COVERS_BELOW,
            covers_below: (word >> 56) as u8 & COVERS_BELOW != 0,
        }
    }

    /// Words of the body.
    #[inline(always)]
    #[must_use]
    pub const fn body_words(self) -> usize {
        words(self.body_len as usize)
    }
}

/// Words that so many bytes take. [`usize::div_ceil`] has a branch, of which the kernel's verifier follows both sides through
/// all that comes after it.
#[inline(always)]
#[must_use]
pub const fn words(bytes: usize) -> usize {
    (bytes + WORD - 1) >> WORD.trailing_zeros()
}

/// How many records an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// In the answer, authority and additional sections.
    pub sections: [u16; 3],
    /// In all; as many as the table has offsets.
    pub records: u16,
}

impl Counts {
    /// The word of the head.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let [answer, authority, additional] = self.sections;
        answer as u64
            | (authority as u64) << 16
            | (additional as u64) << 32
            | (self.records as u64) << 48
    }

    /// The inverse of [`Self::pack`].
    #[inline(always)]
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self {
            sections: [word as u16, (word >> 16) as u16, (word >> 32) as u16],
            records: (word >> 48) as u16,
        }
    }

    /// Words of the table, which follows the body.
    #[inline(always)]
    #[must_use]
    pub const fn table_words(self) -> usize {
        words(self.records as usize * 2)
    }
}

/// The rotation (count 0: none) and the cells of an entry as the word of the head.
#[inline(always)]
#[must_use]
pub const fn pack_rotation(rotation: Rotation, cells: u16) -> u64 {
    rotation.start as u64
        | (rotation.len as u64) << 16
        | (rotation.count as u64) << 32
        | (cells as u64) << 48
}

/// The inverse of [`pack_rotation`].
#[inline(always)]
#[must_use]
pub const fn unpack_rotation(word: u64) -> (Rotation, u16) {
    let rotation = Rotation {
        start: word as u16,
        len: (word >> 16) as u16,
        count: (word >> 32) as u16,
    };
    (rotation, (word >> 48) as u16)
}

/// The event by which a program asks for a refresh of the entry that `way` leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Refresh {
    /// The entry's way in the index.
    pub way: u64,
    /// Its generation.
    pub generation: u64,
}

impl Refresh {
    /// Reads the event from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (way, rest) = bytes.split_first_chunk()?;
        let (generation, _) = rest.split_first_chunk()?;
        Some(Self {
            way: u64::from_ne_bytes(*way),
            generation: u64::from_ne_bytes(*generation),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Bucket>(), 128);
        assert_eq!(MAX_BODY, 1215);
        assert_eq!(MAX_ENTRY % CELL, 0);
        const { assert!(MAX_ENTRY < WINDOW) };
    }

    #[test]
    fn words_come_back() {
        let shape = Shape {
            body_len: 1215,
            flags: Flags(0x8583),
            rtype: 65_535,
            name_words: 32,
            bits: 3,
            covers_below: true,
        };
        assert_eq!(Shape::unpack(shape.pack()), shape);
        let counts = Counts {
            sections: [1, 2, 65_535],
            records: 110,
        };
        assert_eq!(Counts::unpack(counts.pack()), counts);
        let rotation = Rotation {
            start: 40,
            len: 28,
            count: 12,
        };
        assert_eq!(unpack_rotation(pack_rotation(rotation, 28)), (rotation, 28));
    }

    #[test]
    fn ways_lead_back() {
        let hash = 0xfedc_ba98_7654_3210;
        let way = way(hash, MAX_CELLS - 1);
        assert_eq!(cell(way), MAX_CELLS - 1);
        assert!(may_lead(way, hash) && may_lead(way, hash ^ 1) && !may_lead(way, hash ^ 1 << 28));
        assert_eq!(bucket(u64::MAX, 7), 6);
        assert_eq!(bucket(0xffff_ffff_0000_0000, 7), 0);
    }
}
