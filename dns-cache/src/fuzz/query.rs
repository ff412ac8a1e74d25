//! A message from a client.
#![expect(clippy::expect_used, reason = "a target panics if something is wrong")]

use dns_cache_common::cached::Shape;
use dns_cache_common::question::{self, KeyParts, Parsed, Scanned, Transport};

use super::reply;

/// It is read the same way by the resolver and by the eBPF programs; the replies or the refusal are what they must be.
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
            reply::check_all(&query, checksum(message));
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

/// Which answer a message meets: any function of all its bytes (FNV-1a).
fn checksum(message: &[u8]) -> u32 {
    message.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
