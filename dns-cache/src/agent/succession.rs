//! From one agent to the next; the conversation is [`crate::succession`]'s.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Agent;
use super::end::End;
use crate::config::Config;
use crate::control;
use crate::serve::{Connection, Server};
use crate::succession::{Estate, PROTOCOL, Predecessor, Successor, own_netns};

/// Connections of clients that wait for the main loop to take them in.
const WAITING: usize = 64;
/// How often an agent that stands by looks whether it is needed.
const LOOK: Duration = Duration::from_millis(500);
/// How long one that waits for this agent's end takes at most to notice it.
const COMING: Duration = Duration::from_secs(5);

/// An agent that asked for everything, by this version of the protocol.
pub(super) type Asked = (UnixStream, u32);

/// Who comes after an agent that was asked for everything.
#[derive(Debug)]
pub(super) enum Heir {
    /// It has everything.
    Successor(Successor),
    /// It speaks another protocol: it starts as after a restart.
    Foreign,
    /// Nobody for whom this agent could wait: it was told to end.
    Nobody,
}

/// What the agent holds for its successor alone.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) lock: OwnedFd,
    pub(super) control: OwnedFd,
    pub(super) metrics: Option<std::net::TcpListener>,
}

/// Tells the agent before to leave; gives its clients' connections until it has ended.
///
/// # Errors
/// It has given up waiting, and serves.
pub(super) async fn succeed(
    predecessor: Option<Predecessor>,
) -> io::Result<mpsc::Receiver<Connection>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    if let Some(predecessor) = predecessor {
        let connections = spawn_blocking(|| predecessor.leave()).await;
        let mut connections = connections.map_err(io::Error::other)??;
        spawn_blocking(move || connections.try_for_each(|passed| sender.blocking_send(passed)));
    }
    Ok(receiver)
}

impl Agent {
    /// Leaves everything to the agent that asks. `None`: it has failed, and this one goes on.
    pub(super) async fn hand_over(
        &self,
        asked: Asked,
        server: &Server,
        end: &mut End,
    ) -> Option<Heir> {
        let (client, protocol) = asked;
        if protocol != PROTOCOL {
            let refused = spawn_blocking(move || refuse(client, protocol)).await;
            warn!(
                ?refused,
                protocol,
                "another agent wants to take over and cannot be handed anything; it starts when this one has ended"
            );
            return Some(Heir::Foreign);
        }
        info!("another agent takes over");
        self.is_leaving.store(true, Relaxed);
        self.resolver.freeze_kernel();
        self.datapath.pause();
        let mut told = false;
        let error = match self.leave_to(client, server, end, &mut told).await {
            Ok(successor) => return Some(Heir::Successor(successor)),
            Err(error) => error,
        };
        warn!(%error, "the other agent has not taken over; going on");
        if let Err(error) = self.datapath.take_back(&self.config().destinations()).await {
            warn!(%error, "what it left cannot be taken back in full");
        }
        self.resolver.thaw_kernel();
        self.is_leaving.store(false, Relaxed);
        told.then_some(Heir::Nobody)
    }

    /// `told`: this agent was told to end, and did not wait any longer.
    async fn leave_to(
        &self,
        client: UnixStream,
        server: &Server,
        end: &mut End,
        told: &mut bool,
    ) -> io::Result<Successor> {
        let mut successor = Successor::new(client.into_std()?)?;
        let hang_up = successor.hang_up()?;
        let estate = self.estate(server)?;
        let left = move || successor.leave_to(&estate).map(|()| successor);
        let mut left = spawn_blocking(left);
        tokio::select! {
            left = &mut left => return left.map_err(io::Error::other)?,
            () = end.told() => *told = true,
        }
        // If it has ended itself, that is what is wanted; and it may have served just now.
        let _ = hang_up.now();
        left.await.map_err(io::Error::other)?
    }

    fn estate(&self, server: &Server) -> io::Result<Estate> {
        let (node, namespace, link) = self.datapath.duplicate()?;
        let metrics = self.legacy.metrics.as_ref();
        Ok(Estate {
            lock: self.legacy.lock.try_clone()?,
            control: self.legacy.control.try_clone()?,
            node,
            node_netns: own_netns()?,
            namespace,
            link,
            sockets: server.sockets()?,
            metrics: metrics.map(std::net::TcpListener::try_clone).transpose()?,
        })
    }
}

fn refuse(client: UnixStream, protocol: u32) -> io::Result<()> {
    let reason = format!("it asks by version {protocol}; this agent knows {PROTOCOL}, and ends");
    Successor::new(client.into_std()?)?.refuse(&reason)
}

/// Answers what was asked of this agent, and hands on its clients' connections.
pub(super) async fn leave(server: Server, successor: Successor) {
    let (sender, connections) = blocking::channel();
    let passed = spawn_blocking(move || {
        for connection in connections {
            if let Err(error) = successor.pass(connection) {
                return warn!(%error, "the successor does not take a client's connection");
            }
        }
    });
    server
        .hand_over(move |connection| drop(sender.send(connection)))
        .await;
    // It ends with the sender.
    let _ = passed.await;
}

/// Waits until no agent has the state directory. One that is about to take it does so within [`COMING`].
pub(super) async fn wait_until_needed(config: &Config) {
    let coming = Instant::now() + COMING;
    while Instant::now() < coming && !control::is_taken(&config.state_dir).unwrap_or_default() {
        sleep(LOOK).await;
    }
    while control::is_taken(&config.state_dir).unwrap_or_default() {
        sleep(LOOK).await;
    }
}
