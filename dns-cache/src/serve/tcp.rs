//! TCP (RFC 7766): many queries on a connection, each answered as soon as its answer is there.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use dns_cache_common::header::u16_at;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::replies::Replies;
use super::tally::Manner;
use super::{Arrival, Connection, Running, heartbeats};
use crate::places::{Place, Places};
use crate::resolver::{Answer, Miss, Transport};

/// Bytes of the length before each message (RFC 1035 §4.2.2).
const PREFIX: usize = 2;
const READ_CHUNK: usize = 4096;
/// Replies that are written together. Until the client has taken them, it is not read.
const WRITE_CHUNK: usize = 16 * 1024;
/// What the kernel holds of replies for a client that does not take them; it counts as this process's memory.
const SEND_BUFFER: usize = 32 * 1024;
/// What it holds of queries that were not read yet, in the place of megabytes that it would allow in time. No less than a
/// new connection has promised to its client.
pub(super) const RECEIVE_BUFFER: usize = 64 * 1024;

/// Takes connections until the server stops. `slot` is its heartbeat's.
pub(super) async fn listen(
    listener: TcpListener,
    slot: u32,
    mut running: Running,
    places: Arc<Places>,
) {
    let mut beats = interval(heartbeats::INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = running.resolver.clock().now();
        running.heartbeats.beat(slot, now);
        let accepted = tokio::select! {
            _ = running.stopped() => return,
            accepted = listener.accept() => accepted,
            _ = beats.tick() => continue,
        };
        match accepted {
            Ok((stream, client)) => {
                start(stream, client, BytesMut::new(), running.clone(), &places);
            }
            Err(error) => {
                // Out of file descriptors, most likely; that passes, and must not become a busy loop.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection of which this was read already, if there is a place for its client.
pub(super) fn start(
    stream: TcpStream,
    client: SocketAddr,
    unread: BytesMut,
    running: Running,
    places: &Arc<Places>,
) {
    match places.take(client.ip()) {
        Some(place) => {
            running.resolver.counters().tcp_connections.add(1);
            tokio::spawn(serve(stream, unread, client, running, place));
        }
        None => running.resolver.counters().tcp_refused.add(1),
    }
}

/// Serves a connection until its last reply is written. Replies still get out after the client has closed its sending
/// side.
async fn serve(
    stream: TcpStream,
    unread: BytesMut,
    client: SocketAddr,
    running: Running,
    _place: Place,
) {
    // Replies go out in few writes already; Nagle's algorithm would only hold them back.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let _ = SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER);
    let left = running.left.clone();
    let most = running.limits.misses_per_connection;
    let (reading, writing) = stream.into_split();
    let replies = Arc::new(Replies::new(writing, client.ip(), running.clone()));
    let misses = Arc::new(Semaphore::new(most as usize));
    let reader = Reader {
        running,
        client,
        manner: Manner {
            transport: Transport::Tcp,
            is_ipv6: client.is_ipv6(),
            forwarded: false,
        },
        replies: Arc::clone(&replies),
        misses: Arc::clone(&misses),
        buffer: unread,
        held: Duration::ZERO,
    };
    let read = reader.run(reading).await;
    // Each query that waits has a permit until it is answered.
    let _ = misses.acquire_many(most).await;
    match (read, Arc::into_inner(replies)) {
        (Ok(Some((reading, unread))), Some(replies)) => {
            // Both are of one stream.
            let stream = reading.reunite(replies.into_stream());
            if let Ok(Ok(stream)) = stream.map(TcpStream::into_std) {
                let unread = unread.to_vec();
                // Nobody waits for it any more: it is closed.
                let _ = left.send(Connection { stream, unread });
            }
        }
        (Err(error), _) => tracing::trace!(%client, %error, "connection ended"),
        _ => {}
    }
}

struct Reader {
    running: Running,
    client: SocketAddr,
    /// How its queries come, and are answered at once.
    manner: Manner,
    replies: Arc<Replies>,
    /// For those that wait for an upstream.
    misses: Arc<Semaphore>,
    buffer: BytesMut,
    /// How long it has not read for want of permits, since it last had nothing to read.
    held: Duration,
}

impl Reader {
    /// Reads queries until the client sends no more, is idle for too long, or sends what is no query; or until a
    /// successor is to go on, with what was read and is no query yet.
    async fn run(
        mut self,
        mut stream: OwnedReadHalf,
    ) -> io::Result<Option<(OwnedReadHalf, BytesMut)>> {
        let idle = self.running.limits.idle;
        let mut deadline = Instant::now() + idle;
        loop {
            if self.answer().await? {
                deadline = Instant::now() + idle;
            }
            self.buffer.reserve(READ_CHUNK);
            let read = tokio::select! {
                biased;
                has_successor = self.running.stopped() => {
                    if has_successor {
                        return Ok(Some((stream, self.buffer)));
                    }
                    self.finish(&stream).await?;
                    return Ok(None);
                }
                read = timeout_at(deadline, stream.read_buf(&mut self.buffer)) => read??,
                () = ready(()), if !self.held.is_zero() => {
                    self.held = Duration::ZERO;
                    continue;
                }
            };
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Answers what the kernel holds already: a close with bytes unread is a reset, which would take replies
    /// away that the client has not read yet.
    async fn finish(&mut self, stream: &OwnedReadHalf) -> io::Result<()> {
        let end = Instant::now() + self.running.limits.drain;
        while Instant::now() < end {
            self.buffer.reserve(READ_CHUNK);
            match stream.try_read_buf(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => self.answer().await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Answers the whole queries that have come; says whether there were any.
    async fn answer(&mut self) -> io::Result<bool> {
        let resolver = Arc::clone(&self.running.resolver);
        let now = resolver.clock().now();
        let mut hits = Vec::new();
        let (mut any, mut answered) = (false, 0);
        while let Some(length) = u16_at(&self.buffer, 0).map(usize::from) {
            let Some(message) = self.buffer.get(PREFIX..PREFIX + length) else {
                break;
            };
            any = true;
            let mut start = hits.len();
            hits.extend_from_slice(&[0; PREFIX]);
            let answer = if resolver.may_ask(self.client.ip()) {
                resolver.answer_cached(message, Transport::Tcp, now, &mut hits)
            } else {
                resolver.deny(message, Transport::Tcp, &mut hits)
            };
            let bytes = message.len();
            self.buffer.advance(PREFIX + bytes);
            match answer {
                Answer::Reply(_) => {}
                Answer::Drop => {
                    // Nothing sensible follows a message without a header, or a response.
                    hits.truncate(start);
                    self.replies.send(&hits).await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "not a query"));
                }
                Answer::Miss(mut miss) => {
                    hits.truncate(start);
                    if self.misses.available_permits() == 0 {
                        self.replies.send(&hits).await?;
                        hits.clear();
                    }
                    let failure = match resolver.admit(self.client.ip(), &miss) {
                        Ok(place) => match self.permit(&mut miss).await {
                            Some(permit) => {
                                let arrival = Arrival::late(now, self.manner, bytes);
                                let running = self.running.clone();
                                let replies = Arc::clone(&self.replies);
                                let late =
                                    answer_late(permit, running, replies, miss, arrival, place);
                                tokio::spawn(late);
                                continue;
                            }
                            None => resolver.overload(),
                        },
                        Err(failure) => failure,
                    };
                    start = hits.len();
                    hits.extend_from_slice(&[0; PREFIX]);
                    hits.extend(resolver.turn_away(&miss, failure));
                }
            }
            let reply = &hits[start + PREFIX..];
            self.running.tally.answered(self.manner, bytes, reply);
            answered += 1;
            // A stream's limit is what its prefix can say.
            let length = (reply.len() as u16).to_be_bytes();
            hits[start..start + PREFIX].copy_from_slice(&length);
            if hits.len() >= WRITE_CHUNK {
                self.replies.send(&hits).await?;
                hits.clear();
            }
        }
        self.replies.send(&hits).await?;
        self.running.took(now, answered);
        Ok(any)
    }

    /// The permit to wait for an upstream, once there is one. A client that has sent more than may wait is not read any
    /// faster than it is answered, but its queries age meanwhile: after a while there is none.
    async fn permit(&mut self, miss: &mut Miss) -> Option<OwnedSemaphorePermit> {
        miss.came_earlier(self.held);
        if let Ok(permit) = Arc::clone(&self.misses).try_acquire_owned() {
            return Some(permit);
        }
        let since = Instant::now();
        let left = self.running.limits.hold.saturating_sub(self.held);
        let permit = timeout(left, Arc::clone(&self.misses).acquire_owned()).await;
        self.held += since.elapsed();
        permit.ok()?.ok()
    }
}

/// Answers a query once an upstream has. Arguments live until the reply is sent, the permit longest: with all
/// permits back, nobody else holds the connection.
async fn answer_late(
    _permit: OwnedSemaphorePermit,
    running: Running,
    replies: Arc<Replies>,
    miss: Miss,
    arrival: Arrival,
    _place: Place,
) {
    let reply = running.resolve(miss, arrival).await;
    let length = (reply.len() as u16).to_be_bytes();
    // The connection may be gone by now.
    let _ = replies.send(&[&length[..], &reply].concat()).await;
}
