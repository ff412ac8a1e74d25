//! An entry that is in use and about to expire asks for a refresh, once.

use dns_cache::resolver::Time;

use super::super::harness::Harness;
use super::super::packet::udp;
use super::message::{Query, Response};
use super::{NAME, NEVER, SIZE, key, now, put};

const LONG_AGO: Time = Time::from_nanos(0);

fn ask(harness: &mut Harness, times: u32) {
    let pod = harness.pod('a');
    let query = udp(pod, true).with(|p| p.payload = Query::new(NAME, 1).bytes());
    for _ in 0..times {
        let outcome = harness.sent_by_pod(pod, &query);
        assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
    }
}

#[test]
fn each_writing_asks_once_and_only_in_its_last_part() {
    let mut harness = Harness::with_cache(SIZE);
    let key = key(NAME, 1, 0);
    let mut old = None;
    // In place, in place, and elsewhere.
    for addresses in [4, 3, 60] {
        let response = Response::addresses(NAME, addresses, 300);
        let later = Time::from_nanos(now().nanos() + 200 * super::SECOND);
        for refresh in [NEVER, later] {
            put(&harness, &key, &response, now(), refresh);
            let limit = if addresses == 60 { 0 } else { 2 };
            ask(&mut harness, limit);
            assert_eq!(harness.refreshes(), [], "not due yet");
        }
        put(&harness, &key, &response, now(), LONG_AGO);
        assert_eq!(harness.refreshes(), [], "not asked for");
        if addresses == 60 {
            // Too long without EDNS: no hit, and no event.
            let pod = harness.pod('a');
            let query = udp(pod, true);
            let outcome = harness.sent_by_pod(pod, &query);
            assert_eq!(outcome.counted.get("cache_misses_too_long"), Some(&1));
            assert_eq!(harness.refreshes(), []);
            continue;
        }
        ask(&mut harness, 5);
        let [event] = harness.refreshes()[..] else {
            panic!("one event")
        };
        assert_eq!(
            harness.cache().asked(event).map(|seen| seen.key).as_deref(),
            Some(key.as_bytes())
        );
        if let Some(old) = old.replace(event) {
            assert_eq!(harness.cache().asked(old), None, "of an old writing");
        }
    }
    assert_eq!(harness.cache().asked(old.unwrap()), None, "moved");
}

#[test]
fn the_event_of_an_entry_that_is_gone_leads_nowhere() {
    let mut harness = Harness::with_cache(SIZE);
    let key = key(NAME, 1, 0);
    let response = Response::addresses(NAME, 1, 300);
    put(&harness, &key, &response, now(), LONG_AGO);
    ask(&mut harness, 1);
    let [event] = harness.refreshes()[..] else {
        panic!("one event")
    };
    harness.cache().remove(key.as_bytes());
    assert_eq!(harness.cache().asked(event), None);
    // Nor does the one of an entry that came to its place.
    let name = b"\x05other\0";
    let response = Response::addresses(name, 1, 300);
    put(&harness, &super::key(name, 1, 0), &response, now(), NEVER);
    assert_eq!(harness.cache().asked(event), None);
    // Stray numbers from the ring buffer are no reason to panic.
    for way in [0, 1, u64::MAX] {
        let stray = dns_cache_common::cached::Refresh { way, ..event };
        assert_eq!(harness.cache().asked(stray), None);
    }
}
