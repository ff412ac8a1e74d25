//! A and AAAA of a name at the same moment, from two threads over one socket: the race of two packets with one
//! 5-tuple, which on a node is one of two CPUs.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cpus;
use crate::or_panic::OrPanic;
use crate::wire::{Query, flag, rtype};
use crate::zones;

/// Pairs on their way at a time.
const BATCH: u64 = 250;

/// What became of the pairs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Pairs.
    pub pairs: u64,
    /// Of both packets of each, those without an answer: a client with glibc's defaults waits five seconds for it.
    pub lost_packets: u64,
    /// Pairs with such a packet.
    pub lost_pairs: u64,
}

/// Sends so many pairs, each from a port of its own, and waits so long for a batch's answers.
#[must_use]
pub fn run(client: &Client, pairs: u64, patience: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.pairs < pairs {
        let numbers: Vec<_> = (outcome.pairs..pairs.min(outcome.pairs + BATCH)).collect();
        let batch: Vec<_> = client.netns().run(|| {
            let open = |number: &u64| Pair::open(client, *number);
            numbers.iter().map(open).collect()
        });
        send(&batch);
        let end = Instant::now() + patience;
        for pair in &batch {
            let lost = pair.lost(end);
            outcome.pairs += 1;
            outcome.lost_packets += lost;
            outcome.lost_pairs += u64::from(lost > 0);
        }
    }
    outcome
}

struct Pair {
    socket: UdpSocket,
    /// A and AAAA.
    queries: [Vec<u8>; 2],
}

impl Pair {
    fn open(client: &Client, number: u64) -> Self {
        let server = client.server_address();
        let any = match server.is_ipv4() {
            true => "0.0.0.0:0",
            false => "[::]:0",
        };
        let socket = UdpSocket::bind(any).or_panic("opening a socket");
        socket.connect(server).or_panic("connecting a socket");
        let name = zones::service((number % u64::from(zones::BULK)) as u16);
        let queries = [(rtype::A, 0), (rtype::AAAA, 1)]
            .map(|(rtype, id)| Query::new(&name, rtype).id(id).to_bytes());
        Self { socket, queries }
    }

    /// How many of the two have no answer at that moment.
    fn lost(&self, end: Instant) -> u64 {
        let mut buffer = [0; 1500];
        let mut open = [true; 2];
        while open != [false; 2] {
            let left = end.saturating_duration_since(Instant::now());
            let wait = left.max(Duration::from_micros(1));
            let waits = self.socket.set_read_timeout(Some(wait));
            waits.or_panic("setting a time-out");
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let id = usize::from(buffer[1]);
                    let answers = u16::from_be_bytes([buffer[6], buffer[7]]);
                    let right = u16::from_be_bytes([buffer[2], buffer[3]]) & flag::QR != 0
                        && answers == 1
                        && buffer[12..length].starts_with(&self.queries[id & 1][12..]);
                    assert!(right, "not the answer: {:02x?}", &buffer[..length]);
                    open[id] = false;
                }
                Err(_) if left.is_zero() => break,
                Err(_) => {}
            }
        }
        open.iter().filter(|open| **open).count() as u64
    }
}

/// Two threads on two CPUs, in step, as close as they can.
fn send(batch: &[Pair]) {
    let arrived = AtomicUsize::new(0);
    let both = &|which: usize| {
        let _ = cpus::stay_on(which);
        for (index, pair) in batch.iter().enumerate() {
            arrived.fetch_add(1, Ordering::AcqRel);
            let started = Instant::now();
            while arrived.load(Ordering::Acquire) < 2 * (index + 1) {
                // With one CPU, or a busy one, the other needs this one.
                if started.elapsed() > Duration::from_micros(50) {
                    thread::yield_now();
                }
            }
            // A packet that is dropped on its way out is told here on some kernels: it is lost all the same.
            let _ = pair.socket.send(&pair.queries[which]);
        }
    };
    thread::scope(|scope| {
        for which in [0, 1] {
            scope.spawn(move || both(which));
        }
    });
}
