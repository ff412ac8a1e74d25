//! UDP, in batches: what waits on a socket is read in one system call, and the replies that need no upstream
//! leave in one.
//!
//! The sockets have threads of their own, each with a small runtime. On the shared one every batch that
//! arrives would wake a second worker that looks for work to steal, which costs more than the answers.
//! A miss stays on its thread, and so does the connection to the upstream: no other thread is woken for it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use dns_cache_common::edns::UDP_SIZE;
use futures_util::future::join_all;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::pace::Pace;
use super::tally::Manner;
use super::{Arrival, Running, heartbeats};
use crate::places::Place;
use crate::resolver::{Answer, Miss, Transport};
use crate::sys::{self, Received, Replies};

/// Datagrams of a batch.
const BATCH: usize = 32;
/// No query is longer: a name, a type and class, and an OPT record with a few options.
const MAX_QUERY: usize = 2048;
/// Batches in a row before others get their turn on this core.
const TURN: usize = 16;

/// Serves sockets, spread over one thread a core, until the server stops.
pub(super) fn start(sockets: Vec<Arc<std::net::UdpSocket>>, running: &Running) -> io::Result<()> {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<_> = (0..cores.min(sockets.len())).map(|_| Vec::new()).collect();
    for (i, socket) in sockets.into_iter().enumerate() {
        threads[i % cores].push(socket);
    }
    for sockets in threads {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let pace = Arc::<Pace>::default();
        let workers = {
            let _entered = runtime.enter();
            let worker = |socket| Worker::new(socket, running, &pace);
            sockets
                .into_iter()
                .map(worker)
                .collect::<io::Result<Vec<_>>>()?
        };
        let mut service = running.service.clone();
        thread::Builder::new()
            .name("udp".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::spawn(pace.run());
                    join_all(workers.into_iter().map(|worker| tokio::spawn(worker.run()))).await;
                    // Late replies, and others' that wait for this thread's upstream connections.
                    service.ended().await;
                });
            })?;
    }
    Ok(())
}

/// Serves one socket.
struct Worker {
    /// Watched for what comes in only: each datagram sent would be an event as well.
    socket: AsyncFd<Arc<std::net::UdpSocket>>,
    running: Running,
    pace: Arc<Pace>,
    /// The slot of its heartbeat.
    mark: u32,
    /// How its queries come, and are answered at once.
    manner: Manner,
    received: Received,
    outgoing: Replies,
    /// Replies of this batch, each with the index of its query; the vectors' room is used again.
    replies: Vec<(usize, Vec<u8>)>,
}

impl Worker {
    fn new(
        socket: Arc<std::net::UdpSocket>,
        running: &Running,
        pace: &Arc<Pace>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self {
            pace: Arc::clone(pace),
            mark: SockRef::from(&*socket).mark()?,
            manner: Manner {
                transport: Transport::Udp,
                is_ipv6: address.is_ipv6(),
                forwarded: false,
            },
            socket: sys::watch(socket, Interest::READABLE)?,
            running: running.at(address),
            received: Received::new(BATCH, MAX_QUERY),
            outgoing: Replies::new(BATCH),
            replies: vec![(0, Vec::with_capacity(usize::from(UDP_SIZE))); BATCH],
        })
    }

    async fn run(mut self) {
        let mut beats = interval(heartbeats::INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                has_successor = self.running.stopped() => {
                    // It reads what waits.
                    if !has_successor {
                        self.finish().await;
                    }
                    return;
                }
                ready = self.socket.readable() => if ready.is_err() { return },
                // Nothing comes, as the runtime says; the socket itself is asked all the same.
                _ = beats.tick() => if let Ok(count) = self.received.receive(self.socket.as_fd()) {
                    self.batch(count).await;
                }
            }
            for batch in 1..=TURN {
                match self.receive() {
                    Ok(count) => {
                        self.batch(count).await;
                        if count < BATCH {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // Out of memory, most likely; it must not become a busy loop.
                        tracing::warn!(%error, "cannot receive");
                        sleep(Duration::from_millis(10)).await;
                        break;
                    }
                }
                if batch == TURN {
                    yield_now().await;
                }
            }
            let now = self.running.resolver.clock().now();
            self.running.heartbeats.beat(self.mark, now);
        }
    }

    /// Lets nothing more in, and answers what is in already.
    ///
    /// The socket stays open for as long as late replies need it, but connected to itself: the kernel then
    /// finds it for nobody else's datagrams, and still sends to anybody from its address and port.
    async fn finish(mut self) {
        // Where that fails, what comes from now on finds no reader, but the datapath hands nothing over.
        let socket = self.socket.get_ref();
        let _ = socket.local_addr().and_then(|own| socket.connect(own));
        let end = Instant::now() + self.running.limits.drain;
        // Not by the runtime's word, which may not have heard yet of what came last.
        while Instant::now() < end
            && let Ok(count) = self.received.receive(self.socket.as_fd())
        {
            self.batch(count).await;
        }
    }

    /// Takes a batch off the socket.
    ///
    /// A batch that is not full emptied the socket. The runtime is told so by `WouldBlock`, which saves the
    /// call that would find nothing; what comes from now on raises a new event.
    fn receive(&mut self) -> io::Result<usize> {
        let (socket, received) = (&self.socket, &mut self.received);
        let mut partial = None;
        let result = socket.try_io(Interest::READABLE, |socket| {
            let count = received.receive(socket.as_fd())?;
            if count < BATCH {
                partial = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        partial.map_or(result, Ok)
    }

    /// Answers the datagrams just received.
    async fn batch(&mut self, count: usize) {
        let resolver = Arc::clone(&self.running.resolver);
        let now = resolver.clock().now();
        let mut filled = 0;
        for index in 0..count {
            let (to, reply) = &mut self.replies[filled];
            reply.clear();
            let query = self.received.datagram(index);
            let sender = || self.received.sender(index);
            let denied = resolver.is_restricted()
                && !sender().is_some_and(|client| resolver.may_ask(client.ip()));
            let answer = if denied {
                resolver.deny(query, Transport::Udp, reply)
            } else {
                resolver.answer_cached(query, Transport::Udp, now, reply)
            };
            match answer {
                Answer::Reply(_) => {}
                Answer::Drop => continue,
                Answer::Miss(miss) => {
                    let Some(client) = sender() else {
                        continue;
                    };
                    match resolver.admit(client.ip(), &miss) {
                        Ok(place) => {
                            let arrival = Arrival::late(now, self.manner, query.len());
                            self.spawn(miss, client, arrival, place);
                            continue;
                        }
                        Err(failure) => *reply = resolver.turn_away(&miss, failure),
                    }
                }
            }
            *to = index;
            filled += 1;
            self.running.tally.answered(self.manner, query.len(), reply);
        }
        self.send(filled).await;
        self.running.took(now, filled as u64);
    }

    /// Leaves a query to a task that may wait.
    fn spawn(&self, miss: Miss, client: SocketAddr, arrival: Arrival, place: Place) {
        let (socket, running) = (Arc::clone(self.socket.get_ref()), self.running.clone());
        self.pace.keep();
        tokio::spawn(answer_late(running, socket, client, miss, arrival, place));
    }

    /// Sends the first `count` replies. One that cannot be sent (a forged source address) is left out.
    async fn send(&mut self, count: usize) {
        let mut done = 0;
        while done < count {
            let replies = self.replies[done..count]
                .iter()
                .map(|(to, reply)| (*to, &reply[..]));
            let sent = self
                .outgoing
                .send(self.socket.as_fd(), &self.received, replies);
            match sent {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if room(Arc::clone(self.socket.get_ref())).await.is_err() {
                        return;
                    }
                }
                Err(_) => {
                    self.running.resolver.counters().send_errors.add(1);
                    done += 1;
                }
            }
        }
    }
}

/// Returns when the socket's buffer has room again.
async fn room(socket: Arc<std::net::UdpSocket>) -> io::Result<()> {
    // Under a descriptor of its own: one is watched only once.
    let socket = Arc::new(socket.try_clone()?);
    sys::watch(socket, Interest::WRITABLE)?
        .writable()
        .await
        .map(drop)
}

/// Answers a query once an upstream has. Arguments live until the reply is sent, `running` among them, which
/// an async block would take no more of than it uses.
async fn answer_late(
    running: Running,
    socket: Arc<std::net::UdpSocket>,
    client: SocketAddr,
    miss: Miss,
    arrival: Arrival,
    _place: Place,
) {
    let reply = running.resolve(miss, arrival).await;
    // It does not block; with the socket's buffer full the reply is lost, as on any full link.
    if socket.send_to(&reply, client).is_err() {
        running.resolver.counters().send_errors.add(1);
    }
}
