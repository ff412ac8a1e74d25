//! How often a client may ask what the cache does not know.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::sync::Cache as Moka;

use super::clock::Time;
use crate::config::Queries;

/// Clients that are remembered; far more than a node has pods.
const MOST: u64 = 100_000;
const SECOND: u64 = 1_000_000_000;

/// A token bucket for each client, in the form of the generic cell rate algorithm: what is kept is the moment at
/// which the bucket is full again.
#[derive(Debug)]
pub(super) struct Rate {
    /// Nanoseconds until the next token; 0: there is no limit.
    interval: u64,
    /// Nanoseconds that fill an empty bucket.
    whole: u64,
    full_at: Moka<IpAddr, Arc<AtomicU64>>,
}

impl Rate {
    pub(super) fn new(queries: Queries) -> Self {
        let interval = SECOND
            .checked_div(queries.misses_per_second.into())
            .unwrap_or_default();
        let whole = interval.saturating_mul(queries.miss_burst.into());
        Self {
            interval,
            whole,
            full_at: Moka::builder()
                .max_capacity(MOST)
                // Who is forgotten has a full bucket, as it would have by then.
                .time_to_idle(Duration::from_nanos(whole).max(Duration::from_secs(60)))
                .build(),
        }
    }

    /// Whether it allows as much.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (self.interval, self.whole) == (other.interval, other.whole)
    }

    /// Takes a token from a client's bucket, if there is one.
    pub(super) fn take(&self, client: IpAddr, now: Time) -> bool {
        if self.interval == 0 {
            return true;
        }
        let bucket = self.full_at.get_with(client, Arc::default);
        let taken = bucket.fetch_update(Relaxed, Relaxed, |full_at| {
            let full_at = full_at.max(now.nanos()).saturating_add(self.interval);
            (full_at - now.nanos() <= self.whole).then_some(full_at)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(misses_per_second: u32, miss_burst: u32) -> Rate {
        Rate::new(Queries {
            in_flight: 1,
            in_flight_per_client: 1,
            misses_per_second,
            miss_burst,
            wedged_after_millis: 500,
        })
    }

    #[test]
    fn a_bucket_is_emptied_at_once_and_filled_in_time() {
        let rate = rate(10, 3);
        let (one, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let at = |millis: u64| Time::from_nanos(5 * SECOND + millis * 1_000_000);
        let takes = |client, millis| [(); 4].map(|()| rate.take(client, at(millis)));
        assert_eq!(takes(one, 0), [true, true, true, false]);
        // The other has its own.
        assert_eq!(takes(other, 0), [true, true, true, false]);
        assert_eq!(takes(one, 99), [false; 4]);
        assert_eq!(takes(one, 100), [true, false, false, false]);
        assert_eq!(takes(one, 10_000), [true, true, true, false]);
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let rate = rate(0, 1);
        let client = "10.0.0.1".parse().unwrap();
        assert!((0..1_000).all(|_| rate.take(client, Time::from_nanos(1))));
    }
}
