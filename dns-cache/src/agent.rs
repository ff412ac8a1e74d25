//! The agent: starts every part, waits for the signal to end, and ends every part.

mod handler;
mod scrape;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Config;
use crate::control::{Handler, Server, ServerError};
use crate::datapath::{self, Datapath, KernelSide};
use crate::kernel_cache;
use crate::metrics;
use crate::resolver::{self, Resolver};
use crate::serve;
use crate::serve::tally::Tally;

/// Between two attempts to hear of any upstream, after the start.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Why the agent ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ServerError),
    /// The metrics endpoint.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// The packet's way.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The resolver.
    #[error(transparent)]
    Resolver(#[from] resolver::Error),
    /// The listeners.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// Signals, or a task of the agent.
    #[error("the agent's runtime: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// If a part cannot be started, or fails.
pub async fn run(config: Config, config_path: Option<PathBuf>) -> Result<(), Error> {
    // Signals first: one that comes during the start ends the agent in good order too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The lock of the state directory next: everything below may touch what is in it.
    let control = Server::bind(&config.state_dir)?;
    let metrics = match config.metrics.listen {
        Some(address) => Some(metrics::Server::bind(address).await?),
        None => None,
    };
    metrics::panics::watch();
    let (shutdown, told) = watch::channel(false);
    let resolver = Resolver::new(&config)?;
    let (datapath, sockets, kernel) = Datapath::start(&config).await?;
    let mut tasks = JoinSet::new();
    if let Some(KernelSide { cache, refreshes }) = kernel {
        resolver.mirror_into(cache);
        tasks.spawn(refresh(refreshes, Arc::clone(&resolver)));
    }
    let server = serve::Server::start(sockets, Arc::clone(&resolver))?;
    let agent = Arc::new(Agent {
        config,
        config_path,
        started: Instant::now(),
        datapath,
        resolver,
        tally: Arc::clone(server.tally()),
    });
    tasks.spawn(probe(Arc::clone(&agent.resolver)));
    tasks.spawn(Arc::clone(&agent.resolver).follow_resolv_conf());
    if let Some(metrics) = metrics {
        tasks.spawn(metrics.run(Arc::clone(&agent) as Arc<dyn metrics::Source>));
    }

    info!(listen = ?agent.config.listen, state_dir = ?agent.config.state_dir, "started");
    let mut control = tokio::spawn(control.run(Arc::clone(&agent) as Arc<dyn Handler>, told));
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut control => Some(ended),
    };
    info!("stopping");
    // New queries take the ordinary path; those that are here already are answered.
    if let Err(error) = agent.datapath.close() {
        warn!(%error, "new queries keep coming in while the open ones are answered");
    }
    server.shutdown().await;
    agent.datapath.stop();
    tasks.shutdown().await;
    // Nobody listens if the one task is what ended.
    let _ = shutdown.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => control.await,
    };
    ended.map_err(io::Error::other)??;
    Ok(())
}

/// Asks upstreams until one answers: pods shall not be the first to find out that none does.
async fn probe(resolver: Arc<Resolver>) {
    while !resolver.probe().await {
        warn!("no upstream answers; trying again");
        sleep(PROBE_PAUSE).await;
    }
}

/// Refreshes what the programs ask for.
async fn refresh(refreshes: RingBuf<MapData>, resolver: Arc<Resolver>) {
    if let Err(error) = kernel_cache::follow(refreshes, |asked| resolver.kernel_asks(asked)).await {
        warn!(%error, "the programs' requests for refreshes cannot be read; names in use expire");
    }
}

/// What the parts know of the whole.
struct Agent {
    config: Config,
    config_path: Option<PathBuf>,
    started: Instant,
    datapath: Datapath,
    resolver: Arc<Resolver>,
    tally: Arc<Tally>,
}
