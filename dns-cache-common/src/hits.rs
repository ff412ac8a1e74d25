//! What the programs count of each answer that they give.
//!
//! Families, types and kinds of answer have a slot each, as the resolver's own answers are counted: whoever adds the two
//! up needs no third kind for what is not known.

use crate::types::rcode;

/// The types that CoreDNS names in its metrics; all others are one.
pub const TYPES: [u16; 19] = [
    1, 28, 5, 12, 33, 16, 15, 6, 2, 64, 65, 43, 48, 46, 47, 50, 255, 252, 251,
];
/// Those, and the one of all others.
pub const KINDS: usize = TYPES.len() + 1;

/// The index of a type in [`TYPES`], or that of all others.
#[inline(always)]
#[must_use]
pub const fn kind(rtype: u16) -> usize {
    let mut kind = 0;
    while kind < TYPES.len() {
        if TYPES[kind] == rtype {
            break;
        }
        kind += 1;
    }
    kind
}

/// The code of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// NOERROR.
    NoError,
    /// NXDOMAIN.
    NxDomain,
    /// Any other.
    Other,
}

impl Code {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::NoError, Self::NxDomain, Self::Other];

    /// That of a header.
    #[inline(always)]
    #[must_use]
    pub const fn of(rcode: u16) -> Self {
        match rcode {
            rcode::NOERROR => Self::NoError,
            rcode::NXDOMAIN => Self::NxDomain,
            _ => Self::Other,
        }
    }

    /// The name of the counter of all answers with this code.
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::NoError => "cache_hits_noerror",
            Self::NxDomain => "cache_hits_nxdomain",
            Self::Other => "cache_hits_other",
        }
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Its code.
    pub code: Code,
    /// It has no answer record: there is no such name, or no such data.
    pub is_denial: bool,
}

/// An answer that the kernel gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The query came over IPv6.
    pub is_ipv6: bool,
    /// It had the DO bit.
    pub dnssec_ok: bool,
    /// The [`kind`] of type it asked for.
    pub kind: usize,
    /// What it was told.
    pub outcome: Outcome,
}

const OUTCOMES: usize = 2 * Code::ALL.len();

impl Hit {
    /// Slots of the array.
    pub const SLOTS: u32 = (2 * 2 * KINDS * OUTCOMES) as u32;

    /// The slot of such answers.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        let outcome = self.outcome.code as usize * 2 + self.outcome.is_denial as usize;
        let query = self.dnssec_ok as usize * 2 + self.is_ipv6 as usize;
        ((self.kind * OUTCOMES + outcome) * 4 + query) as u32
    }

    /// All of them, in the order of their slots.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::SLOTS as usize).map(|slot| {
            let (rest, is_ipv6, dnssec_ok) = (slot / 4, slot % 2 == 1, slot / 2 % 2 == 1);
            let (kind, outcome) = (rest / OUTCOMES, rest % OUTCOMES);
            let outcome = Outcome {
                code: Code::ALL[outcome / 2],
                is_denial: outcome % 2 == 1,
            };
            Self {
                is_ipv6,
                dnssec_ok,
                kind,
                outcome,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_slot_of_its_own() {
        let slots = Hit::all().map(Hit::slot);
        assert!(slots.eq(0..Hit::SLOTS));
    }

    #[test]
    fn types_are_found() {
        for (index, rtype) in TYPES.into_iter().enumerate() {
            assert_eq!(kind(rtype), index);
        }
        assert_eq!(kind(4711), TYPES.len());
    }

    #[test]
    fn codes_have_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
        }
        assert_eq!([0, 3, 2].map(Code::of), Code::ALL);
    }
}
