//! Bytes that are nearly right.

/// Numbers at which lengths, counts and types change their meaning.
const EDGES: [u8; 12] = [0, 1, 4, 5, 12, 0x1f, 0x29, 0x3f, 0x40, 0x7f, 0xc0, 0xff];
/// No input becomes longer.
const MOST: usize = 4096;

/// A sequence of numbers that is the same for the same seed (xorshift64).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// One of the corpus with a few changes, some of them parts of others.
pub(super) fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            change => {
                let edge = EDGES[random.below(EDGES.len())];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = match change {
                        4 => *byte ^ 1 << random.below(8),
                        5 => edge,
                        _ => byte.wrapping_add(edge),
                    };
                }
            }
        }
    }
    bytes.truncate(MOST);
    bytes
}
