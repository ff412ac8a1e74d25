//! Whether the agent ends for good: what it was allowed in the cluster is taken back, and nobody comes after it.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::client::{Client, Error};

/// From when on an answer counts. Helm removes rights after the DaemonSet, and an API server that just starts refuses
/// everything.
const SETTLES: Duration = Duration::from_secs(3);
/// How long an API server that is away is waited for: less than the 30 seconds that a pod has to end.
const AWAY: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether the API server refuses what it has allowed before. What cannot be told is no.
pub(super) async fn is_refused(client: &Client, path: &str) -> bool {
    let asking = async {
        loop {
            sleep(PAUSE).await;
            match client.open(path).await {
                Ok(_) => return false,
                Err(Error::Refused {
                    code: 401 | 403, ..
                }) => return true,
                Err(error) => debug!(%error, "not known yet whether the agent is uninstalled"),
            }
        }
    };
    sleep(SETTLES).await;
    let is_refused = timeout(AWAY, asking).await.unwrap_or(false);
    info!(is_refused, "what the API server has allowed");
    is_refused
}
