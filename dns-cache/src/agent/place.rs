//! The place of the node's agent: taken, or another agent's, who hands it over.

use std::io;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Error;
use crate::config::Config;
use crate::control::{self, ServerError};
use crate::datapath::{Consent, Inherited, NodeLock};
use crate::metrics;
use crate::succession::{self, Estate, Predecessor};

/// Before another agent is asked again, or looked for.
const PAUSE: Duration = Duration::from_millis(200);

/// What there is one of on a node.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) control: control::Server,
    pub(super) lock: NodeLock,
    pub(super) metrics: Option<metrics::Server>,
    pub(super) inherited: Option<Inherited>,
    /// Whose it was, and is until it is told to go.
    pub(super) predecessor: Option<Predecessor>,
}

impl Place {
    /// Takes the place, when another agent with this state directory hands it over or ends.
    pub(super) async fn take(config: &Config) -> Result<Self, Error> {
        let mut told = String::new();
        loop {
            let taken = match control::Server::bind(&config.state_dir) {
                Ok(control) => return Self::first(config, control),
                Err(error @ ServerError::Taken { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            let state_dir = config.state_dir.clone();
            let asked = spawn_blocking(move || Predecessor::ask(&state_dir)).await;
            match asked.map_err(io::Error::other)? {
                Ok((predecessor, estate)) => {
                    return Self::inherit(config, predecessor, estate);
                }
                Err(succession::Error::OtherNode) => return Err(taken.into()),
                Err(error) => {
                    let reason = error.to_string();
                    if reason != told {
                        warn!(
                            reason,
                            "another agent has the state directory and does not hand over; waiting for that, or for its end"
                        );
                        told = reason;
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn first(config: &Config, control: control::Server) -> Result<Self, Error> {
        // There is one agent a node: who comes second hears that, and not that a port is taken.
        let lock = NodeLock::take()?;
        Ok(Self {
            control,
            lock,
            metrics: bind_metrics(config)?,
            inherited: None,
            predecessor: None,
        })
    }

    fn inherit(config: &Config, predecessor: Predecessor, estate: Estate) -> Result<Self, Error> {
        info!("taking over from another agent");
        let Estate {
            lock,
            control,
            node,
            node_netns: _,
            namespace,
            link,
            sockets,
            metrics,
        } = estate;
        let metrics = match (metrics, config.metrics.listen) {
            (Some(listener), Some(address)) => Some(metrics::Server::inherit(listener, address)?),
            _ => bind_metrics(config)?,
        };
        let mut waiting = predecessor.waiting()?;
        Ok(Self {
            control: control::Server::inherit(&config.state_dir, lock, control),
            lock: NodeLock::inherit(node),
            metrics,
            inherited: Some(Inherited {
                namespace,
                link,
                sockets,
                consent: Consent::of(move || waiting.ask()),
            }),
            predecessor: Some(predecessor),
        })
    }
}

fn bind_metrics(config: &Config) -> Result<Option<metrics::Server>, Error> {
    let bound = config.metrics.listen.map(metrics::Server::bind);
    Ok(bound.transpose()?)
}
