//! Failures, remembered for a moment (RFC 9520), so that a dead upstream is not asked again for every query.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dns_cache_common::edns::ExtendedError;
use dns_cache_common::types::{ede, rcode};
use moka::sync::Cache as Moka;

use super::clock::Time;
use super::entry::BadResponse;
use crate::upstream;

/// Questions whose failure is remembered, at most: as many as may wait for upstreams, if the configuration says nothing else.
/// They have nothing to do with the cache's room.
const MOST: u64 = 4_096;
/// How long the first failure is remembered; each that follows, twice as long (RFC 9520 §3.2).
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// After that, for so long, the upstreams are asked again but not waited for where there is a stale answer.
const RECENT: Duration = Duration::from_secs(5);
/// After so much time without a new one, a failure counts as the first again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody is known whom to ask.
    #[error("no server is known for this zone")]
    NoServers,
    /// Connections are refused, or closed without an answer.
    #[error("no upstream could be reached")]
    Unreachable,
    /// Silence.
    #[error("no upstream answered in time")]
    Timeout,
    /// An upstream answered with what is no answer.
    #[error("{0}")]
    BadResponse(#[from] BadResponse),
    /// Too many queries wait for upstreams.
    #[error("too many queries wait for upstreams")]
    Overload,
    /// One client asks more often than it may.
    #[error("the client asks too often")]
    TooOften,
    /// No upstream gave more than fits into a datagram, and the client came by TCP for the rest.
    #[error("no upstream gives the whole answer")]
    Truncated,
    /// The client may not ask.
    #[error("the client may not ask")]
    Denied,
    /// The client asks what it was asked by us.
    #[error("the query has come back to this cache")]
    Loop,
}

impl Failure {
    /// The response code that the client gets.
    pub(super) fn rcode(self) -> u16 {
        match self {
            Self::Overload | Self::TooOften | Self::Denied | Self::Loop => rcode::REFUSED,
            // The others speak of our query to the upstream, or of the upstream.
            Self::BadResponse(BadResponse::Error(
                code @ (rcode::REFUSED | rcode::NOTIMP | rcode::SERVFAIL),
            )) => code,
            _ => rcode::SERVFAIL,
        }
    }

    /// The cause, for a client with EDNS.
    pub(super) fn explanation(self) -> ExtendedError {
        let (code, text) = match self {
            Self::NoServers => (ede::NOT_READY, "no server is known for this zone"),
            Self::Unreachable => (ede::NETWORK_ERROR, "no upstream could be reached"),
            Self::Timeout => (ede::NO_REACHABLE_AUTHORITY, "no upstream answered in time"),
            Self::BadResponse(BadResponse::Error(code)) => (
                ede::OTHER,
                match code {
                    rcode::REFUSED => "the upstream answered REFUSED",
                    rcode::SERVFAIL => "the upstream answered SERVFAIL",
                    rcode::FORMERR => "the upstream answered FORMERR",
                    rcode::NOTIMP => "the upstream answered NOTIMP",
                    _ => "the upstream answered with an error",
                },
            ),
            Self::BadResponse(_) => (ede::INVALID_DATA, "the upstream's answer is malformed"),
            Self::Overload => (ede::OTHER, "too many queries wait for upstreams"),
            Self::TooOften => (ede::OTHER, "this client asks too often"),
            Self::Truncated => (ede::NETWORK_ERROR, "no upstream gives the whole answer"),
            Self::Denied => (ede::PROHIBITED, "this address may not ask"),
            Self::Loop => (ede::OTHER, "this query has come back to this cache"),
        };
        ExtendedError { code, text }
    }
}

impl From<upstream::Failure> for Failure {
    fn from(failure: upstream::Failure) -> Self {
        match failure {
            upstream::Failure::NoServers => Self::NoServers,
            upstream::Failure::Unreachable => Self::Unreachable,
            upstream::Failure::Busy => Self::Overload,
            upstream::Failure::Malformed => Self::BadResponse(BadResponse::Malformed),
        }
    }
}

/// A failure in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) failure: Failure,
    /// Until then nobody is asked again.
    pub(super) until: Time,
    /// How many there were in a row.
    count: u32,
}

impl Remembered {
    /// Whether nobody is to be asked now.
    pub(super) fn holds(&self, now: Time) -> bool {
        now < self.until
    }

    /// Whether the next attempt is likely to fail as well.
    pub(super) fn is_recent(&self, now: Time) -> bool {
        now < self.until.after(RECENT)
    }
}

/// The failures by the keys of their questions.
#[derive(Debug)]
pub(super) struct Failures {
    by_key: Moka<Box<[u8]>, Remembered>,
    /// From this moment on, in nanoseconds, nothing is remembered: in good times, which are most, nobody looks.
    end: AtomicU64,
}

impl Failures {
    pub(super) fn new() -> Self {
        let by_key = Moka::builder()
            .max_capacity(MOST)
            .time_to_live(LONGEST + FORGOTTEN)
            .build();
        Self {
            by_key,
            end: AtomicU64::new(0),
        }
    }

    /// How the last attempt ended, if it failed not long ago.
    pub(super) fn get(&self, key: &[u8], now: Time) -> Option<Remembered> {
        if self.is_over(now) {
            return None;
        }
        self.by_key
            .get(key)
            .filter(|remembered| now < remembered.until.after(FORGOTTEN))
    }

    pub(super) fn insert(&self, key: &[u8], failure: Failure, now: Time) {
        let before = self.get(key, now).map_or(0, |remembered| remembered.count);
        let time = FIRST
            .saturating_mul(1u32.checked_shl(before).unwrap_or(u32::MAX))
            .min(LONGEST);
        let remembered = Remembered {
            failure,
            until: now.after(time),
            count: before.saturating_add(1),
        };
        let end = remembered.until.after(FORGOTTEN);
        self.end.fetch_max(end.nanos(), Relaxed);
        self.by_key.insert(key.into(), remembered);
    }

    /// An answer came.
    pub(super) fn forget(&self, key: &[u8], now: Time) {
        if !self.is_over(now) {
            self.by_key.invalidate(key);
        }
    }

    /// Forgets those of the keys that are meant.
    pub(super) fn forget_all(&self, meant: impl Fn(&[u8]) -> bool) {
        for (key, _) in self.by_key.iter().filter(|(key, _)| meant(key)) {
            self.by_key.invalidate(&**key);
        }
    }

    /// Whether the last failure has been forgotten.
    fn is_over(&self, now: Time) -> bool {
        now.nanos() >= self.end.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Clock;

    #[test]
    fn failures_in_a_row_are_remembered_longer_and_longer() {
        let failures = Failures::new();
        let mut now = Clock::Boot.now();
        let holds = |now| failures.get(b"k", now).is_some_and(|f| f.holds(now));
        for seconds in [1.0, 2.0, 4.0, 5.0, 5.0] {
            failures.insert(b"k", Failure::Timeout, now);
            let at = |share: f64| now.after(Duration::from_secs_f64(seconds * share));
            assert!(
                holds(now) && holds(at(0.99)) && !holds(at(1.0)),
                "{seconds}"
            );
            assert!(failures.get(b"k", at(1.0)).is_some());
            now = at(1.0);
        }
        now = now.after(FORGOTTEN);
        assert!(failures.get(b"k", now).is_none());
        failures.insert(b"k", Failure::Timeout, now);
        assert!(!holds(now.after(FIRST)));
        failures.forget(b"k", now);
        assert!(failures.get(b"k", now).is_none());
    }
}
