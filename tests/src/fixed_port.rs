//! A client that sends all its queries from one source port, one after the other at a fixed pace, whether they are
//! answered or not: Netty, as Redisson's monitor uses it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Failure};
use crate::load::{Question, Questions};
use crate::or_panic::OrPanic;
use crate::wire::Message;

/// How long the last answers are waited for.
const GRACE: Duration = Duration::from_secs(2);

/// A query and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When it was sent.
    pub at: Instant,
    /// When the right answer came.
    pub answered: Option<Instant>,
    right: IpAddr,
}

/// A running client.
#[derive(Debug)]
pub struct FixedPort {
    sent: Arc<Mutex<Vec<Sent>>>,
    over: Arc<AtomicBool>,
    threads: [JoinHandle<()>; 2],
}

impl FixedPort {
    /// Starts it: a query every `gap`, from the client's source port. IDs are the queries' numbers.
    #[must_use]
    pub fn start(client: &Client, gap: Duration, questions: Questions) -> Self {
        let client = client.clone().timeout(Duration::from_millis(50));
        let socket = Arc::new(client.udp(false).or_panic("opening a socket"));
        let sent = Arc::<Mutex<Vec<Sent>>>::default();
        let over = Arc::<AtomicBool>::default();
        let sender = {
            let (socket, sent, over) = (Arc::clone(&socket), Arc::clone(&sent), Arc::clone(&over));
            thread::spawn(move || {
                let begun = Instant::now();
                for number in 0.. {
                    let Question { query, right, .. } = questions(number);
                    let due = begun + gap.saturating_mul(number as u32);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    lock(&sent).push(Sent {
                        at: Instant::now(),
                        answered: None,
                        right,
                    });
                    // A send that fails is a query that is lost.
                    let _ = socket.send(&query.id(number as u16).to_bytes());
                }
            })
        };
        let receiver = {
            let (sent, over) = (Arc::clone(&sent), Arc::clone(&over));
            thread::spawn(move || {
                let mut end = None;
                while end.is_none_or(|end| Instant::now() < end) {
                    match socket.receive() {
                        Ok(bytes) => note(&sent, &bytes),
                        Err(Failure::Timeout(_)) => {}
                        // From elsewhere than was asked: what a client does not take.
                        Err(_) => {}
                    }
                    let open = || lock(&sent).iter().any(|sent| sent.answered.is_none());
                    if over.load(Ordering::Relaxed) {
                        if !open() {
                            return;
                        }
                        end.get_or_insert_with(|| Instant::now() + GRACE);
                    }
                }
            })
        };
        Self {
            sent,
            over,
            threads: [sender, receiver],
        }
    }

    /// The queries up to now.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.sent).clone()
    }

    /// Ends it when the last answers are there, or too late.
    #[must_use]
    pub fn end(self) -> Vec<Sent> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        lock(&self.sent).clone()
    }
}

fn lock(sent: &Mutex<Vec<Sent>>) -> std::sync::MutexGuard<'_, Vec<Sent>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(sent: &Mutex<Vec<Sent>>, bytes: &[u8]) {
    let Some(message) = Message::read(bytes) else {
        return;
    };
    if let Some(sent) = lock(sent).get_mut(usize::from(message.id)) {
        let right = sent.right.to_string();
        if message.answers.iter().any(|record| record.data == right) {
            sent.answered = sent.answered.or_else(|| Some(Instant::now()));
        }
    }
}
