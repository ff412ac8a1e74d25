//! Answers from the kernel cache.

use dns_cache::config::TtlCaps;
use dns_cache::kernel_cache::Size;
use dns_cache::resolver::{Clock, Entry, Terms, Time};
use dns_cache_common::question::KeyParts;

use super::harness::{
    Harness, Outcome,
    Verdict::{Redirect, Unspec},
};
use super::packet::{Packet, sum, udp};

const SIZE: Size = Size {
    entries: 1000,
    buckets: 500,
    elements: 1,
};
const NAME: &[u8] = b"\x03www\x07example\0";

#[test]
fn a_hit() {
    let mut harness = Harness::with_cache(Some(SIZE));
    let pod = harness.pod('a');
    let name = NAME;
    let response = [
        &b"\0\0\x85\x80\0\x01\0\x01\0\0\0\0"[..],
        name,
        b"\0\x01\0\x01",
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01",
    ]
    .concat();
    let key = [name, b"\0\x01\0\x01\0"].concat();
    let terms = Terms {
        caps: TtlCaps {
            positive: 30,
            negative: 5,
            minimum: 0,
        },
        cut: false,
        now: Clock::Boot.now(),
    };
    let entry = Entry::new(&response, &KeyParts::read(&key).unwrap(), terms).unwrap();
    harness
        .cache()
        .put(&key, &entry, Time::from_nanos(u64::MAX));
    println!("{:?}", harness.cache().usage());
    let out = harness.sent_by_pod(pod, &udp(pod, true));
    println!("{out:x?}");
    assert_eq!(out.verdict, Redirect);
    let out = harness.sent_by_pod(pod, &udp(pod, false));
    println!("{out:x?}");
}
