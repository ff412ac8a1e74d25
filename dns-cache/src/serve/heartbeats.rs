//! Where the listeners say that they make progress, for the programs to see: packets for one that has not done so for
//! too long take the ordinary path.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dns_cache_common::maps::{FIRST_HEARTBEAT, HEARTBEATS};

use crate::resolver::Time;
use crate::sys::SharedWords;

/// How often one that has nothing to do says so: several times within the shortest patience (100 ms).
pub(super) const INTERVAL: Duration = Duration::from_millis(40);

/// The moments of the last progress, in nanoseconds since boot.
#[derive(Debug, Default)]
pub struct Heartbeats {
    /// None: nobody looks at them.
    words: Option<SharedWords>,
}

impl Heartbeats {
    /// Those in the map `HEARTBEATS`.
    pub(crate) fn new(words: SharedWords) -> Self {
        Self { words: Some(words) }
    }

    /// A listener is where it looks for work at this moment. `slot` is its socket's mark.
    pub(super) fn beat(&self, slot: u32, now: Time) {
        if let Some(words) = &self.words
            && (FIRST_HEARTBEAT..HEARTBEATS).contains(&slot)
        {
            words[slot as usize].store(now.nanos(), Relaxed);
        }
    }
}
