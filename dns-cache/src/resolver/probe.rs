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
                let _ = self.heard.set(());
                return true;
            }
        }
        false
    }

    /// Whether queries can be answered, as far as it can be known before they come: stale answers are allowed, whether
    /// there are some yet or not, or a server of some zone has answered since the start. Once that is so, it stays so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stale.is_on() || self.has_been_answered()
    }

    fn has_been_answered(&self) -> bool {
        let is_heard = || {
            let zones = self.zones();
            let mut servers = zones.iter().flat_map(|zone| zone.group.status());
            servers.any(|server| server.rtt_p50.is_some())
        };
        // The servers may be others by the next time.
        if self.heard.get().is_none() && is_heard() {
            let _ = self.heard.set(());
        }
        self.heard.get().is_some()
    }
}
