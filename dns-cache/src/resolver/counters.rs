//! What the resolver counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One count, on a cache line of its own: all cores add to it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The resolver's counts since it started.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($(#[doc = $doc])+ pub(crate) $name: Counter,)+ }

        impl Counters {
            /// All of them by name.
            pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)+]
            }
        }
    };
}

counters! {
    /// Queries answered from the cache.
    hits,
    /// Those among them that said that there is no such name or data.
    denial_hits,
    /// Queries answered by the NXDOMAIN of a name above theirs (RFC 8020).
    cuts,
    /// Queries for names with addresses in the configuration.
    local,
    /// Queries for names in blocked zones.
    blocked,
    /// Queries that an upstream had to be asked for.
    misses,
    /// Misses that joined a query already on its way.
    coalesced,
    /// Entries in use that were refreshed before they expired, or tried to be.
    prefetches,
    /// Queries answered with an entry whose TTL is over (RFC 8767).
    stale,
    /// Queries answered by an error that is remembered (RFC 9520).
    remembered_failures,
    /// Queries answered by an error without looking further: FORMERR, NOTIMP, BADVERS, REFUSED.
    refused,
    /// Messages met with silence: too short, or responses.
    dropped,
    /// Queries turned away because too many were in flight.
    overload,
    /// Misses turned away because their client asked too often.
    rate_limited,
    /// Queries refused because their client may not ask.
    access_denied,
    /// Queries refused because they were this cache's own, come back.
    loops,
    /// Questions that got SERVFAIL because no upstream could be asked, or none answered in time or in form.
    failed,
    /// Responses that matched their query and were malformed.
    malformed_responses,
    /// Answers that may not be kept.
    not_cacheable,
    /// UDP replies that could not be sent.
    send_errors,
    /// TCP connections taken.
    tcp_connections,
    /// TCP connections turned away because there were too many.
    tcp_refused,
    /// TCP connections closed because their client left too many replies untaken.
    tcp_overflows,
}
