//! Keys with the same hash: a miss, never another one's answer.

use dns_cache_common::hash::{Seed, tail};

use super::super::harness::{Harness, Verdict::Redirect};
use super::super::packet::{Packet, udp};
use super::message::{Opt, QUESTION, Query, Record, Response};
use super::oracle::untouched;
use super::{NEVER, SIZE, headers, key, now, put};

/// Without a seed NH multiplies the two halves of a word: they may change places, and the last word, whose upper
/// half is zero, does not count at all.
const WEAK: Seed = Seed([0; _]);
const ONE: &[u8] = b"\x0fleadingabcdwxyz\0";
const OTHER: &[u8] = b"\x0fleadingwxyzabcd\0";

fn query(harness: &Harness, query: &Query) -> Packet {
    udp(harness.pod('a'), true).with(|p| p.payload = query.bytes())
}

#[test]
fn the_names_do_meet_and_do_not_with_a_seed() {
    assert_eq!(WEAK.hash(ONE, tail(1, 0)), WEAK.hash(OTHER, tail(1, 0)));
    assert_eq!(WEAK.hash(ONE, tail(1, 0)), WEAK.hash(ONE, tail(28, 3)));
    let seed = dns_cache::kernel_cache::random_seed();
    assert_ne!(seed.hash(ONE, tail(1, 0)), seed.hash(OTHER, tail(1, 0)));
    assert_ne!(seed.hash(ONE, tail(1, 0)), seed.hash(ONE, tail(28, 3)));
}

#[test]
fn another_key_with_the_same_hash_is_a_miss() {
    let mut harness = Harness::with_seed(SIZE, WEAK);
    let pod = harness.pod('a');
    let response = Response::addresses(ONE, 1, 300);
    put(&harness, &key(ONE, 1, 0), &response, now(), NEVER);

    let own = query(&harness, &Query::new(ONE, 1));
    let outcome = harness.sent_by_pod(pod, &own);
    assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
    let dnssec = Opt {
        dnssec_ok: true,
        ..Opt::of_size(1232)
    };
    for (what, other) in [
        ("name", Query::new(OTHER, 1)),
        ("type", Query::new(ONE, 28)),
        ("CD", Query::new(ONE, 1).with(|q| q.flags |= 0x10)),
        ("DO", Query::new(ONE, 1).with(|q| q.opt = Some(dnssec))),
    ] {
        let other = query(&harness, &other);
        let outcome = harness.sent_by_pod(pod, &other);
        assert_eq!(outcome.verdict, Redirect, "another {what}");
        assert_eq!(outcome.counted.get("cache_misses_collision"), Some(&1));
        assert_eq!(outcome.counted.get("to_resolver_udp"), Some(&1));
        untouched(&other, &outcome);
    }
}

/// The first way that fits is looked at: which of two such keys is answered is chance, whose answer it gets is not.
#[test]
fn two_keys_with_the_same_hash_are_kept_apart() {
    let mut harness = Harness::with_seed(SIZE, WEAK);
    let pod = harness.pod('a');
    let names = [ONE, OTHER];
    for (last, name) in names.into_iter().enumerate() {
        let record = Record::new(QUESTION, 1, 300, &[10, 0, 0, last as u8]);
        let response = Response::new(name, 1, vec![record]);
        put(&harness, &key(name, 1, 0), &response, now(), NEVER);
    }
    assert_eq!(harness.cache().usage().entries, 2);
    let mut answered = 0;
    for (last, name) in names.into_iter().enumerate() {
        let key = key(name, 1, 0);
        let seen = harness.cache().get(key.as_bytes()).unwrap();
        assert_eq!(*seen.key, *key.as_bytes());
        let query = query(&harness, &Query::new(name, 1));
        let outcome = harness.sent_by_pod(pod, &query);
        if outcome.counted.contains_key("cache_hits_noerror") {
            let message = headers::message(&query, &outcome.packet);
            assert_eq!(message.last(), Some(&(last as u8)));
            answered += 1;
        } else {
            assert_eq!(outcome.counted.get("cache_misses_collision"), Some(&1));
        }
    }
    assert_eq!(answered, 1);

    // Removing one leaves the other.
    harness.cache().remove(key(ONE, 1, 0).as_bytes());
    assert!(harness.cache().get(key(ONE, 1, 0).as_bytes()).is_none());
    let query = query(&harness, &Query::new(OTHER, 1));
    let outcome = harness.sent_by_pod(pod, &query);
    assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
}
