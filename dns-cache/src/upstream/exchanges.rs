//! What a server's answers took and what carried the queries, for the metrics that CoreDNS has of its proxies.

use std::array;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dns_cache_common::header::Header;
use dns_cache_common::types::rcode;

use crate::metrics::histogram::{DURATIONS, Histogram, Snapshot};

/// Response codes that are told apart; the last stands for all others.
pub(crate) const RCODES: [Option<u16>; 5] = [
    Some(rcode::NOERROR),
    Some(rcode::NXDOMAIN),
    Some(rcode::SERVFAIL),
    Some(rcode::REFUSED),
    None,
];

/// Counts of one server.
#[derive(Debug)]
pub(super) struct Exchanges {
    by_rcode: [Histogram<{ DURATIONS.len() }>; RCODES.len()],
    /// Queries that took a connection which was there, and those that needed a new one.
    pub(super) reused: AtomicU64,
    pub(super) opened: AtomicU64,
    /// Probes of the server while it was ejected that it did not pass.
    pub(super) failed_probes: AtomicU64,
}

/// What was counted of one server, for one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchanged {
    pub(crate) address: SocketAddr,
    /// `tcp`, `udp` or `tcp-tls`.
    pub(crate) proto: &'static str,
    /// In the order of [`RCODES`].
    pub(crate) by_rcode: [Snapshot<{ DURATIONS.len() }>; RCODES.len()],
    pub(crate) reused: u64,
    pub(crate) opened: u64,
    pub(crate) failed_probes: u64,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            by_rcode: array::from_fn(|_| Histogram::new(&DURATIONS)),
            reused: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            failed_probes: AtomicU64::new(0),
        }
    }
}

impl Exchanges {
    /// A response came after so much time.
    pub(super) fn answered(&self, response: &[u8], took: Duration) {
        let code = Header::read(response).map(|header| header.flags.rcode());
        let known = RCODES.iter().position(|known| *known == code);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.by_rcode[known.unwrap_or(RCODES.len() - 1)].observe(nanos, 1);
    }

    pub(super) fn of(&self, address: SocketAddr, proto: &'static str) -> Exchanged {
        Exchanged {
            address,
            proto,
            by_rcode: array::from_fn(|n| self.by_rcode[n].snapshot()),
            reused: self.reused.load(Relaxed),
            opened: self.opened.load(Relaxed),
            failed_probes: self.failed_probes.load(Relaxed),
        }
    }
}

impl Exchanged {
    /// Adds what was counted of the same server for another zone, if it is the same: CoreDNS knows no zones here.
    pub(crate) fn add(&mut self, other: &Self) -> bool {
        if (self.address, self.proto) != (other.address, other.proto) {
            return false;
        }
        let sums = array::from_fn(|n| self.by_rcode[n].clone().plus(&other.by_rcode[n]));
        self.by_rcode = sums;
        self.reused += other.reused;
        self.opened += other.opened;
        self.failed_probes += other.failed_probes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_code_and_zones_are_added_up() {
        let exchanges = Exchanges::default();
        let response = |rcode: u8| [&[0, 1, 0x81, 0x80 | rcode][..], &[0; 8]].concat();
        for rcode in [0, 3, 3, 9] {
            exchanges.answered(&response(rcode), Duration::from_millis(1));
        }
        exchanges.opened.fetch_add(1, Relaxed);
        let address = "192.0.2.1:53".parse().unwrap();
        let mut seen = exchanges.of(address, "tcp");
        let counts = |seen: &Exchanged| seen.by_rcode.each_ref().map(Snapshot::count);
        assert_eq!(counts(&seen), [1, 2, 0, 0, 1]);
        assert!(!seen.add(&exchanges.of(address, "udp")));
        assert!(seen.add(&exchanges.of(address, "tcp")));
        assert_eq!((counts(&seen), seen.opened), ([2, 4, 0, 0, 2], 2));
    }
}
