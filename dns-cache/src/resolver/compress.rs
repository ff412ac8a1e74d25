//! Writing a message whose names are compressed against the question and each other.

use dns_cache_common::header;
use dns_cache_common::name::Expanded;

/// Places that later names may point to. Few are enough for honest answers, and the search stays short
/// however many names a response has.
const MAX_PLACES: usize = 64;
/// A pointer has 14 bits (RFC 1035 §4.1.4).
const MAX_OFFSET: usize = 0x3fff;
const POINTER: u16 = 0xc000;

/// A message being written behind a header and a question.
#[derive(Debug)]
pub(super) struct Writer {
    message: Vec<u8>,
    body_at: usize,
    /// `None`: names are written as they are.
    places: Option<Vec<(u32, u16)>>,
}

impl Writer {
    /// Begins behind a question whose name is `name`; whatever its case, it may be pointed to.
    pub(super) fn new(name: &[u8], capacity: usize) -> Self {
        Self::with(Some(Vec::with_capacity(16)), name, capacity)
    }

    /// Begins without pointers: what is written is sound behind a question of any length.
    pub(super) fn plain(capacity: usize) -> Self {
        Self::with(None, &[0], capacity)
    }

    fn with(places: Option<Vec<(u32, u16)>>, name: &[u8], capacity: usize) -> Self {
        let mut message = Vec::with_capacity(capacity + header::LEN + name.len() + 4);
        message.extend_from_slice(&[0; header::LEN]);
        let mut this = Self {
            message,
            body_at: 0,
            places,
        };
        this.name(name);
        this.message.extend_from_slice(&[0; 4]);
        this.body_at = this.message.len();
        this
    }

    /// Bytes written behind the question.
    pub(super) fn len(&self) -> usize {
        self.message.len() - self.body_at
    }

    /// Appends bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }

    /// Overwrites bytes behind the question, at an offset that has been written.
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self
            .message
            .get_mut(self.body_at + at..)
            .and_then(|m| m.get_mut(..bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
    }

    /// Appends a name: labels of its own, then a pointer to the longest ending that is there already.
    pub(super) fn name(&mut self, name: &[u8]) {
        let Some(places) = &mut self.places else {
            return self.bytes(name);
        };
        let (labels, hashes, count) = endings(name);
        let known = (0..count).find_map(|i| {
            let at = find(
                &self.message,
                places,
                hashes[i],
                name.get(usize::from(labels[i])..)?,
            )?;
            Some((i, at))
        });
        let own = known.map_or(count, |(i, _)| i);
        let start = self.message.len();
        for i in 0..own {
            let at = start + usize::from(labels[i]);
            if at <= MAX_OFFSET && places.len() < MAX_PLACES {
                places.push((hashes[i], at as u16));
            }
        }
        match known {
            Some((i, at)) => {
                self.message
                    .extend_from_slice(&name[..usize::from(labels[i])]);
                self.message
                    .extend_from_slice(&(POINTER | at).to_be_bytes());
            }
            None => self.message.extend_from_slice(name),
        }
    }

    /// What has been written behind the question.
    pub(super) fn finish(&self) -> Box<[u8]> {
        self.message[self.body_at..].into()
    }
}

fn find(message: &[u8], places: &[(u32, u16)], hash: u32, ending: &[u8]) -> Option<u16> {
    places
        .iter()
        .filter(|(h, _)| *h == hash)
        .map(|(_, at)| *at)
        .find(|at| {
            Expanded::read(message, usize::from(*at))
                .is_some_and(|(name, _)| name.as_bytes().eq_ignore_ascii_case(ending))
        })
}

/// Where the labels of a name begin, the root's not among them, and a hash of the ending from each on,
/// blind to case.
fn endings(name: &[u8]) -> ([u8; 128], [u32; 128], usize) {
    let (mut labels, mut hashes) = ([0u8; 128], [0u32; 128]);
    let (mut count, mut at) = (0, 0);
    while let Some(&len) = name.get(at).filter(|len| **len != 0) {
        // A name has at most 127 labels in 255 bytes.
        (labels[count], count) = (at as u8, count + 1);
        at += 1 + usize::from(len);
    }
    let mut hash = 0x811c_9dc5u32;
    let mut end = at;
    for i in (0..count).rev() {
        let begin = usize::from(labels[i]);
        for byte in &name[begin..end] {
            hash = (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
        }
        (hashes[i], end) = (hash, begin);
    }
    (labels, hashes, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(names: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::new(b"\x03www\x07example\x03org\0", 0);
        for name in names {
            writer.name(name);
        }
        writer.finish().into()
    }

    #[test]
    fn names_point_to_the_question() {
        assert_eq!(written(&[b"\x03www\x07example\x03org\0"]), b"\xc0\x0c");
        assert_eq!(written(&[b"\x03WWW\x07eXample\x03org\0"]), b"\xc0\x0c");
        assert_eq!(written(&[b"\x02ns\x07example\x03org\0"]), b"\x02ns\xc0\x10");
        assert_eq!(
            written(&[b"\x03org\0", b"\0", b"\x03com\0"]),
            b"\xc0\x18\0\x03com\0"
        );
    }

    #[test]
    fn names_point_to_each_other() {
        // The body begins at 12 + 17 + 4 = 33.
        assert_eq!(
            written(&[b"\x01a\x03net\0", b"\x01b\x03NET\0", b"\x01A\x03net\0"]),
            b"\x01a\x03net\0\x01b\xc0\x23\xc0\x21"
        );
    }

    #[test]
    fn names_beyond_a_pointers_reach_stay_whole() {
        let mut writer = Writer::new(b"\x01q\0", 0);
        writer.bytes(&[0; 0x4000]);
        writer.name(b"\x01a\x03net\0");
        writer.name(b"\x01a\x03net\0");
        writer.name(b"\x01q\0");
        assert_eq!(
            writer.finish()[0x4000..],
            *b"\x01a\x03net\0\x01a\x03net\0\xc0\x0c"
        );
    }

    #[test]
    fn the_longest_name_has_127_labels() {
        let mut name = vec![1u8; 254];
        name.push(0);
        let mut writer = Writer::new(&name, 0);
        writer.name(&name);
        assert_eq!(*writer.finish(), *b"\xc0\x0c");
    }
}
