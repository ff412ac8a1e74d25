//! One TCP connection to a server, with many queries in flight.
//!
//! A query on a quiet connection is written by whoever asks it; while answers are awaited, what is asked meanwhile
//! is gathered by a task and leaves in one write.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dns_cache_common::header::{self, u16_at};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use super::Timings;
use super::health::Health;
use super::home::Home;
use super::query::{PREFIX, Query};

/// Queries in flight on one connection; far from the 65,536 IDs, so that a free one is soon found.
const MAX_IN_FLIGHT: usize = 4096;
const KEEPALIVE: Duration = Duration::from_secs(15);
const READ_CHUNK: usize = 16 * 1024;

/// Why a query got no answer on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// There was never a connection.
    Unreachable,
    /// The connection ended before the answer.
    Closed,
    /// Too many queries wait already.
    Busy,
}

/// An answer on its way.
pub(super) type Waiting = oneshot::Receiver<Result<Bytes, Lost>>;

/// A connection, from the moment it is wanted: queries may be handed over before it is established.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    home: Home,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
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
    heard: Instant,
    suspect: bool,
    ids: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    Closed,
}

#[derive(Debug)]
struct Pending {
    query: Arc<Query>,
    sent: Instant,
    answer: oneshot::Sender<Result<Bytes, Lost>>,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(address: SocketAddr, health: Arc<Health>, timings: Timings) -> Self {
        let shared = Arc::new(Shared {
            address,
            health,
            timings,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                stream: None,
                outgoing: Vec::new(),
                pending: HashMap::new(),
                heard: Instant::now(),
                suspect: false,
                ids: 0,
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
            Phase::Closed => return Err(Lost::Closed),
            _ if state.pending.len() >= MAX_IN_FLIGHT => return Err(Lost::Busy),
            _ => {}
        }
        let id = self.shared.free_id(&mut state);
        query.write(id, &mut state.outgoing);
        state.pending.insert(
            id,
            Pending {
                query: Arc::clone(query),
                sent: Instant::now(),
                answer,
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
        self.shared.health.queries.fetch_add(1, Relaxed);
        Ok(waiting)
    }

    /// Where its answers are read.
    pub(super) fn home(&self) -> Home {
        self.home
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.state().phase == Phase::Closed
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

    /// Puts the connection under suspicion if nothing has come over it since `sent`; says whether it did.
    pub(super) fn suspect_if_silent(&self, sent: Instant) -> bool {
        let mut state = self.shared.state();
        state.suspect = state.heard <= sent;
        state.suspect
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
        // A peer that vanished without a word is found even while nobody asks.
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let (reading, writing) = stream.into_split();
        let writing = Arc::new(writing);
        {
            let mut state = self.state();
            state.phase = Phase::Open;
            state.stream = Some(Arc::clone(&writing));
        }
        tokio::select! {
            result = self.read(reading) => result,
            result = self.write(writing) => result,
            result = self.watch() => result,
        }
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

    async fn read(&self, mut stream: OwnedReadHalf) -> io::Result<()> {
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
        let mut state = self.state();
        state.heard = Instant::now();
        state.suspect = false;
        let id = u16_at(&message, 0).unwrap_or_default();
        let matches = state
            .pending
            .get(&id)
            .is_some_and(|p| p.query.is_answered_by(&message));
        let pending = matches.then(|| state.pending.remove(&id)).flatten();
        drop(state);
        match pending {
            Some(pending) => {
                self.health.answered(pending.sent.elapsed());
                // Nobody waits any more if another server was faster.
                let _ = pending.answer.send(Ok(message));
            }
            None => {
                self.health.unmatched.fetch_add(1, Relaxed);
                tracing::debug!(server = %self.address, id, "dropped a response that matches no query");
            }
        }
    }

    /// Forgets queries that are never answered, and ends a connection on which nothing comes back.
    async fn watch(&self) -> io::Result<()> {
        let abandon = self.timings.abandon;
        let mut tick = interval(abandon / 4);
        loop {
            tick.tick().await;
            let mut state = self.state();
            let now = Instant::now();
            let Some(oldest) = state.pending.values().map(|pending| pending.sent).min() else {
                continue;
            };
            if now.duration_since(oldest) < abandon {
                continue;
            }
            if state.heard <= oldest {
                return Err(io::ErrorKind::TimedOut.into());
            }
            state
                .pending
                .retain(|_, pending| now.duration_since(pending.sent) < abandon);
        }
    }

    fn close(&self) {
        let mut state = self.state();
        let lost = match state.phase {
            Phase::Connecting => Lost::Unreachable,
            _ => Lost::Closed,
        };
        state.phase = Phase::Closed;
        state.stream = None;
        let pending = mem::take(&mut state.pending);
        drop(state);
        for pending in pending.into_values() {
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
