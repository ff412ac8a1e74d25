//! Another configuration while the agent runs: read, checked, and taken over as far as that goes.

use std::net::IpAddr;
use std::time::Instant;

use tracing::{info, warn};

use super::Agent;
use crate::config::{Config, Errors};
use crate::control::ReloadStatus;
use crate::{cni, datapath, limits, resolver, serve};

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] Errors),
    #[error(transparent)]
    Resolver(#[from] resolver::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

/// How the reloads since the start went.
#[derive(Debug)]
pub(super) struct Reloads {
    /// When the configuration in force was read.
    loaded: Instant,
    succeeded: u64,
    failed: u64,
    /// What was wrong with the last one.
    error: Option<String>,
    /// Keys whose new values wait for a restart.
    waiting: Vec<&'static str>,
}

impl Reloads {
    pub(super) fn new() -> Self {
        Self {
            loaded: Instant::now(),
            succeeded: 0,
            failed: 0,
            error: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> ReloadStatus {
        ReloadStatus {
            loaded_seconds_ago: self.loaded.elapsed().as_secs(),
            succeeded: self.succeeded,
            failed: self.failed,
            error: self.error.clone(),
            needs_restart: self.waiting.iter().map(|key| (*key).to_owned()).collect(),
        }
    }
}

impl Agent {
    /// Reads the configuration anew. If anything is wrong with it, the old one stays in force.
    pub(super) async fn reload(&self, server: &serve::Server) {
        let result = self.load(server).await;
        let mut reloads = self.reloads();
        match result {
            Ok(waiting) => {
                reloads.loaded = Instant::now();
                reloads.succeeded += 1;
                reloads.error = None;
                if waiting.is_empty() {
                    info!("configuration reloaded");
                } else {
                    warn!(
                        ?waiting,
                        "configuration reloaded; these settings wait for a restart"
                    );
                }
                reloads.waiting = waiting;
            }
            Err(error) => {
                reloads.failed += 1;
                // Each mistake of a file stands in a line of its own.
                for line in error.to_string().lines() {
                    warn!("configuration refused, the old one stays: {line}");
                }
                reloads.error = Some(error.to_string());
            }
        }
    }

    /// Takes over what the cluster says now. If that fails, what it said before stays in force.
    pub(super) async fn take_over_discovered(&self, server: &serve::Server) {
        if let Err(error) = self.take_over(server, &self.discovery.current()).await {
            warn!(%error, "what the cluster says of its DNS is not taken over");
        }
    }

    async fn load(&self, server: &serve::Server) -> Result<Vec<&'static str>, Error> {
        let mut loaded = self.origin.load()?;
        limits::fit_into_memory(&mut loaded.cache);
        let new = self.discovery.complete(&loaded);
        let waiting = self.take_over(server, &new).await?;
        self.discovery.rebase(loaded);
        self.resolver.renew_authorities();
        Ok(waiting)
    }

    /// What can fail comes first; packets change their way only when everything is there for them.
    async fn take_over(
        &self,
        server: &serve::Server,
        new: &Config,
    ) -> Result<Vec<&'static str>, Error> {
        let old = self.config();
        let (mut new, waiting) = old.reloaded(new);
        cni::exclude(&mut new, &self.senders());
        if new == *old {
            return Ok(waiting);
        }
        let (come, gone) = (
            without(&new.listen, &old.listen),
            without(&old.listen, &new.listen),
        );
        if !come.is_empty() {
            server.listen(self.datapath.open(&come).await?)?;
        }
        if let Err(error) = self.change(&old, &new) {
            server.leave(&come);
            return Err(error);
        }
        server.leave(&gone);
        super::warn_of_lost(&self.discovery, &new);
        let (interfaces, own) = (new.interfaces.clone(), new.own_addresses());
        self.set_config(new);
        // It is in force by now.
        if let Err(error) = self.datapath.route(&own).await {
            warn!(%error, "the node's own processes have no route to some addresses");
        }
        if let Err(error) = self.datapath.follow(interfaces).await {
            warn!(%error, "some interfaces are not followed");
        }
        Ok(waiting)
    }

    /// The resolver's part, and the programs'; both of them, or none.
    fn change(&self, old: &Config, new: &Config) -> Result<(), Error> {
        self.resolver.reload(new)?;
        let Err(error) = self.steer(new) else {
            return Ok(());
        };
        let back = self.resolver.reload(old).map_err(Error::from);
        if let Err(error) = back.and_then(|()| self.steer(old)) {
            warn!(%error, "the old configuration is not wholly in force again");
        }
        Err(error)
    }

    fn steer(&self, config: &Config) -> Result<(), Error> {
        self.datapath.allow(&config.access)?;
        Ok(self.datapath.intercept(&config.destinations())?)
    }
}

/// Those of `all` that are not known.
fn without(all: &[IpAddr], known: &[IpAddr]) -> Vec<IpAddr> {
    let other = all.iter().filter(|address| !known.contains(address));
    other.copied().collect()
}
