//! What a server's answers took and what carried the queries, for the metrics that CoreDNS has of its proxies.

use std::array;
use std::collections::BTreeMap;
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
    /// Queries that went by datagrams, each from a socket of its own.
    pub(super) datagrams: AtomicU64,
    /// Probes of the server while it was ejected that it did not pass.
    pub(super) failed_probes: AtomicU64,
}

/// What was counted of one server, for one zone or for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchanged {
    pub(crate) address: SocketAddr,
    /// By what carried the queries: `tcp`, `udp` or `tcp-tls`.
    pub(crate) carried: BTreeMap<&'static str, Carried>,
    /// In the order of [`RCODES`].
    pub(crate) by_rcode: [Snapshot<{ DURATIONS.len() }>; RCODES.len()],
    pub(crate) failed_probes: u64,
}

/// Queries that took a connection or socket which was there, and those that needed a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Carried {
    pub(crate) reused: u64,
    pub(crate) opened: u64,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            by_rcode: array::from_fn(|_| Histogram::new(&DURATIONS)),
            reused: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            datagrams: AtomicU64::new(0),
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

    /// `proto` is how the server is asked first: what does not fit into a datagram comes over TCP, and who takes no TCP
    /// gets datagrams.
    pub(super) fn of(&self, address: SocketAddr, proto: &'static str) -> Exchanged {
        let stream = if proto == "udp" { "tcp" } else { proto };
        let connections = Carried {
            reused: self.reused.load(Relaxed),
            opened: self.opened.load(Relaxed),
        };
        let datagrams = Carried {
            reused: 0,
            opened: self.datagrams.load(Relaxed),
        };
        let mut carried = BTreeMap::from([(stream, connections), ("udp", datagrams)]);
        carried.retain(|by, count| *by == proto || *count != Carried::default());
        Exchanged {
            address,
            carried,
            by_rcode: array::from_fn(|n| self.by_rcode[n].snapshot()),
            failed_probes: self.failed_probes.load(Relaxed),
        }
    }
}

impl Exchanged {
    /// Adds what was counted of the same server for another zone, if it is the same: CoreDNS knows no zones here.
    pub(crate) fn add(&mut self, other: &Self) -> bool {
        if self.address != other.address {
            return false;
        }
        let sums = array::from_fn(|n| self.by_rcode[n].clone().plus(&other.by_rcode[n]));
        self.by_rcode = sums;
        for (proto, count) in &other.carried {
            let sum = self.carried.entry(proto).or_default();
            sum.reused += count.reused;
            sum.opened += count.opened;
        }
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
        let other = "192.0.2.2:53".parse().unwrap();
        assert!(!seen.add(&exchanges.of(other, "tcp")));
        assert!(seen.add(&exchanges.of(address, "tcp")));
        assert_eq!(counts(&seen), [2, 4, 0, 0, 2]);
        let opened = |opened| Carried { reused: 0, opened };
        assert_eq!(seen.carried, [("tcp", opened(2))].into());
        // Another zone's queries go to it by datagrams: it is one server all the same.
        exchanges.datagrams.fetch_add(5, Relaxed);
        assert!(seen.add(&exchanges.of(address, "udp")));
        let both = [("tcp", opened(3)), ("udp", opened(5))];
        assert_eq!(seen.carried, both.into());
        let none = Exchanges::default();
        assert_eq!(none.of(address, "udp").carried, [("udp", opened(0))].into());
        assert_eq!(
            exchanges.of(address, "tcp-tls").carried.into_keys().next(),
            Some("tcp-tls")
        );
    }
}
