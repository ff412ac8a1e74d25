//! What the agent does when it is asked by its control socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::task::{JoinError, spawn_blocking};
use tracing::{info, warn};

use super::Agent;
use crate::control::{
    Command, DatapathStatus, Handler, MOST_ENTRIES, Names, ResolverStatus, Response, Status,
};
use crate::datapath;
use crate::metrics;
use crate::presentation;
use crate::resolver::Selection;

impl Handler for Agent {
    fn handle(self: Arc<Self>, command: Command) -> BoxFuture<'static, Response> {
        self.answer(command)
            .map(|answer| answer.unwrap_or_else(|error| Response::Error(error.to_string())))
            .boxed()
    }

    fn hand_over(&self, successor: UnixStream, protocol: u32) {
        // One at a time, and none at the end: the connection is closed then.
        let _ = self.successors.try_send((successor, protocol));
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Text(#[from] presentation::Error),
    #[error("another agent is about to take over; ask again in a moment")]
    Leaving,
    #[error("a hand-over belongs on a connection of its own")]
    HandOver,
    #[error("the request could not be worked on: {0}")]
    Lost(#[from] JoinError),
}

impl Agent {
    async fn answer(self: Arc<Self>, command: Command) -> Result<Response, Error> {
        Ok(match command {
            Command::Status => {
                let status = spawn_blocking(move || self.status()).await?;
                Response::Status(Box::new(status))
            }
            Command::CacheList {
                names,
                rtype,
                limit,
            } => {
                let names = selection(&names)?;
                let rtype = rtype.as_deref().map(presentation::rtype).transpose()?;
                let list = move || self.resolver.cached(&names, rtype, limit.min(MOST_ENTRIES));
                Response::Cache(spawn_blocking(list).await?)
            }
            // It would not reach the kernel.
            Command::CacheFlush { .. } if self.is_leaving() => return Err(Error::Leaving),
            Command::CacheFlush { names } => {
                let selected = selection(&names)?;
                let flushed = spawn_blocking(move || self.resolver.flush(&selected)).await?;
                info!(
                    zone = names.zone,
                    name = names.name,
                    entries = flushed.entries,
                    kernel_entries = flushed.kernel_entries,
                    "flushed"
                );
                Response::Flushed(flushed)
            }
            Command::HandOver { .. } => return Err(Error::HandOver),
            Command::Lookup { name, rtype } => {
                let (name, rtype) = (presentation::name(&name)?, presentation::rtype(&rtype)?);
                Response::Lookup(Box::new(self.resolver.lookup(&name, rtype).await))
            }
        })
    }
}

fn selection(names: &Names) -> Result<Selection, presentation::Error> {
    Ok(match (&names.name, &names.zone) {
        (Some(name), _) => Selection::Name(presentation::name(name)?),
        (None, Some(zone)) => Selection::Zone(presentation::name(zone)?),
        (None, None) => Selection::All,
    })
}

impl Agent {
    fn status(&self) -> Status {
        let config = self.config();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config_path: self.origin.path.clone(),
            reload: self.reloads().status(),
            state_dir: config.state_dir.clone(),
            listen: config.listen.clone(),
            kubernetes: self.discovery.status(),
            datapath: self.datapath_status(),
            resolver: self.resolver_status(),
        }
    }

    fn datapath_status(&self) -> DatapathStatus {
        let mut status = DatapathStatus {
            kernel: datapath::release(),
            resolver_netns: Some(self.datapath.namespace_path().to_owned()),
            cache: self.resolver.kernel_usage(),
            map_bytes: metrics::map_bytes(),
            host: self.datapath.host(),
            ..DatapathStatus::default()
        };
        match self.datapath.status() {
            Ok(datapath) => {
                status.mechanism = Some(datapath.mechanism);
                status.lacks = datapath.lacks;
                status.interfaces = datapath.interfaces;
                status.counters = named(datapath.counters);
            }
            Err(error) => warn!(%error, "no status of the datapath"),
        }
        status
    }

    fn resolver_status(&self) -> ResolverStatus {
        let status = self.resolver.status();
        let limits = self.config().cache;
        ResolverStatus {
            cache_entries: status.cache.entries,
            cache_bytes: status.cache.bytes,
            cache_max_entries: limits.max_entries,
            cache_max_bytes: limits.max_bytes,
            counters: named(status.counters),
            upstreams: status.upstreams,
            loops: self.resolver.loops(),
            resolv_conf_error: self.resolver.resolv_conf_error(),
        }
    }
}

fn named(counters: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    counters
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
