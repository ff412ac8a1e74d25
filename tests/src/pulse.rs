//! Whether the machine gets round to what is due. Where it does not, what is promised in milliseconds is not the agent's
//! to keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::or_panic::OrPanic;

const BEAT: Duration = Duration::from_millis(10);
/// A sleep that ends so much later than it was to is one of a machine that has too much to do.
pub const LATE: Duration = Duration::from_millis(50);

/// A thread that sleeps, and looks when it wakes.
#[derive(Debug)]
pub struct Pulse {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    /// Watches from now on.
    #[must_use]
    pub fn start() -> Self {
        let over = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !seen.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(BEAT);
                worst = worst.max(start.elapsed().saturating_sub(BEAT));
            }
            worst
        });
        Self { over, thread }
    }

    /// By how much it was late in all this time, at the most.
    #[must_use]
    pub fn end(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().or_panic("the pulse panicked")
    }
}
