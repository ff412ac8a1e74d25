//! The authorities by which DoT servers' certificates are checked: those that stand in the file, for as long as they do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Resolver;

/// How often the files are looked at. By their contents, as resolv.conf is.
const LOOK: Duration = Duration::from_secs(10);

impl Resolver {
    /// Takes up files that have changed.
    pub fn renew_authorities(&self) {
        for (zone, error) in self.zones().renew_authorities() {
            tracing::warn!(zone, "{error}; the authorities of before stay");
        }
    }

    /// Follows the changes of the files, without end.
    pub async fn follow_authorities(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = HashMap::new();
        loop {
            look.tick().await;
            let wrong = self.zones().renew_authorities();
            for (zone, error) in &wrong {
                if said.get(zone) != Some(error) {
                    tracing::warn!(zone, "{error}; the authorities of before stay");
                }
            }
            said = wrong;
        }
    }
}
