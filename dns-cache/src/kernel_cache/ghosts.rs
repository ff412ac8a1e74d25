//! Hashes of entries that had to go before anybody hit them.

/// Remembers about as many as the cache has entries; younger ones push out older ones.
#[derive(Debug)]
pub(super) struct Ghosts {
    slots: Box<[u32]>,
}

impl Ghosts {
    pub(super) fn new(entries: u32) -> Self {
        Self {
            slots: vec![0; (entries as usize).max(1)].into(),
        }
    }

    pub(super) fn add(&mut self, hash: u64) {
        let (slot, mark) = self.place(hash);
        self.slots[slot] = mark;
    }

    /// Whether the hash was there; it is not any more.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let (slot, mark) = self.place(hash);
        let found = self.slots[slot] == mark;
        if found {
            self.slots[slot] = 0;
        }
        found
    }

    fn place(&self, hash: u64) -> (usize, u32) {
        let slot = hash % self.slots.len() as u64;
        // Zero is an empty slot.
        (slot as usize, (hash >> 32) as u32 | 1)
    }
}
