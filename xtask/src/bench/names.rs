//! The names that are asked for.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use dns_cache_tests::Query;
use dns_cache_tests::zones::BULK;

/// How many names every system has in its cache.
pub(super) const CACHED: usize = BULK as usize;

/// The search list of a pod in the namespace `default`.
const SEARCH: [&str; 3] = [
    ".default.svc.cluster.local",
    ".svc.cluster.local",
    ".cluster.local",
];
/// The node's own domain, which the kubelet puts behind these.
const NODE_DOMAIN: &str = ".node.example.com";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name of the cached ones.
pub(super) fn cached(index: usize) -> String {
    format!("svc-{}.bulk.svc.cluster.local", index % CACHED)
}

/// A name that nobody has asked for yet. A wildcard answers it.
pub(super) fn fresh() -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("miss-{number}.wild.types.svc.cluster.local")
}

/// A name that `dns-cache reflect --after` has in its cache.
pub(super) fn of_stages(index: usize) -> String {
    format!("svc-{index:07}.default.svc.cluster.local")
}

/// A name that stays in a large cache. A wildcard answers it.
pub(super) fn entry(index: usize) -> String {
    format!("entry-{index}.wild.types.svc.cluster.local")
}

/// What a libc asks for, in order, when an application looks up a name outside the cluster under `ndots:5`: all but the
/// last one do not exist.
pub(super) fn tried(application: u64) -> Vec<String> {
    let name = format!("shop-{application}.hosts.example.com");
    let suffixes = SEARCH.iter().chain(&[NODE_DOMAIN, ""]);
    suffixes.map(|suffix| format!("{name}{suffix}")).collect()
}

/// The query for the A records of a name.
pub(super) fn query(name: &str) -> Vec<u8> {
    Query::new(name, 1).to_bytes()
}

/// dnsperf's input: the cached names, once each.
pub(super) fn cached_lines() -> String {
    (0..CACHED).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "{} A", cached(index));
        text
    })
}

/// dnsperf's input: what a libc asks for services by their full names under a pod's `ndots:5`.
pub(super) fn storm_lines(services: usize) -> String {
    let mut text = String::new();
    for index in 0..services {
        for suffix in SEARCH.iter().chain(&[""]) {
            for rtype in ["A", "AAAA"] {
                let _ = writeln!(text, "{}{suffix} {rtype}", cached(index));
            }
        }
    }
    text
}

/// dnsperf's input: this many lines, each `every`th of them a fresh name.
pub(super) fn mixed_lines(count: usize, every: usize) -> String {
    let mut text = String::with_capacity(count * 36);
    for index in 0..count {
        let name = if index % every == every - 1 {
            fresh()
        } else {
            cached(index)
        };
        let _ = writeln!(text, "{name} A");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_twenty_is_fresh_and_unique() {
        let text = mixed_lines(400, 20);
        let fresh: Vec<_> = text
            .lines()
            .filter(|line| line.contains(".wild."))
            .collect();
        let unique: std::collections::HashSet<_> = fresh.iter().collect();
        assert_eq!((text.lines().count(), fresh.len()), (400, 20));
        assert_eq!(unique.len(), 20);
        assert_eq!(cached_lines().lines().count(), CACHED);
        assert_eq!(storm_lines(3).lines().count(), 24);
    }
}
