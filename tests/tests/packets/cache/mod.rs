//! Answers from the kernel cache, by the programs' real bytecode.

mod access;
mod collision;
mod cuts;
mod expiry;
mod headers;
mod message;
mod oracle;
mod property;
mod reasons;
mod refresh;
mod rotation;
mod stress;

use std::env;

use dns_cache::config::TtlCaps;
use dns_cache::kernel_cache::Size;
use dns_cache::resolver::{Clock, Entry, Terms, Time};
use dns_cache_common::question::{Key, KeyParts};
use dns_cache_common::types::class;

use super::harness::Harness;
use message::Response;

const SIZE: Size = Size {
    entries: 1000,
    buckets: 500,
    elements: 1,
};
/// High enough to change nothing.
const CAPS: TtlCaps = TtlCaps {
    positive: u32::MAX,
    negative: u32::MAX,
    minimum: 0,
};
/// `www.example`, as `packet::udp` asks for it.
const NAME: &[u8] = b"\x03www\x07example\0";
/// The zone with cuts, where there are any.
const ZONE: &[u8] = b"\x07cluster\x05local\0";
const SECOND: u64 = 1_000_000_000;
const NEVER: Time = Time::from_nanos(u64::MAX);

/// `count`, or less of it on a slow machine: `DNS_CACHE_TEST_DIVISOR=20` divides what is random or repeated.
fn repeated(count: u64) -> u64 {
    let divisor = env::var("DNS_CACHE_TEST_DIVISOR").map_or(1, |text| text.parse().unwrap());
    (count / divisor).max(1)
}

fn now() -> Time {
    Clock::Boot.now()
}

fn key(name: &[u8], rtype: u16, bits: u8) -> Key {
    Key::from_parts(&KeyParts::new(name, rtype, class::IN, bits)).unwrap()
}

/// What is asked of an answer that came at `now`.
fn terms(caps: TtlCaps, now: Time) -> Terms {
    Terms {
        caps,
        cut: false,
        now,
    }
}

/// Puts a response in that came at `stored`, to be refreshed from `refresh` on.
fn put(harness: &Harness, key: &Key, response: &Response, stored: Time, refresh: Time) -> Entry {
    let parts = KeyParts::read(key.as_bytes()).unwrap();
    let entry = Entry::new(&response.bytes(), &parts, terms(CAPS, stored)).unwrap();
    harness.cache().put(key.as_bytes(), &entry, refresh);
    entry
}

/// Puts in so many addresses of [`NAME`], just received.
fn put_addresses(harness: &Harness, count: u8, ttl: u32) -> Entry {
    let response = Response::addresses(NAME, count, ttl);
    put(harness, &key(NAME, 1, 0), &response, now(), NEVER)
}
