//! Messages as the parser reads them: byte by byte, at any offset.

use crate::header::u16_at;

/// A message that is read the same way by the agent and by the eBPF programs.
///
/// Reading is total. Whoever reads compares offsets with [`len`](Self::len) first; what lies behind the end
/// means nothing, and is not the same on both sides.
pub trait Message {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// The byte at `at`.
    fn byte(&self, at: usize) -> u8;

    /// The 16-bit number at `at`.
    fn number(&self, at: usize) -> u16;

    /// `number`. A program overrides this to make its verifier forget how the number came about, which it would
    /// otherwise follow through the rest of the program once for each way.
    fn settled(&self, number: usize) -> usize {
        number
    }

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Message for [u8] {
    fn len(&self) -> usize {
        self.len()
    }

    fn byte(&self, at: usize) -> u8 {
        self.get(at).copied().unwrap_or_default()
    }

    fn number(&self, at: usize) -> u16 {
        u16_at(self, at).unwrap_or_default()
    }
}
