//! TCP (RFC 7766): many queries on a connection, each answered as soon as its answer is there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use dns_cache_common::header::u16_at;
use dns_cache_common::maps::LISTENERS_HEARTBEAT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::tally::Manner;
use super::{Arrival, Connection, Running, heartbeats};
use crate::places::{Place, Places};
use crate::resolver::{Answer, Miss, Transport};

/// Bytes of the length before each message (RFC 1035 §4.2.2).
const PREFIX: usize = 2;
const READ_CHUNK: usize = 4096;
/// Chunks of replies that may wait for the client to take them; beyond them it is not read.
const WAITING: usize = 16;
/// Replies that are written together.
const WRITE_CHUNK: usize = 64 * 1024;

/// Takes connections until the server stops.
pub(super) async fn listen(listener: TcpListener, mut running: Running, places: Arc<Places>) {
    let mut beats = interval(heartbeats::INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = running.resolver.clock().now();
        running.heartbeats.beat(LISTENERS_HEARTBEAT, now);
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

/// Serves a connection, and holds `running` until its last reply is written. Replies still get out after the client
/// has closed its sending side: the writer ends when neither the reader nor any waiting query holds the channel.
async fn serve(
    stream: TcpStream,
    unread: BytesMut,
    client: SocketAddr,
    running: Running,
    _place: Place,
) {
    // Replies go out in few writes already; Nagle's algorithm would only hold them back.
    let _ = stream.set_nodelay(true);
    let idle = running.limits.idle;
    let left = running.left.clone();
    let (reading, writing) = stream.into_split();
    let (replies, outgoing) = mpsc::channel(WAITING);
    let reader = Reader {
        running,
        client,
        manner: Manner {
            transport: Transport::Tcp,
            is_ipv6: client.is_ipv6(),
            forwarded: false,
        },
        replies,
        buffer: unread,
    }
    .run(reading);
    let writer = write(writing, outgoing, idle);
    tokio::pin!(reader, writer);
    // A client that takes no replies is not read any further.
    let (read, written) = tokio::select! {
        read = &mut reader => (read, writer.await),
        _ = &mut writer => return,
    };
    match (read, written) {
        (Ok(Some((reading, unread))), Ok(writing)) => {
            // Both are of one stream.
            let stream = reading.reunite(writing).map(TcpStream::into_std);
            if let Ok(Ok(stream)) = stream {
                let unread = unread.to_vec();
                // Nobody waits for it any more: it is closed.
                let _ = left.send(Connection { stream, unread });
            }
        }
        (read, written) => {
            if let Ok(mut writing) = written {
                let _ = writing.shutdown().await;
            }
            if let Err(error) = read {
                tracing::trace!(%client, %error, "connection ended");
            }
        }
    }
}

/// Writes replies, as many at once as wait.
async fn write(
    mut stream: OwnedWriteHalf,
    mut replies: mpsc::Receiver<Vec<u8>>,
    idle: Duration,
) -> io::Result<OwnedWriteHalf> {
    while let Some(mut chunk) = replies.recv().await {
        while chunk.len() < WRITE_CHUNK
            && let Ok(more) = replies.try_recv()
        {
            chunk.extend_from_slice(&more);
        }
        timeout(idle, stream.write_all(&chunk)).await??;
    }
    Ok(stream)
}

struct Reader {
    running: Running,
    client: SocketAddr,
    /// How its queries come, and are answered at once.
    manner: Manner,
    replies: mpsc::Sender<Vec<u8>>,
    buffer: BytesMut,
}

impl Reader {
    /// Reads queries until the client sends no more, is idle for too long, or sends what is no query; or until a
    /// successor is to go on, with what was read and is no query yet.
    async fn run(
        mut self,
        mut stream: OwnedReadHalf,
    ) -> io::Result<Option<(OwnedReadHalf, BytesMut)>> {
        let idle = self.running.limits.idle;
        let misses = Arc::new(Semaphore::new(self.running.limits.misses_per_connection));
        let mut deadline = Instant::now() + idle;
        loop {
            if self.answer(&misses).await? {
                deadline = Instant::now() + idle;
            }
            self.buffer.reserve(READ_CHUNK);
            let read = tokio::select! {
                has_successor = self.running.stopped() => {
                    if has_successor {
                        return Ok(Some((stream, self.buffer)));
                    }
                    self.finish(&stream, &misses).await?;
                    return Ok(None);
                }
                read = timeout_at(deadline, stream.read_buf(&mut self.buffer)) => read??,
            };
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Answers what the kernel holds already: a close with bytes unread is a reset, which would take replies
    /// away that the client has not read yet.
    async fn finish(&mut self, stream: &OwnedReadHalf, misses: &Arc<Semaphore>) -> io::Result<()> {
        let end = Instant::now() + self.running.limits.drain;
        while Instant::now() < end {
            self.buffer.reserve(READ_CHUNK);
            match stream.try_read_buf(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => self.answer(misses).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Answers the whole queries that have come; says whether there were any.
    async fn answer(&mut self, misses: &Arc<Semaphore>) -> io::Result<bool> {
        let now = self.running.resolver.clock().now();
        let mut hits = Vec::new();
        let (mut any, mut answered) = (false, 0);
        while let Some(length) = u16_at(&self.buffer, 0).map(usize::from) {
            let Some(message) = self.buffer.get(PREFIX..PREFIX + length) else {
                break;
            };
            any = true;
            let start = hits.len();
            hits.extend_from_slice(&[0; PREFIX]);
            let resolver = &self.running.resolver;
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
                    self.send(hits).await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "not a query"));
                }
                Answer::Miss(miss) => match resolver.admit(self.client.ip(), &miss) {
                    Ok(place) => {
                        hits.truncate(start);
                        if misses.available_permits() == 0 {
                            self.send(std::mem::take(&mut hits)).await?;
                        }
                        let Ok(permit) = Arc::clone(misses).acquire_owned().await else {
                            break;
                        };
                        let arrival = Arrival::late(now, self.manner, bytes);
                        let (running, replies) = (self.running.clone(), self.replies.clone());
                        let late = answer_late(running, replies, miss, arrival, place, permit);
                        tokio::spawn(late);
                        continue;
                    }
                    Err(failure) => hits.extend(resolver.turn_away(&miss, failure)),
                },
            }
            let reply = &hits[start + PREFIX..];
            self.running.tally.answered(self.manner, bytes, reply);
            answered += 1;
            // A stream's limit is what its prefix can say.
            let length = (reply.len() as u16).to_be_bytes();
            hits[start..start + PREFIX].copy_from_slice(&length);
            if hits.len() >= WRITE_CHUNK {
                self.send(std::mem::take(&mut hits)).await?;
            }
        }
        self.send(hits).await?;
        self.running.took(now, answered);
        Ok(any)
    }

    async fn send(&self, replies: Vec<u8>) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        self.replies
            .send(replies)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Answers a query once an upstream has. Arguments live until the reply is handed on, `running` among them,
/// which an async block would take no more of than it uses.
async fn answer_late(
    running: Running,
    replies: mpsc::Sender<Vec<u8>>,
    miss: Miss,
    arrival: Arrival,
    _place: Place,
    _permit: OwnedSemaphorePermit,
) {
    let reply = running.resolve(miss, arrival).await;
    let length = (reply.len() as u16).to_be_bytes();
    // The connection may be gone by now.
    let _ = replies.send([&length[..], &reply].concat()).await;
}
