//! Pods that are excluded by their addresses and of which the container runtime tells nothing: they are known when they ask.

use std::future::pending;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::time::sleep;
use tracing::{debug, info};

use super::Agent;
use crate::cni::{self, Senders};
use crate::config::{Config, Excluded};

/// Between two looks at who has asked: for so long, a pod of which there is no result is served although it is excluded.
const LOOK: Duration = Duration::from_secs(2);

impl Agent {
    /// Returns when an excluded address has asked through an interface that is not known for it, or one of those is gone;
    /// never, if that does not matter.
    pub(super) async fn excluded_sender(&self, config: &Config) {
        let mut excluded = config.exclude.iter();
        if !excluded.any(|excluded| matches!(excluded, Excluded::At(_))) {
            return pending().await;
        }
        loop {
            sleep(LOOK).await;
            let senders = self.datapath.senders().unwrap_or_else(|error| {
                debug!(%error, "not known who has asked");
                Senders::new()
            });
            let new = senders
                .into_iter()
                .filter(|(_, address)| cni::is_excluded(config, *address));
            let mut known = self.senders();
            let before = known.clone();
            // Nothing is seen of an interface any more that is left alone: it stays so for as long as it is there.
            known.retain(|interface, _| if_nametoindex(&**interface).is_ok());
            for (interface, address) in new {
                info!(interface, %address, "left alone: its address is excluded");
                known.insert(interface, address);
            }
            if *known != before {
                return;
            }
        }
    }

    pub(super) fn senders(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
