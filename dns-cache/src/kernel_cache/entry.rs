//! Entries in words, as the programs read them.

use dns_cache_common::cached::{
    CELL, Counts, HEAD_WORDS, MAX_BODY, MAX_RECORDS, Shape, WORD, pack_rotation, unpack_rotation,
    word,
};
use dns_cache_common::header::{Flags, u16_at};
use dns_cache_common::name;
use dns_cache_common::question::{Key, KeyParts};
use dns_cache_common::reply::{Record, Rotation, Stored};
use dns_cache_common::types::class;

use crate::resolver::{Entry, Time};

const NANOS: u64 = 1_000_000_000;

/// An entry that is to be written: its words, and the cells it needs. Generation and cells are set by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) words: Vec<u64>,
}

/// An entry as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The key (name, type, class, DO and CD).
    pub key: Box<[u8]>,
    /// When the answer was stored.
    pub stored: Time,
    /// When it expires.
    pub until: Time,
    /// Its rcode.
    pub rcode: u16,
    /// Records without OPT.
    pub records: u16,
    /// It answers for every name below as well.
    pub covers_below: bool,
    /// Bytes it takes in the kernel.
    pub bytes: u64,
    /// Hits since it was stored, moved or found old.
    pub hits: u32,
}

/// The answer of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    flags: Flags,
    counts: [u16; 3],
    records: Vec<Record>,
    body: Vec<u8>,
    rotation: Option<Rotation>,
}

impl Answer {
    /// The form from which replies are built.
    #[must_use]
    pub fn stored(&self) -> Stored<'_> {
        Stored {
            flags: self.flags,
            counts: self.counts,
            records: &self.records,
            body: &self.body,
            rotation: self.rotation,
        }
    }
}

/// The entry for an answer; `None` if the kernel could not give it.
pub(super) fn encode(
    key: &KeyParts<'_>,
    hash: u64,
    answer: &Entry,
    refresh: Time,
) -> Option<Encoded> {
    let stored = answer.stored();
    let records = stored.records.len();
    if key.class != class::IN || stored.body.len() > MAX_BODY || records > MAX_RECORDS {
        return None;
    }
    let at = answer.stored_at().nanos();
    let until = at.saturating_add(u64::from(answer.ttl()?) * NANOS);
    let name_words = key.name.len().div_ceil(WORD);
    let shape = Shape {
        body_len: u16::try_from(stored.body.len()).ok()?,
        flags: stored.flags,
        rtype: key.rtype,
        name_words: u8::try_from(name_words).ok()?,
        bits: key.bits(),
        covers_below: answer.covers_below(),
    };
    let counts = Counts {
        sections: stored.counts,
        records: u16::try_from(records).ok()?,
    };
    let rotation = stored.rotation.unwrap_or(Rotation {
        start: 0,
        len: 0,
        count: 0,
    });

    let mut head = [0; HEAD_WORDS];
    head[word::HASH] = hash;
    head[word::STORED] = at;
    head[word::UNTIL] = until;
    head[word::PREFETCH] = refresh.nanos();
    head[word::SHAPE] = shape.pack();
    head[word::COUNTS] = counts.pack();
    head[word::ROTATION] = pack_rotation(rotation, 0);
    let table: Vec<u8> = stored
        .records
        .iter()
        .flat_map(|record| record.ttl_at.to_le_bytes())
        .collect();
    let words = head
        .into_iter()
        .chain(key.name.chunks(WORD).map(name::word))
        .chain(stored.body.chunks(WORD).map(plain_word))
        .chain(table.chunks(WORD).map(plain_word))
        .collect();
    Some(Encoded { words })
}

impl Encoded {
    /// Cells that it needs.
    pub(super) fn cells(&self) -> u32 {
        // At most 28.
        (self.words.len() * WORD).div_ceil(CELL) as u32
    }

    pub(super) fn hash(&self) -> u64 {
        self.words[word::HASH]
    }

    /// Notes how many cells it has.
    pub(super) fn set_cells(&mut self, cells: u32) {
        let (rotation, _) = unpack_rotation(self.words[word::ROTATION]);
        self.words[word::ROTATION] = pack_rotation(rotation, cells as u16);
    }
}

/// The answer in an entry's words; `None` if they are not whole.
pub(super) fn decode(entry: &Encoded) -> Option<Answer> {
    let words = &entry.words;
    let shape = Shape::unpack(*words.get(word::SHAPE)?);
    let counts = Counts::unpack(*words.get(word::COUNTS)?);
    let (rotation, _) = unpack_rotation(*words.get(word::ROTATION)?);
    let body_at = HEAD_WORDS + usize::from(shape.name_words);
    let table_at = body_at + shape.body_words();
    let bytes = |words: &[u64], len| -> Vec<u8> {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(len).collect()
    };
    let body = bytes(words.get(body_at..table_at)?, shape.body_len.into());
    let table = bytes(words.get(table_at..)?, 2 * usize::from(counts.records));
    let record = |ttl_at: u16| {
        // TTL and RDLENGTH stand before the data.
        let data_at = usize::from(ttl_at) + 6;
        let len = u16_at(&body[..], data_at - 2)?;
        let end = u16::try_from(data_at + usize::from(len)).ok()?;
        (usize::from(end) <= body.len()).then_some(Record { ttl_at, end })
    };
    let (offsets, _) = table.as_chunks();
    let records = offsets.iter().map(|at| record(u16::from_le_bytes(*at)));
    Some(Answer {
        flags: shape.flags,
        counts: counts.sections,
        records: records.collect::<Option<_>>()?,
        body,
        rotation: (rotation.count > 0).then_some(rotation),
    })
}

/// Up to eight bytes, the first one lowest, filled up with zeros.
fn plain_word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The key of an entry, from its shape and the words of its name.
pub(super) fn key(shape: Shape, name: impl Iterator<Item = u64>) -> Option<Key> {
    let bytes: Vec<u8> = name.flat_map(u64::to_le_bytes).collect();
    let len = name::plain_len(&bytes[..], 0)?;
    Key::from_parts(&KeyParts::new(
        bytes.get(..len)?,
        shape.rtype,
        class::IN,
        shape.bits,
    ))
}
