//! Whether the agent ends for good: its DaemonSet is gone, and nobody will come after it on this node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::client::{Client, Error};
use super::slice::Metadata;
use crate::config::DaemonSet;

/// How long the end waits for the API server.
const LAST: Duration = Duration::from_secs(3);
/// Between two attempts to ask at the start.
const PAUSE: Duration = Duration::from_secs(10);

/// The DaemonSet that the agent belongs to.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// The API server has told of it. If it refuses to later on, what allowed us to ask is being removed, too.
    was_seen: AtomicBool,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: Metadata,
}

impl Owner {
    /// Asks for it until the API server answers.
    pub(super) async fn find(&self, client: &Client, name: &DaemonSet) {
        loop {
            match client.get::<Object>(&path(name)).await {
                Ok(_) => {
                    debug!(%name, "the agent's DaemonSet is there");
                    return self.was_seen.store(true, Ordering::Relaxed);
                }
                Err(error @ Error::Refused { .. }) => {
                    warn!(%error, %name, "not known whether the agent is uninstalled when it ends: pins will stay");
                    return;
                }
                Err(error) => debug!(%error, "the DaemonSet is not known yet"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether it is gone, or going. What cannot be told is no.
    pub(super) async fn is_gone(&self, client: &Client, name: &DaemonSet) -> bool {
        let answer = timeout(LAST, client.get::<Object>(&path(name))).await;
        let is_gone = match &answer {
            Ok(Ok(object)) => object.metadata.deletion_timestamp.is_some(),
            Ok(Err(Error::Refused { code: 404, .. })) => true,
            Ok(Err(Error::Refused {
                code: 401 | 403, ..
            })) => self.was_seen.load(Ordering::Relaxed),
            Ok(Err(_)) | Err(_) => false,
        };
        info!(is_gone, %name, "the agent's DaemonSet");
        debug!(?answer);
        is_gone
    }
}

fn path(DaemonSet { namespace, name }: &DaemonSet) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")
}
