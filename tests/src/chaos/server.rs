//! A server of the zone, with every fault that a server can have.

use std::net::{TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::zone;
use crate::embedded::{listen, runtime};
use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::wire::frame;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    Right,
    /// Rightly, after a while.
    Slow,
    /// Not at all.
    Silent,
    /// REFUSED.
    Refusing,
    /// SERVFAIL.
    Failing,
    /// With another ID, and with the right one to another question.
    Wrong,
    /// It closes connections as soon as it is asked over them.
    Closing,
}

impl Mode {
    const ALL: [Self; 7] = [
        Self::Right,
        Self::Slow,
        Self::Silent,
        Self::Refusing,
        Self::Failing,
        Self::Wrong,
        Self::Closing,
    ];
    /// Those in which it gives no right answer.
    pub(super) const BAD: [Self; 5] = [
        Self::Silent,
        Self::Refusing,
        Self::Failing,
        Self::Wrong,
        Self::Closing,
    ];
}

const SLOW: Duration = Duration::from_millis(300);

/// It runs until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    netns: Arc<Netns>,
    state: State,
    runtime: Mutex<Option<Runtime>>,
}

#[derive(Debug, Clone)]
struct State {
    mode: Arc<AtomicU8>,
    begun: Instant,
}

impl Server {
    /// Starts it in the namespace, on port 53, UDP and TCP.
    pub(super) fn start(netns: &Arc<Netns>, begun: Instant) -> Self {
        let server = Self {
            netns: Arc::clone(netns),
            state: State {
                mode: Arc::new(AtomicU8::new(Mode::Right as u8)),
                begun,
            },
            runtime: Mutex::default(),
        };
        server.resume();
        server
    }

    /// Serves again after [`Self::stop`].
    pub(super) fn resume(&self) {
        let (udp, tcp) = listen(&self.netns);
        let runtime = runtime();
        runtime.spawn(serve_udp(udp, self.state.clone()));
        runtime.spawn(serve_tcp(tcp, self.state.clone()));
        *self.runtime() = Some(runtime);
    }

    /// Closes its port and its connections.
    pub(super) fn stop(&self) {
        // Dropped, it has ended all tasks, and with them the sockets.
        drop(self.runtime().take());
    }

    pub(super) fn set(&self, mode: Mode) {
        self.state.mode.store(mode as u8, Ordering::Relaxed);
    }

    fn runtime(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn mode(&self) -> Mode {
        Mode::ALL[usize::from(self.mode.load(Ordering::Relaxed))]
    }

    /// What is sent for this query.
    async fn answers(&self, query: &[u8]) -> Vec<Vec<u8>> {
        let mode = self.mode();
        if mode == Mode::Slow {
            tokio::time::sleep(SLOW).await;
        }
        let right = |query: &[u8]| zone::response(query, self.begun.elapsed());
        match mode {
            Mode::Right | Mode::Slow => right(query).into_iter().collect(),
            Mode::Silent | Mode::Closing => Vec::new(),
            Mode::Refusing => zone::failure(query, 5).into_iter().collect(),
            Mode::Failing => zone::failure(query, 2).into_iter().collect(),
            Mode::Wrong => {
                let mut other_id = query.to_vec();
                other_id[0] ^= 0x55;
                let mut other_name = query.to_vec();
                // The last character of the first label.
                let last = 12 + usize::from(other_name[12]).min(query.len() - 13);
                other_name[last] ^= 1;
                [other_id, other_name]
                    .iter()
                    .filter_map(|q| right(q))
                    .collect()
            }
        }
    }
}

async fn serve_udp(socket: StdSocket, state: State) {
    let socket = Arc::new(UdpSocket::from_std(socket).or_panic("taking over a UDP socket"));
    let mut buffer = vec![0; 4096];
    loop {
        // An ICMP error about an earlier answer is no reason to end.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let query = buffer[..length].to_vec();
        let (socket, state) = (Arc::clone(&socket), state.clone());
        tokio::spawn(async move {
            for answer in state.answers(&query).await {
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_tcp(listener: StdListener, state: State) {
    let listener = TcpListener::from_std(listener).or_panic("taking over a TCP socket");
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, state.clone()));
        }
    }
}

/// Queries are answered as they are ready, not in turns.
async fn connection(stream: TcpStream, state: State) {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut answers) = mpsc::channel::<Vec<u8>>(64);
    tokio::spawn(async move {
        while let Some(answer) = answers.recv().await {
            if writer.write_all(&frame(&answer)).await.is_err() {
                return;
            }
        }
    });
    while let Ok(length) = reader.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if reader.read_exact(&mut query).await.is_err() || state.mode() == Mode::Closing {
            return;
        }
        let (state, sender) = (state.clone(), sender.clone());
        tokio::spawn(async move {
            for answer in state.answers(&query).await {
                let _ = sender.send(answer).await;
            }
        });
    }
}
