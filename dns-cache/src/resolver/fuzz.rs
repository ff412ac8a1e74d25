//! A message from an upstream.
#![expect(clippy::expect_used, reason = "a target panics if something is wrong")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dns_cache_common::edns;
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::{self, KeyParts, Parsed, Transport, split_question};
use dns_cache_common::reply::{Reply, Source};

use super::answer::append;
use super::cache::Cache;
use super::{Entry, Terms, Time};
use crate::config::{CacheLimits, TtlCaps};
use crate::kernel_cache;

const LIMITS: CacheLimits = CacheLimits {
    max_entries: 100,
    max_bytes: 1 << 20,
    kernel: false,
};
const AGE: u32 = 3;
const CAP: u32 = 30;

/// It is refused, or kept in both caches; what clients are given of it is sound: it can be taken in again, and has the
/// same records.
pub fn response(message: &[u8]) {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    let Some((question, _)) = split_question(message) else {
        return;
    };
    for (transport, opt) in [
        (Transport::Tcp, None),
        (Transport::Udp, None),
        (Transport::Udp, Some(edns::opt(true, 0))),
    ] {
        let header = Header {
            id: 7,
            flags: Flags::RD,
            questions: 1,
            records: [0, 0, u16::from(opt.is_some())],
        };
        let opt = opt.as_ref().map_or(&[][..], |opt| &opt[..]);
        let asked = [&header.bytes()[..], question, opt].concat();
        let Parsed::Query(query) = question::parse(&asked, transport) else {
            return;
        };
        let key = query.key.as_bytes();
        let parts = KeyParts::read(key).expect("a key has parts");
        let terms = Terms {
            caps: TtlCaps {
                positive: CAP,
                negative: 5,
                minimum: u32::from(message[0] & 2),
            },
            cut: message[0] & 1 != 0,
            now: Time::from_nanos(1 << 40),
        };
        let Ok(entry) = Entry::new(message, &parts, terms) else {
            return;
        };
        assert!(entry.ttl().is_none_or(|ttl| ttl <= CAP), "above the cap");
        let entry = Arc::new(entry);
        let _ = kernel_cache::is_fit(&parts, &entry);
        let cache = CACHE.get_or_init(|| Cache::new(LIMITS, Duration::ZERO));
        cache.insert(key.into(), Arc::clone(&entry));
        for source in [Source::Upstream, Source::Cache { age: AGE }] {
            if source == (Source::Cache { age: AGE }) && entry.ttl().is_none_or(|ttl| ttl <= AGE) {
                continue;
            }
            let reply = Reply::new(&query.client, query.question, entry.stored(), source);
            let mut out = Vec::new();
            append(&reply.turned(u32::from(message[1])), &mut out);
            assert!(
                out.len() <= query.client.limit,
                "longer than the client takes"
            );
            let header = Header::read(&out[..]).expect("a reply has a header");
            let again = Entry::new(
                &out,
                &parts,
                Terms {
                    cut: false,
                    ..terms
                },
            )
            .expect("a reply is sound");
            let whole = !header.flags.has(Flags::TC) && transport == Transport::Tcp;
            if whole {
                assert_eq!(
                    again.stored().counts,
                    entry.stored().counts,
                    "records got lost"
                );
            }
        }
    }
}
