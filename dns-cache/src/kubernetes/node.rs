//! In which zone our own Node is.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch as channel;
use tracing::{debug, info, warn};

use super::client::{Client, Error};
use super::endpoints::Place;
use super::slice::Metadata;
use super::watch::{Pauses, Timings};

/// Where a Node says it.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The longest pause: a Node may never say it, and our right to read it may never come.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Our own Node, asked for until its zone is known: an API server that starts refuses everything for a while, and a
/// cloud's controller labels a Node after its first pods have begun.
#[derive(Debug)]
pub(super) struct OwnNode<'a> {
    client: &'a Client,
    pauses: Pauses,
    /// People were told.
    was_refused: bool,
    place: channel::Sender<Place>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
}

impl<'a> OwnNode<'a> {
    /// `name` is the Node's; without one there is nothing to ask for. The place that is known is what the receiver tells.
    pub(super) fn new(
        client: &'a Client,
        name: Option<String>,
        timings: Timings,
    ) -> (Self, channel::Receiver<Place>) {
        let place = Place {
            node: name,
            zone: None,
        };
        let (place, known) = channel::channel(place);
        let pauses = Pauses::new(Timings {
            longest_pause: LONGEST_PAUSE,
            ..timings
        });
        let node = Self {
            client,
            pauses,
            was_refused: false,
            place,
        };
        (node, known)
    }

    /// Asks again, with pauses that grow, until the zone is known.
    pub(super) async fn follow(&mut self) {
        while self.place.borrow().node.is_some() && self.place.borrow().zone.is_none() {
            self.pauses.next().await;
            self.ask().await;
        }
    }

    /// Asks once.
    pub(super) async fn ask(&mut self) {
        let Some(name) = self.place.borrow().node.clone() else {
            return;
        };
        match self.zone(&name).await {
            Ok(Some(zone)) => {
                info!(name, zone, "the zone of this Node");
                self.place.send_modify(|place| place.zone = Some(zone));
            }
            Ok(None) => debug!(name, "this Node says no zone"),
            Err(error @ Error::Refused { .. }) if !self.was_refused => {
                self.was_refused = true;
                warn!(%error, name, "the zone of this Node is not known");
            }
            // The watch tells people of a server that is away.
            Err(error) => debug!(%error, name, "the zone of this Node is not known"),
        }
    }

    async fn zone(&self, name: &str) -> Result<Option<String>, Error> {
        // From the server's memory: every agent asks.
        let path = format!("/api/v1/nodes/{name}?resourceVersion=0");
        let node = self.client.get::<Node>(&path).await?;
        let labels = node.metadata.labels.unwrap_or_default();
        Ok(labels.get(ZONE_LABEL).cloned())
    }
}
