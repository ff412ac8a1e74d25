//! The kernel cache: what the resolver keeps, the kernel gets, and what the kernel sees, the resolver hears.

use std::sync::Arc;

use dns_cache_common::cached::Refresh;
use dns_cache_common::question::KeyParts;

use super::Resolver;
use super::clock::Time;
use super::entry::Entry;
use crate::kernel_cache::{self, Answer, KernelCache, Seen, Ticket};

/// Later than any hit.
const NEVER: Time = Time::from_nanos(u64::MAX);

/// An answer that the kernel is to have as well.
#[derive(Debug)]
pub(super) struct ToMirror {
    key: Box<[u8]>,
    entry: Arc<Entry>,
    ticket: Ticket,
}

impl Resolver {
    /// From here on the kernel is given what the resolver keeps.
    pub fn mirror_into(&self, kernel: Arc<KernelCache>) {
        kernel.set_cut_zone(self.zones().cuts.zone());
        // A second one is not expected, and would miss what the first one has.
        let _ = self.kernel.set(kernel);
    }

    /// Leaves the kernel cache to another agent: nothing is put in or taken out any more.
    pub fn freeze_kernel(&self) {
        if let Some(kernel) = self.kernel.get() {
            kernel.freeze();
        }
    }

    /// Ends [`Self::freeze_kernel`] when the other agent is gone.
    pub fn thaw_kernel(&self) {
        if let Some(kernel) = self.kernel.get() {
            kernel.thaw();
            kernel.set_cut_zone(self.zones().cuts.zone());
        }
    }

    /// What is in the kernel cache, if there is one.
    #[must_use]
    pub fn kernel_usage(&self) -> Option<kernel_cache::Usage> {
        Some(self.kernel.get()?.usage())
    }

    /// Whether there is a kernel cache.
    pub(super) fn has_kernel(&self) -> bool {
        self.kernel.get().is_some()
    }

    /// Tells the kernel of another zone with cuts. Those of the old one must be flushed.
    pub(super) fn mirror_cut_zone(&self, zone: Option<&[u8]>) {
        if let Some(kernel) = self.kernel.get() {
            kernel.set_cut_zone(zone);
        }
    }

    /// The kernel's entry for a key.
    pub(super) fn mirrored(&self, key: &[u8]) -> Option<Seen> {
        self.kernel.get()?.get(key)
    }

    /// The kernel's entry that it goes by, as long as that is fresh, for the name of a key without a fresh one of its own: the
    /// first cut above it.
    pub(super) fn mirrored_cut(&self, key: &[u8]) -> Option<Seen> {
        let zones = self.zones();
        let mut above = zones.cuts.above(key);
        above.find_map(|above| {
            self.mirrored(above.as_bytes())
                .filter(|seen| seen.covers_below)
        })
    }

    /// Looks at every entry of the kernel's, and by a function at its answer.
    pub(super) fn for_each_mirrored(&self, look: impl FnMut(&Seen, &dyn Fn() -> Option<Answer>)) {
        if let Some(kernel) = self.kernel.get() {
            kernel.for_each(look);
        }
    }

    /// Refreshes the entry that a program saw in use shortly before its end. Must be called within a tokio runtime.
    pub fn kernel_asks(self: &Arc<Self>, refresh: Refresh) {
        if let Some(kernel) = self.kernel.get()
            && let Some(seen) = kernel.asked(refresh)
        {
            self.prefetch(&seen.key, seen.hits, seen.until);
        }
    }

    /// What [`Self::mirror`] is to do for an answer that is in the cache now.
    pub(super) fn to_mirror(&self, key: &[u8], entry: &Arc<Entry>) -> Option<ToMirror> {
        entry.ttl()?;
        Some(ToMirror {
            key: key.into(),
            entry: Arc::clone(entry),
            ticket: self.kernel.get()?.ticket(),
        })
    }

    /// Gives an answer to the kernel, in place of the one before; not if there was a flush meanwhile.
    pub(super) fn mirror(&self, what: &ToMirror) {
        if let Some(kernel) = self.kernel.get() {
            let refresh = self.prefetch.due_at(&what.entry).unwrap_or(NEVER);
            kernel.put_since(what.ticket, &what.key, &what.entry, refresh);
            if self.is_refuted(&what.key, &what.entry) {
                kernel.remove(&what.key);
            }
        }
    }

    /// Takes an answer out of the kernel.
    pub(super) fn mirror_removal(&self, key: &[u8]) {
        if let Some(kernel) = self.kernel.get() {
            kernel.remove(key);
        }
    }

    /// Takes an answer out of the kernel if it covers the names below it.
    pub(super) fn mirror_removal_of_cut(&self, key: &[u8]) {
        if let Some(kernel) = self.kernel.get() {
            kernel.remove_cut(key);
        }
    }

    /// Takes the answers for the names that are meant out of the kernel, and the cuts above them; says how many.
    pub(super) fn mirror_flush(
        &self,
        meant: impl Fn(&[u8]) -> bool,
        above: impl Fn(&[u8]) -> bool,
    ) -> u64 {
        let chosen =
            |key: &KeyParts<'_>, covers_below| meant(key.name) || covers_below && above(key.name);
        let kernel = self.kernel.get();
        kernel.map_or(0, |kernel| kernel.remove_if(chosen))
    }
}
