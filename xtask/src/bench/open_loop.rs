//! Queries at a fixed rate, whether the earlier ones were answered or not, and the time of each.
//!
//! An own client, because dnsperf 2.10 gives the mean and the standard deviation of latencies only. A query's
//! time is from the moment before its `send` to the return of `recv` in the thread that waits on its socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::Netns;

use super::probe::{Verdict, udp, verdict};

/// Sockets, each with a thread that receives, as many clients of a node.
const SOCKETS: usize = 20;
/// Queries that a socket keeps in mind; at 1,000 a second far more than the wait for the last answers.
const SLOTS: usize = 4096;
/// The end of a receiver's wait, to look whether all is over.
const TICK: Duration = Duration::from_millis(50);
/// How long late answers are waited for.
const GRACE: Duration = Duration::from_millis(500);
/// A sender that was held up for longer goes on from there, and does not make up for it.
const MOST_LATE: Duration = Duration::from_millis(50);
/// The sender's sleep is this exact (prctl(2), PR_SET_TIMERSLACK), in nanoseconds.
const SLACK: u64 = 1;

/// What became of the queries.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// Queries a second that were sent.
    pub(super) rate: f64,
    /// The time of each right answer, in nanoseconds, sorted.
    pub(super) times: Vec<u32>,
    /// Answers with another rcode than NOERROR.
    pub(super) failures: u64,
}

impl Outcome {
    /// Queries without a right answer, in percent.
    pub(super) fn lost_percent(&self) -> f64 {
        if self.sent == 0 {
            return 100.0;
        }
        self.sent.saturating_sub(self.times.len() as u64) as f64 / self.sent as f64 * 100.0
    }
}

/// Sends `queries` in turns for `time`, `rate` of them a second.
pub(super) fn run(
    netns: &Netns,
    server: SocketAddr,
    queries: &[Vec<u8>],
    rate: u32,
    time: Duration,
) -> Result<Outcome> {
    let clients = (0..SOCKETS)
        .map(|_| Client::new(netns, server))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let receivers: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| client.receive(start, &over)))
            .collect();
        let sender = scope.spawn(|| send(&clients, queries, rate, time, start));
        let sent = sender.join();
        thread::sleep(GRACE);
        over.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        let mut failures = 0;
        for receiver in receivers {
            let Ok(received) = receiver.join() else {
                bail!("a receiver panicked");
            };
            let (own, failed) = received?;
            times.extend(own);
            failures += failed;
        }
        let Ok(sent) = sent else {
            bail!("the sender panicked");
        };
        let (sent, took) = sent?;
        times.sort_unstable();
        Ok(Outcome {
            sent,
            rate: sent as f64 / took.as_secs_f64(),
            times,
            failures,
        })
    })
}

fn send(
    clients: &[Client],
    queries: &[Vec<u8>],
    rate: u32,
    time: Duration,
    start: Instant,
) -> Result<(u64, Duration)> {
    nix::sys::prctl::set_timerslack(SLACK).context("making sleeps exact")?;
    let total = (time.as_secs_f64() * f64::from(rate)) as u64;
    let gap = 1e9 / f64::from(rate);
    let mut buffer = Vec::new();
    let began = start.elapsed();
    let mut first = began;
    for number in 0..total {
        let due = first + Duration::from_nanos((number as f64 * gap) as u64);
        let now = start.elapsed();
        // What is late already goes out at once: the rate does not depend on the answers. But after a time without a turn
        // that would be more than the sockets hold.
        match due.checked_sub(now) {
            Some(wait) => thread::sleep(wait),
            None if now - due > MOST_LATE => first += now - due,
            None => {}
        }
        let index = number as usize;
        let query = &queries[index % queries.len()];
        // A name must not always come from the same socket.
        let client = &clients[(index + index / queries.len()) % clients.len()];
        let id = (index / clients.len()) as u16;
        buffer.clear();
        buffer.extend(id.to_be_bytes());
        buffer.extend(&query[2..]);
        client.send(&buffer, id, start)?;
    }
    Ok((total, start.elapsed() - began))
}

/// Whether an ICMP error says that nobody is there.
fn is_refusal(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
}

struct Client {
    socket: UdpSocket,
    /// When the query with this ID (modulo) went out: nanoseconds and, below them, the ID.
    sent: Vec<AtomicU64>,
}

impl Client {
    fn new(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let socket = udp(netns, server)?;
        socket.set_read_timeout(Some(TICK))?;
        Ok(Self {
            socket,
            sent: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    fn send(&self, query: &[u8], id: u16, start: Instant) -> Result<()> {
        let now = start.elapsed().as_nanos() as u64;
        self.sent[usize::from(id) % SLOTS].store(now << 16 | u64::from(id), Ordering::Release);
        let mut sent = self.socket.send(query);
        if sent.as_ref().is_err_and(is_refusal) {
            // Of an earlier query, and told once.
            sent = self.socket.send(query);
        }
        sent.map(drop).context("sending a query")
    }

    fn receive(&self, start: Instant, over: &AtomicBool) -> Result<(Vec<u32>, u64)> {
        let mut times = Vec::new();
        let mut failures = 0;
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let now = start.elapsed().as_nanos() as u64;
                    let Some((time, verdict)) = self.check(&buffer[..length], now) else {
                        continue;
                    };
                    match verdict {
                        Verdict::Right => times.push(time),
                        _ => failures += 1,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if over.load(Ordering::Relaxed) {
                        return Ok((times, failures));
                    }
                }
                // Its query is lost, like one that nobody answers.
                Err(error) if error.kind() == ErrorKind::Interrupted || is_refusal(&error) => {}
                Err(error) => return Err(error).context("receiving an answer"),
            }
        }
    }

    /// The first answer to a query that is in mind, and how long it took.
    fn check(&self, answer: &[u8], now: u64) -> Option<(u32, Verdict)> {
        let id = answer.first_chunk()?;
        let slot = &self.sent[usize::from(u16::from_be_bytes(*id)) % SLOTS];
        let sent = slot.load(Ordering::Acquire);
        if sent == 0 || sent as u16 != u16::from_be_bytes(*id) {
            return None;
        }
        slot.store(0, Ordering::Relaxed);
        let time = u32::try_from(now.saturating_sub(sent >> 16)).unwrap_or(u32::MAX);
        Some((time, verdict(id, answer)))
    }
}
