//! The agent: starts every part, waits for the signal to end, and ends every part.

mod end;
mod exclusion;
mod handler;
mod place;
mod reload;
mod scrape;
mod succession;
mod watch;

use std::future::pending;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::sync::watch::channel;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::cni::{self, Senders};
use crate::config::{AfterHandOver, Config, Origin, no_fallback};
use crate::control::{self, Handler, ServerError, Shutdown};
use crate::datapath::{self, Capabilities, Datapath, KernelSide};
use crate::kernel_cache;
use crate::kubernetes::Discovery;
use crate::metrics;
use crate::privileges::Resident;
use crate::resolver::{self, Resolver};
use crate::serve::tally::Tally;
use crate::serve::{self, Connection};
use crate::succession::Successor;
use end::End;
use place::Place;
use reload::Reloads;
use succession::{Asked, Heir, Legacy};
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

/// Runs the agent until SIGTERM or SIGINT, or until another one has taken over. `config` came from `origin`, where it is
/// read anew when the file changes, or at SIGHUP. The resident makes the resolver's namespace and loses its privileges
/// on the way.
///
/// # Errors
/// If a part cannot be started, or fails.
pub async fn run(
    config: Config,
    origin: Origin,
    resident: Resident,
    capabilities: Capabilities,
) -> Result<(), Error> {
    // Signals first: one that comes during the start ends the agent in good order too.
    let mut end = End::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut file = Watch::new(origin.path.clone());
    let mut tasks = JoinSet::new();
    let (discovery, mut changes) = Discovery::new(config);
    tasks.spawn(Arc::clone(&discovery).follow_endpoints());
    changes.first(&discovery).await;
    let mut config = discovery.current();
    cni::exclude(&mut config, &Senders::new());
    let mut pods = cni::Watch::default();
    let resolver = Resolver::new(&config)?;
    // All that takes long is done: another agent waits from here on.
    let Place {
        control,
        lock,
        metrics,
        inherited,
        predecessor,
    } = tokio::select! {
        place = Place::take(&config) => place?,
        () = end.told() => return Ok(()),
    };
    discovery.presume(datapath::served_before(
        &config.bpffs,
        &resident,
        inherited.as_ref(),
    ));
    let mut latest = discovery.current();
    cni::exclude(&mut latest, &Senders::new());
    if latest != config {
        resolver.reload(&latest)?;
        config = latest;
    }
    let (datapath, listening, kernel) =
        Datapath::start(&config, lock, resident.clone(), capabilities, inherited).await?;
    if let Some(KernelSide { cache, refreshes }) = kernel {
        resolver.mirror_into(cache);
        tasks.spawn(refresh(refreshes, Arc::clone(&resolver)));
    }
    let server = serve::Server::start(
        listening.sockets,
        listening.heartbeats,
        Arc::clone(&resolver),
    )?;
    let mut connections = Some(succession::succeed(predecessor).await?);
    // The agent before reads them no more, nothing is handed to them, and no datagram may find them when they come back.
    server.leave(&listening.left);
    info!(listen = ?config.listen, state_dir = ?config.state_dir, "started");
    warn_of_lost(&discovery, &config);
    tasks.spawn(Arc::clone(&discovery).follow_service(Arc::clone(&resolver)));
    let (own_lock, own_control) = control.duplicate()?;
    let (successors, mut asked) = mpsc::channel(1);
    let agent = Arc::new(Agent {
        discovery,
        config: RwLock::new(Arc::new(config)),
        origin,
        reloads: Mutex::new(Reloads::new()),
        started: Instant::now(),
        datapath,
        senders: Mutex::default(),
        resolver,
        tally: Arc::clone(server.tally()),
        legacy: Legacy {
            lock: own_lock,
            control: own_control,
            metrics: metrics
                .as_ref()
                .map(metrics::Server::duplicate)
                .transpose()?,
        },
        successors,
        is_leaving: AtomicBool::new(false),
        is_ending: AtomicBool::new(false),
    });
    tasks.spawn(probe(Arc::clone(&agent.resolver)));
    tasks.spawn(Arc::clone(&agent.resolver).follow_resolv_conf());
    tasks.spawn(Arc::clone(&agent.resolver).follow_authorities());
    tasks.spawn(Arc::clone(&agent.resolver).watch_for_loops());
    if let Some(metrics) = metrics {
        tasks.spawn(metrics.run(Arc::clone(&agent) as Arc<dyn metrics::Source>));
    }
    let (shutdown, told) = channel(Shutdown::Running);
    let mut control = tokio::spawn(control.run(Arc::clone(&agent) as Arc<dyn Handler>, told));
    let ended = loop {
        let current = agent.config();
        tokio::select! {
            () = end.told() => break Ended::Told,
            ended = &mut control => break Ended::Broken(ended),
            Some(asked) = asked.recv() => {
                match agent.hand_over(asked, &server, &mut end).await {
                    Some(Heir::Successor(successor)) => break Ended::Succeeded(successor),
                    Some(Heir::Foreign) => break Ended::Displaced,
                    Some(Heir::Nobody) => break Ended::Told,
                    None => continue,
                }
            }
            connection = next_of(&mut connections) => {
                agent.inherit(connection, &server).await;
                continue;
            }
            _ = hangup.recv() => {}
            () = file.changed() => {}
            () = pods.changed(&current) => {
                agent.take_over_discovered(&server).await;
                continue;
            }
            () = agent.excluded_sender(&current) => {
                agent.take_over_discovered(&server).await;
                continue;
            }
            () = changes.changed() => {
                agent.take_over_discovered(&server).await;
                continue;
            }
        }
        agent.reload(&server).await;
    };
    let next = match ended {
        Ended::Succeeded(successor) => {
            info!("handed over; answering what is left");
            // The successor's endpoints are there already.
            let _ = shutdown.send(Shutdown::HandedOver);
            tasks.shutdown().await;
            succession::leave(server, successor).await;
            control.await.map_err(io::Error::other)??;
            Next::Successor
        }
        ended => {
            info!("stopping");
            agent.is_ending.store(true, Relaxed);
            // New queries take the ordinary path; those that are here already are answered.
            if let Err(error) = agent.datapath.close() {
                warn!(%error, "new queries keep coming in while the open ones are answered");
            }
            let ((), is_last) = tokio::join!(server.shutdown(), agent.discovery.is_uninstalled());
            tasks.shutdown().await;
            // Nobody listens if the one task is what ended.
            let _ = shutdown.send(Shutdown::Stop);
            let is_displaced = matches!(ended, Ended::Displaced);
            let ended = match ended {
                Ended::Broken(ended) => ended,
                _ => control.await,
            };
            ended.map_err(io::Error::other)??;
            match (is_displaced, is_last) {
                (true, _) => Next::Successor,
                (false, true) => Next::None,
                (false, false) => Next::Later,
            }
        }
    };
    agent.datapath.stop();
    let config = agent.config();
    // With it go its locks.
    drop(agent);
    match next {
        Next::Later => {}
        Next::None => clear(&config, &resident).await?,
        Next::Successor if config.after_hand_over == AfterHandOver::StandBy => {
            // Nothing of this process shall keep the resolver's namespace.
            drop(resident);
            info!("standing by");
            tokio::select! {
                () = succession::wait_until_needed(&config) => info!("the successor is gone"),
                () = end.told() => {}
            }
        }
        Next::Successor => {}
    }
    Ok(())
}

/// Leaves nothing on the node: no agent comes after this one.
async fn clear(config: &Config, resident: &Resident) -> Result<(), Error> {
    let state = control::Server::bind(&config.state_dir)?;
    let removed = datapath::detach(config, resident).await?;
    if let Err(error) = state.remove(&config.state_dir) {
        warn!(%error, "a part of the state directory stays");
    }
    info!(?removed, "uninstalled: nothing is left on this node");
    Ok(())
}

/// Says which addresses nobody answers at when the agent is not there.
fn warn_of_lost(discovery: &Discovery, config: &Config) {
    for address in discovery.without_fallback(config) {
        warn!("{}", no_fallback(address));
    }
}

/// Who comes after the agent.
enum Next {
    /// Another one on this node, when it is started.
    Later,
    /// One that serves already, or is about to.
    Successor,
    /// Nobody.
    None,
}

/// Why the agent ends.
enum Ended {
    /// By a signal.
    Told,
    /// The control socket's task has ended.
    Broken(Result<io::Result<()>, JoinError>),
    /// Another agent has taken over.
    Succeeded(Successor),
    /// Another agent wants to, and can only start when this one has ended.
    Displaced,
}

/// The next connection from the agent before; `None`, once, when it has ended.
async fn next_of(connections: &mut Option<mpsc::Receiver<Connection>>) -> Option<Connection> {
    let Some(receiver) = connections else {
        return pending().await;
    };
    let next = receiver.recv().await;
    if next.is_none() {
        *connections = None;
    }
    next
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
    /// The interfaces that are left alone for an address that has asked through them.
    senders: Mutex<Senders>,
    resolver: Arc<Resolver>,
    tally: Arc<Tally>,
    legacy: Legacy,
    /// To the main loop.
    successors: mpsc::Sender<Asked>,
    /// Whether the kernel cache is another agent's.
    is_leaving: AtomicBool,
    /// Whether it was told to end, and only answers what it has.
    is_ending: AtomicBool,
}

impl Agent {
    /// Goes on with a client's connection; `None`: the agent before has ended.
    async fn inherit(&self, connection: Option<Connection>, server: &serve::Server) {
        match connection {
            Some(connection) => {
                if let Err(error) = server.adopt(connection) {
                    debug!(%error, "a client's connection is not taken over");
                }
            }
            None => {
                if let Err(error) = self.datapath.forget_predecessors().await {
                    warn!(%error, "what earlier agents left stays");
                }
            }
        }
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Relaxed)
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Relaxed)
    }

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
