//! UDP, in batches: what waits on a socket is read in one system call, and the replies that need no upstream
//! leave in one.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use dns_cache_common::edns::UDP_SIZE;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Running;
use crate::resolver::{Answer, Miss, Transport};
use crate::sys::{Received, Replies};

/// Datagrams of a batch.
const BATCH: usize = 32;
/// No query is longer: a name, a type and class, and an OPT record with a few options.
const MAX_QUERY: usize = 2048;
/// Batches in a row before others get their turn on this core.
const TURN: usize = 16;

/// Serves one socket.
pub(super) struct Worker {
    socket: Arc<UdpSocket>,
    running: Running,
    misses: Arc<Semaphore>,
    received: Received,
    outgoing: Replies,
    /// Replies of this batch, each with the index of its query; the vectors' room is used again.
    replies: Vec<(usize, Vec<u8>)>,
}

impl Worker {
    pub(super) fn new(
        socket: std::net::UdpSocket,
        running: Running,
        misses: Arc<Semaphore>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: Arc::new(UdpSocket::from_std(socket)?),
            running,
            misses,
            received: Received::new(BATCH, MAX_QUERY),
            outgoing: Replies::new(BATCH),
            replies: vec![(0, Vec::with_capacity(usize::from(UDP_SIZE))); BATCH],
        })
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.running.stopped() => return,
                ready = self.socket.readable() => if ready.is_err() { return },
            }
            for _ in 0..TURN {
                let received = self.socket.try_io(Interest::READABLE, || {
                    self.received.receive(self.socket.as_fd())
                });
                match received {
                    Ok(count) => self.batch(count).await,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // Out of memory, most likely; it must not become a busy loop.
                        tracing::warn!(%error, "cannot receive");
                        sleep(Duration::from_millis(10)).await;
                        break;
                    }
                }
            }
            yield_now().await;
        }
    }

    /// Answers the datagrams just received.
    async fn batch(&mut self, count: usize) {
        let resolver = Arc::clone(&self.running.resolver);
        let now = resolver.clock().now();
        let mut filled = 0;
        for index in 0..count {
            let (to, reply) = &mut self.replies[filled];
            reply.clear();
            match resolver.answer_cached(self.received.datagram(index), Transport::Udp, now, reply)
            {
                Answer::Reply(_) => {}
                Answer::Drop => continue,
                Answer::Miss(miss) => match self.misses.clone().try_acquire_owned() {
                    Ok(permit) => {
                        self.spawn(miss, index, permit);
                        continue;
                    }
                    Err(_) => *reply = resolver.turn_away(&miss),
                },
            }
            *to = index;
            filled += 1;
        }
        self.send(filled).await;
    }

    /// Leaves a query to a task that may wait.
    fn spawn(&self, miss: Miss, index: usize, permit: tokio::sync::OwnedSemaphorePermit) {
        let Some(client) = self.received.sender(index) else {
            return;
        };
        let (socket, running) = (Arc::clone(&self.socket), self.running.clone());
        tokio::spawn(async move {
            let reply = running.resolver.resolve(miss).await;
            if socket.send_to(&reply, client).await.is_err() {
                running.resolver.counters().send_errors.add(1);
            }
            drop(permit);
        });
    }

    /// Sends the first `count` replies. One that cannot be sent (a forged source address) is left out.
    async fn send(&mut self, count: usize) {
        let mut done = 0;
        while done < count {
            let replies = self.replies[done..count]
                .iter()
                .map(|(to, reply)| (*to, &reply[..]));
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.outgoing
                    .send(self.socket.as_fd(), &self.received, replies)
            });
            match sent {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.socket.writable().await.is_err() {
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
