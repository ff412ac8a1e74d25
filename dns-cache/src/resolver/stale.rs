//! Answers after their time, where there are no others (RFC 8767).

use std::sync::Arc;
use std::time::Duration;

use dns_cache_common::edns::ExtendedError;
use dns_cache_common::reply::Source;
use dns_cache_common::types::{ede, rcode};

use super::clock::Time;
use super::entry::Entry;
use super::given::Given;
use crate::config::ServeStale as Policy;

/// What a zone's servers get if they are known to be dead: one that is well again answers by then.
const LITTLE: Duration = Duration::from_millis(100);

/// Decides which expired entries may still be given, and when.
#[derive(Debug)]
pub(super) struct Stale {
    policy: Policy,
}

impl Stale {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// How long entries are kept after their TTL.
    pub(super) fn keep(policy: Policy) -> Duration {
        match policy.enabled {
            true => Duration::from_secs(policy.max_seconds.into()),
            false => Duration::ZERO,
        }
    }

    /// How long a client waits for the upstreams before it gets a stale answer. Others may have waited as long already:
    /// `silence` is for how long none of them has answered anything.
    pub(super) fn patience(&self, silence: Duration) -> Duration {
        let patience = Duration::from_millis(self.policy.after_millis.into());
        match silence >= patience {
            true => patience.min(LITTLE),
            false => patience,
        }
    }

    /// Whether there is such a thing at all.
    pub(super) fn is_on(&self) -> bool {
        self.policy.enabled
    }

    /// Whether an entry whose TTL is over may be given.
    pub(super) fn allows(&self, entry: &Entry, now: Time) -> bool {
        let Some(ttl) = entry.ttl() else {
            return false;
        };
        let end = Duration::from_secs(ttl.into()) + Self::keep(self.policy);
        self.policy.enabled && now < entry.stored_at().after(end)
    }

    /// The answer that such an entry is.
    pub(super) fn give(&self, entry: Arc<Entry>) -> Given {
        let code = match entry.stored().flags.rcode() {
            rcode::NXDOMAIN => ede::STALE_NXDOMAIN,
            _ => ede::STALE_ANSWER,
        };
        let source = Source::Stale {
            ttl: self.policy.ttl,
        };
        Given::Entry(entry, source, Some(ExtendedError { code, text: "" }))
    }
}
