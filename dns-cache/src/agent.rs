//! The agent: starts every part, waits for the signal to end, and ends every part.

mod handler;
mod reload;
mod scrape;
mod watch;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::channel;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::{Config, Origin, no_fallback};
use crate::control::{Handler, Server, ServerError};
use crate::datapath::{self, Datapath, KernelSide, NodeLock};
use crate::kernel_cache;
use crate::kubernetes::Discovery;
use crate::metrics;
use crate::privileges::Resident;
use crate::resolver::{self, Resolver};
use crate::serve;
use crate::serve::tally::Tally;
use reload::Reloads;
use watch::Watch;

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

/// Runs the agent until SIGTERM or SIGINT. `config` came from `origin`, where it is read anew when the file
/// changes, or at SIGHUP. The resident makes the resolver's namespace and loses its privileges on the way.
///
/// # Errors
/// If a part cannot be started, or fails.
pub async fn run(config: Config, origin: Origin, resident: Resident) -> Result<(), Error> {
    // Signals first: one that comes during the start ends the agent in good order too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut file = Watch::new(origin.path.clone());
    // The lock of the state directory next: everything below may touch what is in it.
    let control = Server::bind(&config.state_dir)?;
    // There is one agent a node: who comes second hears that, and not that a port is taken.
    let lock = NodeLock::take()?;
    let metrics = match config.metrics.listen {
        Some(address) => Some(metrics::Server::bind(address).await?),
        None => None,
    };
    metrics::panics::watch();
    let (shutdown, told) = channel(false);
    let mut tasks = JoinSet::new();
    let (discovery, mut changes) = Discovery::new(config);
    tasks.spawn(Arc::clone(&discovery).follow_endpoints());
    changes.first(&discovery).await;
    let config = discovery.current();
    let resolver = Resolver::new(&config)?;
    let (datapath, listening, kernel) = Datapath::start(&config, lock, resident.clone()).await?;
    if let Some(KernelSide { cache, refreshes }) = kernel {
        resolver.mirror_into(cache);
        tasks.spawn(refresh(refreshes, Arc::clone(&resolver)));
    }
    let server = serve::Server::start(
        listening.sockets,
        listening.heartbeats,
        Arc::clone(&resolver),
    )?;
    info!(listen = ?config.listen, state_dir = ?config.state_dir, "started");
    warn_of_lost(&config);
    tasks.spawn(Arc::clone(&discovery).follow_service(Arc::clone(&resolver)));
    tasks.spawn(Arc::clone(&discovery).find_owner());
    let agent = Arc::new(Agent {
        discovery,
        config: RwLock::new(Arc::new(config)),
        origin,
        reloads: Mutex::new(Reloads::new()),
        started: Instant::now(),
        datapath,
        resolver,
        tally: Arc::clone(server.tally()),
    });
    tasks.spawn(probe(Arc::clone(&agent.resolver)));
    tasks.spawn(Arc::clone(&agent.resolver).follow_resolv_conf());
    tasks.spawn(Arc::clone(&agent.resolver).watch_for_loops());
    if let Some(metrics) = metrics {
        tasks.spawn(metrics.run(Arc::clone(&agent) as Arc<dyn metrics::Source>));
    }
    let mut control = tokio::spawn(control.run(Arc::clone(&agent) as Arc<dyn Handler>, told));
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            ended = &mut control => break Some(ended),
            _ = hangup.recv() => {}
            () = file.changed() => {}
            () = changes.changed() => {
                agent.take_over_discovered(&server).await;
                continue;
            }
        }
        agent.reload(&server).await;
    };
    info!("stopping");
    // New queries take the ordinary path; those that are here already are answered.
    if let Err(error) = agent.datapath.close() {
        warn!(%error, "new queries keep coming in while the open ones are answered");
    }
    let ((), is_last) = tokio::join!(server.shutdown(), agent.discovery.is_uninstalled());
    agent.datapath.stop();
    tasks.shutdown().await;
    // Nobody listens if the one task is what ended.
    let _ = shutdown.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => control.await,
    };
    ended.map_err(io::Error::other)??;
    if is_last {
        let config = agent.config();
        // With it goes the node's lock.
        drop(agent);
        clear(&config, &resident).await?;
    }
    Ok(())
}

/// Leaves nothing on the node: no agent comes after this one.
async fn clear(config: &Config, resident: &Resident) -> Result<(), Error> {
    let state = Server::bind(&config.state_dir)?;
    let removed = datapath::detach(config, resident).await?;
    if let Err(error) = state.remove(&config.state_dir) {
        warn!(%error, "a part of the state directory stays");
    }
    info!(?removed, "uninstalled: nothing is left on this node");
    Ok(())
}

/// Says which addresses nobody answers at when the agent is not there.
fn warn_of_lost(config: &Config) {
    for address in config.without_fallback() {
        warn!("{}", no_fallback(address));
    }
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
    discovery: Arc<Discovery>,
    /// The configuration in force: the file's, with all that was discovered.
    config: RwLock<Arc<Config>>,
    origin: Origin,
    reloads: Mutex<Reloads>,
    started: Instant,
    datapath: Datapath,
    resolver: Arc<Resolver>,
    tally: Arc<Tally>,
}

impl Agent {
    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn reloads(&self) -> MutexGuard<'_, Reloads> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
