//! The time by which answers age.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::sys;

/// A moment: nanoseconds since boot, suspended time included, as the kernel programs count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// Whole seconds since an earlier moment; 0 if it is a later one.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u32 {
        let seconds = self.0.saturating_sub(earlier.0) / 1_000_000_000;
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// The moment so many nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub fn nanos(self) -> u64 {
        self.0
    }
}

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// `CLOCK_BOOTTIME`.
    #[default]
    Boot,
    /// tokio's, which a test may pause: nanoseconds since that moment, and a day.
    #[cfg(test)]
    Tokio(tokio::time::Instant),
    /// Nanoseconds that a test moves.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The present moment. One reading serves a whole batch of queries.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(match self {
            Self::Boot => sys::boottime(),
            #[cfg(test)]
            Self::Tokio(began) => began.elapsed().as_nanos() as u64 + 86_400_000_000_000,
            Self::Manual(nanos) => nanos.load(Relaxed),
        })
    }
}
