//! The key under which an answer is kept: the name in lower case, type, DO and CD, and their hash.

use core::ptr;

use dns_cache_common::{
    cached::{self, WORD},
    hash::{self, NAME_WORDS, Seed},
    header, name,
    question::Question,
    types::rtype,
};

use crate::scratch::Scratch;

/// The agent's seed. Set by it before it loads the program.
#[unsafe(no_mangle)]
static SEED: Seed = Seed([0; NAME_WORDS + 1]);

/// A mask; the longest question has 259 bytes.
const MAX_QUESTION: usize = 0x1ff;

/// A key, whose name is in the scratch.
pub struct Key {
    pub hash: u64,
    pub rtype: u16,
    /// DO and CD.
    pub bits: u8,
    /// Words of the name.
    pub name_words: usize,
    /// Only an entry that answers for the names below is meant.
    pub above: bool,
}

impl Key {
    /// The question's key.
    #[inline(always)]
    pub fn whole(scratch: &mut Scratch, question: &Question) -> Self {
        Self::new(scratch, question, 0, question.rtype)
    }

    /// The key of a cut: the question's for type A, of the name that begins at an offset of its own.
    #[inline(always)]
    pub fn of_cut(scratch: &mut Scratch, question: &Question, at: usize) -> Self {
        Self::new(scratch, question, at, rtype::A)
    }

    #[inline(always)]
    fn new(scratch: &mut Scratch, question: &Question, at: usize, rtype: u16) -> Self {
        let len = name_len(question);
        let sum = sum(scratch, at, len);
        let bits = question.bits();
        // SAFETY: a constant of the loaded program.
        let seed = unsafe { ptr::read_volatile(&SEED.0[NAME_WORDS]) };
        Self {
            hash: hash::finish(hash::add(sum, hash::tail(rtype, bits), seed)),
            rtype,
            bits,
            // Where the loop ended says how long the name is: nothing that the rest need know.
            name_words: cached::words(scratch.forget(len) - at),
            above: at != 0,
        }
    }
}

/// Length of the question's name, as the verifier is to see it.
#[inline(always)]
pub fn name_len(question: &Question) -> usize {
    (question.len & MAX_QUESTION) - 4
}

/// Puts the bytes of the question's name from `from` to `end`, of which there are some, in lower case into the scratch, and
/// gives their NH sum.
#[inline(always)]
fn sum(scratch: &mut Scratch, from: usize, end: usize) -> u64 {
    let mut sum = 0;
    let mut i = 0;
    while i < NAME_WORDS {
        let at = from + i * WORD;
        let left = end - at;
        let mut word = name::lower_word(scratch.read::<u64>(header::LEN + at));
        if left < WORD {
            word &= (1 << (left * 8)) - 1;
        }
        scratch.name[i] = word;
        // SAFETY: a constant of the loaded program; `i` is less than its length.
        let seed = unsafe { ptr::read_volatile(&SEED.0[i]) };
        sum = hash::add(sum, word, seed);
        // Here and not above: the verifier sees that a word that is not whole is the last one.
        if left <= WORD {
            break;
        }
        i += 1;
    }
    sum
}
