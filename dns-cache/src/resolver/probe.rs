//! Is anybody there? Asked before pods ask, and for the kubelet.

use std::convert::Infallible;
use std::sync::Arc;

use dns_cache_common::question::KeyParts;
use dns_cache_common::types::{class, rtype};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

use super::Resolver;
use crate::upstream;

impl Resolver {
    /// Asks the servers of all zones for their zone's SOA record, whatever they say to it; returns when one of
    /// them has answered, or none has in time. Its connections are open then.
    pub async fn probe(&self) -> bool {
        let zones = self.zones();
        let mut answers: FuturesUnordered<_> = zones
            .by_name()
            .map(|(name, group)| async move {
                let query = Arc::new(upstream::Query::new(&KeyParts {
                    name,
                    rtype: rtype::SOA,
                    class: class::IN,
                    dnssec_ok: false,
                    checking_disabled: false,
                }));
                let whatever = |_: &_, _| Ok::<_, Infallible>(());
                timeout(self.deadline, group.ask(&query, whatever)).await
            })
            .collect();
        while let Some(answer) = answers.next().await {
            if matches!(answer, Ok(Ok(_))) {
                return true;
            }
        }
        false
    }

    /// Whether any server of any zone has answered since the start.
    #[must_use]
    pub fn has_been_answered(&self) -> bool {
        let zones = self.zones();
        let mut servers = zones.iter().flat_map(|zone| zone.group.status());
        servers.any(|server| server.rtt_p50.is_some())
    }

    /// Whether there are answers to be given for as long as no upstream answers: stale ones are allowed, and there are
    /// some, or an earlier agent left fresh ones in the kernel. It may look at every entry.
    #[must_use]
    pub fn has_stale_answers(&self) -> bool {
        let now = self.clock.now();
        let allows = |entry: &_| self.stale.allows(entry, now);
        if self.cache.iter().any(|(_, entry)| allows(&entry)) {
            return true;
        }
        let mut any = false;
        self.for_each_mirrored(|seen, _| any |= now < seen.until);
        any && self.stale.is_on()
    }
}
