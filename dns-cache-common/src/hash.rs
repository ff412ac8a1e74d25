//! The hash by which the kernel cache finds a key.
//!
//! NH (RFC 4418 §5.2.2, 32-bit words) over the key's words, then the finaliser of MurmurHash3. Two different
//! keys have the same NH value with a chance of about 2⁻³² over all seeds, whatever the keys are; the seed is
//! made at start and known to root alone, so nobody can choose names that meet in one place. The finaliser is a
//! bijection: it only spreads NH's bits, the lowest of which depend on few bits of the key.
//! One multiplication per eight bytes makes it cheap enough for every packet.

use core::fmt;

use crate::name;

/// Words of the longest name.
pub const NAME_WORDS: usize = name::MAX_LEN.div_ceil(8);

/// What makes this agent's hashes its own: a random word for each of a name's words, and one for what follows.
#[derive(Clone, Copy)]
pub struct Seed(pub [u64; NAME_WORDS + 1]);

impl fmt::Debug for Seed {
    /// Without the words: what is known to a log is known to more than the agent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    /// The hash of a question: its name's [`words`](name::word), and the word that [`tail`] makes of the rest.
    #[must_use]
    pub fn hash(&self, name: &[u8], tail: u64) -> u64 {
        let [name_seeds @ .., tail_seed] = &self.0;
        let words = name.chunks(8).map(name::word);
        let sum = words
            .zip(name_seeds)
            .fold(0, |sum, (word, seed)| add(sum, word, *seed));
        finish(add(sum, tail, *tail_seed))
    }
}

/// Type, DO and CD of a question as the last word of its key.
#[inline(always)]
#[must_use]
pub const fn tail(rtype: u16, bits: u8) -> u64 {
    (rtype as u64) << 8 | bits as u64
}

/// Takes one more word into an NH sum.
#[inline(always)]
#[must_use]
pub const fn add(sum: u64, word: u64, seed: u64) -> u64 {
    let low = (word as u32).wrapping_add(seed as u32) as u64;
    let high = ((word >> 32) as u32).wrapping_add((seed >> 32) as u32) as u64;
    sum.wrapping_add(low.wrapping_mul(high))
}

/// Spreads an NH sum over all bits of the hash.
#[inline(always)]
#[must_use]
pub const fn finish(sum: u64) -> u64 {
    let mut hash = sum;
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;
    use std::format;

    fn seed(start: u64) -> Seed {
        let mut words = [0; NAME_WORDS + 1];
        for (i, word) in words.iter_mut().enumerate() {
            *word = finish(start + i as u64 + 1);
        }
        Seed(words)
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let seed = seed(1);
        let mut name = [b'a'; 255];
        name[254] = 0;
        let hashes: HashSet<u64> = (0..254)
            .map(|i| {
                let mut other = name;
                other[i] = b'b';
                seed.hash(&other, tail(1, 0))
            })
            .chain([
                seed.hash(&name, tail(1, 0)),
                seed.hash(&name, tail(28, 0)),
                seed.hash(&name, tail(1, 1)),
                seed.hash(&name[..247], tail(1, 0)),
            ])
            .collect();
        assert_eq!(hashes.len(), 258);
    }

    #[test]
    fn another_seed_gives_another_hash() {
        let of = |start| seed(start).hash(b"\x01a\0", tail(1, 0));
        assert_ne!(of(1), of(100));
    }

    /// Names that differ in the same few bits of every word, which NH alone would put together.
    #[test]
    fn similar_names_spread() {
        let seed = seed(7);
        let mut buckets = [0u32; 1024];
        for i in 0..10_240u32 {
            let name = format!("{:08}{:08}", i * 7, i);
            buckets[(seed.hash(name.as_bytes(), 256) & 1023) as usize] += 1;
        }
        // Ten a bucket on average; 36 would be eight standard deviations away.
        assert!(buckets.iter().all(|count| *count < 36), "{buckets:?}");
    }
}
