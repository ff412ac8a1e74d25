//! A message from a client.
#![expect(clippy::expect_used, reason = "a target panics if something is wrong")]

use dns_cache_common::cached::Shape;
use dns_cache_common::header::{Flags, Header};
use dns_cache_common::question::{self, KeyParts, Parsed, Scanned, Transport};
use dns_cache_common::reply::{Record, Reply, Source, Stored};

/// An address behind the question, with a TTL of 30.
const BODY: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1];

/// It is read the same way by the resolver and by the eBPF programs; the reply or refusal has the size that it says,
/// and keeps to what the client takes.
pub fn query(message: &[u8]) {
    let scanned = question::scan(message, Transport::Udp, 4);
    match question::parse(message, Transport::Udp) {
        Parsed::Query(query) => {
            let key = KeyParts::read(query.key.as_bytes()).expect("a key has parts");
            if let Scanned::Query(question) = scanned {
                assert_eq!(question.len, query.question.len());
                assert_eq!((question.rtype, question.bits()), (key.rtype, key.bits()));
            } else {
                assert_eq!(scanned, Scanned::Long);
            }
            let stored = Stored {
                flags: Flags(0x8580),
                counts: [1, 0, 0],
                records: &[Record { ttl_at: 6, end: 16 }],
                body: &BODY,
                rotation: None,
            };
            let reply = Reply::new(
                &query.client,
                query.question,
                stored,
                Source::Cache { age: 29 },
            );
            let mut out = vec![0; reply.size()];
            reply.write(&mut out).expect("it has the size that it says");
            assert!(out.len() <= query.client.limit);
            let header = Header::read(&out[..]).expect("a reply has a header");
            assert_eq!((header.id, header.questions), (query.client.id, 1));
        }
        Parsed::Refuse(refusal) => {
            let mut out = vec![0; refusal.size()];
            refusal
                .write(&mut out)
                .expect("it has the size that it says");
        }
        Parsed::Drop => {}
    }
    if let Some(word) = message.first_chunk() {
        let word = u64::from_le_bytes(*word);
        assert_eq!(Shape::unpack(word).pack(), word);
    }
}
