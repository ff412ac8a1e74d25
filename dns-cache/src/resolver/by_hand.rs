//! Answers that a test brings, in the place of upstreams: the packet tests compare what the resolver gives of them with
//! what the kernel gives.

use std::sync::Arc;

use dns_cache_common::question::KeyParts;

use super::Resolver;
use super::clock::Time;
use super::entry::{BadResponse, Entry, Terms};
use crate::config::TtlCaps;

impl Resolver {
    /// Takes in a response to what `key` asks, as if an upstream had sent it at `now`, and gives it to the kernel.
    /// These caps stand for its zone's.
    ///
    /// # Errors
    ///
    /// As of an upstream it is not taken.
    #[doc(hidden)]
    pub fn take_in(
        &self,
        key: &[u8],
        response: &[u8],
        caps: TtlCaps,
        now: Time,
    ) -> Result<(), BadResponse> {
        let parts = KeyParts::read(key).ok_or(BadResponse::Malformed)?;
        let terms = Terms {
            caps,
            cut: self.zones().cuts.may_stand(&parts, now),
            now,
        };
        let entry = Arc::new(Entry::new(response, &parts, terms)?);
        self.keep(key, &entry);
        if let Some(mirrored) = self.to_mirror(key, &entry) {
            self.mirror(&mirrored);
        }
        Ok(())
    }

    /// Puts an entry into the cache, whatever it is. The kernel hears nothing of it.
    #[doc(hidden)]
    pub fn put(&self, key: &[u8], entry: Entry) {
        self.cache.insert(key.into(), Arc::new(entry));
    }

    /// The entry of a key, fresh or not.
    #[doc(hidden)]
    #[must_use]
    pub fn entry(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.cache.get(key)
    }
}
