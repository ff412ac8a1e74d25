//! One connection to a server, with many queries in flight (RFC 7766 §6.2.1.1).
//!
//! A query on a quiet connection is written by whoever asks it; while answers are awaited, what is asked meanwhile
//! is gathered by a task and leaves in one write.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dns_cache_common::header::{self, u16_at};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use super::Timings;
use super::health::{Health, InFlight};
use super::home::Home;
use super::keepalive;
use super::query::{PREFIX, Query};
use super::transport::Tls;

/// Queries in flight on one connection; far from the 65,536 IDs, so that a free one is soon found.
const MAX_IN_FLIGHT: usize = 4096;
/// Queries given up on one connection, after which it takes no new ones: the server is busy with those first, as far as
/// they are not still waiting to be sent.
const MAX_ABANDONED: usize = 32;
/// Of TCP: a peer that vanished without a word is found even while nobody asks.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a connection is kept that nobody uses, if the server does not say.
const IDLE: Duration = Duration::from_secs(120);
const READ_CHUNK: usize = 16 * 1024;

/// Why a query got no answer on a connection.
#[derive(Debug)]
pub(super) enum Lost {
    /// There was never a connection.
    Unreachable,
    /// The connection ended before the answer.
    Closed,
    /// Too many queries wait already.
    Busy,
    /// A response came with its ID, to another question. The right one may still come.
    Mismatched(Waiting),
}

/// An answer on its way.
pub(super) type Waiting = oneshot::Receiver<Result<Bytes, Lost>>;

/// A connection, from the moment it is wanted: queries may be handed over before it is established. When it is
/// dropped, it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    home: Home,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    tls: Option<Tls>,
    health: Arc<Health>,
    timings: Timings,
    state: Mutex<State>,
    /// Wakes the writer.
    queued: Notify,
    random: RandomState,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Once it is open.
    stream: Option<Arc<OwnedWriteHalf>>,
    outgoing: Vec<u8>,
    pending: HashMap<u16, Pending>,
    /// Queries given up so far.
    abandoned: usize,
    /// When the last message came, or the connection was wanted.
    heard: Instant,
    /// When it last had nothing to wait for, or a message came.
    progress: Instant,
    suspect: bool,
    ids: u64,
    /// How long it may be idle.
    idle: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Takes no queries any more; closed after the last answer.
    Retiring,
    Closed,
}

#[derive(Debug)]
struct Pending {
    query: Arc<Query>,
    sent: Instant,
    answer: oneshot::Sender<Result<Bytes, Lost>>,
    _in_flight: InFlight,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        address: SocketAddr,
        tls: Option<Tls>,
        health: Arc<Health>,
        timings: Timings,
    ) -> Self {
        let now = Instant::now();
        let shared = Arc::new(Shared {
            address,
            tls,
            health,
            timings,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                stream: None,
                outgoing: Vec::new(),
                pending: HashMap::new(),
                abandoned: 0,
                heard: now,
                progress: now,
                suspect: false,
                ids: 0,
                idle: IDLE,
            }),
            queued: Notify::new(),
            random: RandomState::new(),
        });
        let driven = Closing(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let error = driven.0.drive().await.err();
            tracing::debug!(server = %driven.0.address, ?error, "upstream connection closed");
        });
        Self {
            shared,
            home: Home::current(),
            task: task.abort_handle(),
        }
    }

    /// Sends a query, or queues it. The answer may be waited for, or not: it is taken off the wire in any case.
    pub(super) fn send(&self, query: &Arc<Query>) -> Result<Waiting, Lost> {
        let (answer, waiting) = oneshot::channel();
        let mut state = self.shared.state();
        match state.phase {
            Phase::Retiring | Phase::Closed => return Err(Lost::Closed),
            _ if state.pending.len() >= MAX_IN_FLIGHT => return Err(Lost::Busy),
            _ => {}
        }
        let now = Instant::now();
        if state.pending.is_empty() {
            state.progress = now;
        }
        // RFC 7828 §3.2.1: the first query asks how long the connection may be idle.
        let keepalive = state.ids == 0;
        let id = self.shared.free_id(&mut state);
        query.write(id, keepalive, &mut state.outgoing);
        state.pending.insert(
            id,
            Pending {
                query: Arc::clone(query),
                sent: now,
                answer,
                _in_flight: self.shared.health.sent(),
            },
        );
        if state.pending.len() == 1 {
            // An error will be the reader's, too.
            let _ = state.flush();
        }
        let more = !state.outgoing.is_empty();
        drop(state);
        if more {
            self.shared.queued.notify_one();
        }
        Ok(waiting)
    }

    /// Where its answers are read.
    pub(super) fn home(&self) -> Home {
        self.home
    }

    /// Whether it takes queries, now or once it is established.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.shared.state().phase, Phase::Connecting | Phase::Open)
    }

    /// Whether its peer has not answered yet, not even to the first segment.
    pub(super) fn is_connecting(&self) -> bool {
        self.shared.state().phase == Phase::Connecting
    }

    pub(super) fn is_open(&self) -> bool {
        self.shared.state().phase == Phase::Open
    }

    pub(super) fn in_flight(&self) -> usize {
        self.shared.state().pending.len()
    }

    /// Whether new queries had better take another connection.
    pub(super) fn is_suspect(&self) -> bool {
        self.shared.state().suspect
    }

    /// Whether answers are awaited and none has come for longer than this. Many servers answer one query of a
    /// connection after the other: what comes behind a slow one waits with it.
    pub(super) fn is_stalled(&self, patience: Duration) -> bool {
        let state = self.shared.state();
        !state.pending.is_empty() && state.progress.elapsed() > patience
    }

    /// Puts the connection under suspicion if nothing has come over it since `sent`; says whether it did.
    pub(super) fn suspect_if_silent(&self, sent: Instant) -> bool {
        let mut state = self.shared.state();
        state.suspect = state.heard <= sent;
        state.suspect
    }
}

#[cfg(test)]
impl Connection {
    /// After how long without a word TCP asks the peer for a sign of life, and how often; `None` if it does not.
    pub(super) fn tcp_keepalive(&self) -> Option<(Duration, Duration)> {
        let state = self.shared.state();
        let stream: &TcpStream = state.stream.as_deref()?.as_ref();
        let socket = SockRef::from(stream);
        socket.keepalive().ok()?.then_some(())?;
        let time = socket.tcp_keepalive_time().ok()?;
        Some((time, socket.tcp_keepalive_interval().ok()?))
    }
}

/// Closes when the task that drives the connection ends, or its runtime does.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl State {
    /// Writes what the socket takes of what is queued; whether that is all, for now. Before the connection is
    /// established nothing can be written.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(stream) = &self.stream else {
            return Ok(true);
        };
        while !self.outgoing.is_empty() {
            match stream.try_write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn drive(&self) -> io::Result<()> {
        let stream = timeout(self.timings.connect, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let Some(tls) = &self.tls else {
            let (reading, writing) = stream.into_split();
            let writing = Arc::new(writing);
            self.opened(Some(Arc::clone(&writing)));
            return tokio::select! {
                result = self.read(reading) => result,
                result = self.write(writing) => result,
                result = self.watch() => result,
            };
        };
        let handshake = tls.connect(self.address.ip(), stream);
        let stream = timeout(self.timings.connect, handshake)
            .await?
            .inspect_err(|error| {
                tracing::warn!(server = %self.address, %error, "no TLS with an upstream");
            })?;
        let (reading, writing) = io::split(stream);
        self.opened(None);
        tokio::select! {
            result = self.read(reading) => result,
            result = self.write_tls(writing) => result,
            result = self.watch() => result,
        }
    }

    fn opened(&self, stream: Option<Arc<OwnedWriteHalf>>) {
        let mut state = self.state();
        state.phase = Phase::Open;
        state.stream = stream;
    }

    /// Whatever has been queued since the last write goes out in one.
    async fn write(&self, stream: Arc<OwnedWriteHalf>) -> io::Result<()> {
        loop {
            let flushed = self.state().flush()?;
            match flushed {
                true => self.queued.notified().await,
                false => stream.writable().await?,
            }
        }
    }

    /// As [`Self::write`], for a stream that only this task writes to.
    async fn write_tls(&self, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut frames = Vec::new();
        loop {
            mem::swap(&mut self.state().outgoing, &mut frames);
            if frames.is_empty() {
                self.queued.notified().await;
                continue;
            }
            stream.write_all(&frames).await?;
            stream.flush().await?;
            frames.clear();
        }
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(READ_CHUNK);
        loop {
            while let Some(length) = u16_at(&buffer, 0).map(usize::from) {
                if length < header::LEN {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a message shorter than a header",
                    ));
                }
                if buffer.len() < PREFIX + length {
                    buffer.reserve(PREFIX + length - buffer.len());
                    break;
                }
                buffer.advance(PREFIX);
                self.deliver(buffer.split_to(length).freeze());
            }
            buffer.reserve(1);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Hands a message to whoever waits for it; a message that answers no query of ours is dropped.
    fn deliver(&self, message: Bytes) {
        let now = Instant::now();
        let mut state = self.state();
        (state.heard, state.progress, state.suspect) = (now, now, false);
        let id = u16_at(&message, 0).unwrap_or_default();
        let answered = state
            .pending
            .get(&id)
            .is_some_and(|pending| pending.query.is_answered_by(&message));
        if answered && let Some(pending) = state.pending.remove(&id) {
            drop(state);
            let took = now.duration_since(pending.sent);
            self.health.answered(&message, took);
            self.health.by_tcp.store(true, Relaxed);
            if let Some(idle) = keepalive::timeout(&message) {
                self.keep(idle);
            }
            // Nobody waits any more if another server was faster.
            let _ = pending.answer.send(Ok(message));
            return;
        }
        if let Some(pending) = state.pending.get_mut(&id) {
            let (answer, waiting) = oneshot::channel();
            let told = mem::replace(&mut pending.answer, answer);
            let _ = told.send(Err(Lost::Mismatched(waiting)));
        }
        drop(state);
        self.health.unmatched.fetch_add(1, Relaxed);
        tracing::debug!(server = %self.address, id, "dropped a response that matches no query");
    }

    /// The server says how long the connection may be idle (RFC 7828 §3.4); not at all: it is to be closed.
    fn keep(&self, idle: Duration) {
        let mut state = self.state();
        // Closed by us, and so before the server's time is over.
        state.idle = idle.mul_f32(0.8).min(IDLE);
        if idle.is_zero() && state.phase == Phase::Open {
            state.phase = Phase::Retiring;
        }
    }

    /// Forgets queries that are never answered, ends a connection on which nothing comes back, and closes one that
    /// nobody uses.
    async fn watch(&self) -> io::Result<()> {
        let abandon = self.timings.abandon;
        let mut tick = interval(abandon / 4);
        loop {
            tick.tick().await;
            let mut state = self.state();
            let now = Instant::now();
            let Some(oldest) = state.pending.values().map(|pending| pending.sent).min() else {
                if state.phase == Phase::Retiring || now.duration_since(state.progress) > state.idle
                {
                    state.phase = Phase::Closed;
                    return Ok(());
                }
                continue;
            };
            if now.duration_since(oldest) < abandon {
                continue;
            }
            if state.heard <= oldest {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let before = state.pending.len();
            state
                .pending
                .retain(|_, pending| now.duration_since(pending.sent) < abandon);
            state.abandoned += before - state.pending.len();
            if state.abandoned > MAX_ABANDONED {
                state.phase = Phase::Retiring;
            }
        }
    }

    fn close(&self) {
        let mut state = self.state();
        let connecting = state.phase == Phase::Connecting;
        state.phase = Phase::Closed;
        state.stream = None;
        let pending = mem::take(&mut state.pending);
        drop(state);
        for pending in pending.into_values() {
            let lost = if connecting {
                Lost::Unreachable
            } else {
                Lost::Closed
            };
            let _ = pending.answer.send(Err(lost));
        }
    }

    /// An ID that no query in flight has, and that nobody can foretell (SipHash of a counter).
    fn free_id(&self, state: &mut State) -> u16 {
        loop {
            state.ids += 1;
            let id = self.random.hash_one(state.ids) as u16;
            if !state.pending.contains_key(&id) {
                return id;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
