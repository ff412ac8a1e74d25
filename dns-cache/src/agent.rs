//! The agent: starts every part, waits for the signal to end, and ends every part.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::config::Config;
use crate::control::{DatapathStatus, ResolverStatus, Server, ServerError, Status, StatusSource};

/// Why the agent ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ServerError),
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
    let (shutdown, told) = watch::channel(false);
    let agent = Arc::new(Agent {
        config,
        config_path,
        started: Instant::now(),
    });

    // INTEGRATOR: the datapath, the resolver and its listeners start here, with `told`.

    info!(listen = ?agent.config.listen, state_dir = ?agent.config.state_dir, "started");
    let mut control = tokio::spawn(control.run(agent, told));
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut control => Some(ended),
    };
    info!("stopping");
    // Nobody listens if the one task is what ended.
    let _ = shutdown.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => control.await,
    };
    ended.map_err(io::Error::other)??;
    Ok(())
}

/// What the parts know of the whole.
struct Agent {
    config: Config,
    config_path: Option<PathBuf>,
    started: Instant,
}

impl StatusSource for Agent {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config_path: self.config_path.clone(),
            state_dir: self.config.state_dir.clone(),
            listen: self.config.listen.clone(),
            // INTEGRATOR: from the parts.
            datapath: DatapathStatus {
                kernel: kernel_release(),
                ..DatapathStatus::default()
            },
            resolver: ResolverStatus::default(),
        }
    }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|uname| uname.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
