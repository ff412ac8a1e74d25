//! Answers age by the time since boot.

use dns_cache::resolver::Time;

use super::super::harness::{Harness, Outcome};
use super::super::packet::udp;
use super::message::{QUESTION, Query, Record, Response};
use super::oracle::Oracle;
use super::{NAME, NEVER, SECOND, SIZE, key, now, put, put_addresses};

/// Asks for [`NAME`], whose entry came `age` nanoseconds ago (negative: comes later) with these TTLs.
/// What the resolver would say is checked.
fn asked(harness: &mut Harness, ttls: &[u32], age: i64) -> Outcome {
    let pod = harness.pod('a');
    let records = ttls
        .iter()
        .map(|ttl| Record::new(QUESTION, 1, *ttl, &[10, 0, 0, 1]));
    let response = Response::new(NAME, 1, records.collect());
    let stored = Time::from_nanos(now().nanos().saturating_add_signed(-age));
    let key = key(NAME, 1, 0);
    let oracle = Oracle::new();
    let entry = put(harness, &key, &response, stored, NEVER);
    oracle.resolver().put(key.as_bytes(), entry);
    let query = udp(pod, true).with(|p| p.payload = Query::new(NAME, 1).bytes());
    let before = now();
    let outcome = harness.sent_by_pod(pod, &query);
    oracle
        .expected(&query, [before, now()])
        .check(&query, &outcome);
    harness.cache().remove(key.as_bytes());
    outcome
}

const ANSWERED: &str = "cache_hits_noerror";
const EXPIRED: &str = "cache_misses_expired";

#[test]
fn ttls_count_down_to_the_lowest_ones_end() {
    let mut harness = Harness::with_cache(SIZE);
    let second = SECOND as i64;
    for (ttls, age, counted) in [
        (&[3600][..], 0, ANSWERED),
        (&[3600], 5 * second / 2, ANSWERED),
        (&[3600, 7200, u32::MAX >> 1], 3 * second, ANSWERED),
        (&[3600, 3], 3 * second, EXPIRED),
        (&[3], 3 * second, EXPIRED),
        (&[1, 3600], 2 * second, EXPIRED),
        (&[2, 2], 5 * second, EXPIRED),
    ] {
        let outcome = asked(&mut harness, ttls, age);
        assert_eq!(outcome.counted.get(counted), Some(&1), "{ttls:?} {age}");
    }
}

/// The agent may have read the clock later than the program did.
#[test]
fn an_answer_from_the_future_is_new() {
    let mut harness = Harness::with_cache(SIZE);
    for age in [-1_000_000_000, -3_600_000_000_000, i64::MIN / 4] {
        let outcome = asked(&mut harness, &[60, 90], age);
        assert_eq!(outcome.counted.get(ANSWERED), Some(&1), "{age}");
    }
}

/// Nor does it leave the answer from before.
#[test]
fn an_answer_with_a_ttl_of_zero_is_not_kept() {
    let mut harness = Harness::with_cache(SIZE);
    for ttls in [&[0][..], &[60, 0], &[60, u32::MAX]] {
        put_addresses(&harness, 2, 300);
        let outcome = asked(&mut harness, ttls, 0);
        assert_eq!(outcome.counted.get("cache_misses_absent"), Some(&1));
        assert_eq!(harness.cache().usage().entries, 0);
    }
}
