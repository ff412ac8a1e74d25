//! Who is answered where not everybody may be.

use dns_cache::config::Network;

use super::super::harness::Harness;
use super::super::packet::udp;
use super::message::Query;
use super::{NAME, SIZE, put_addresses};

/// The counter that a query for [`NAME`] from this pod moves.
fn asked(harness: &mut Harness, pod: char, v4: bool) -> &'static str {
    let place = harness.pod(pod);
    let query = udp(place, v4)
        .with(|p| p.payload = Query::new(NAME, 1).bytes())
        .with_partial_checksum();
    let outcome = harness.sent_by_pod(place, &query);
    let mut counted = outcome.counted.into_keys();
    counted.find(|name| name.starts_with("cache_")).unwrap()
}

#[test]
fn verified_sources_of_allowed_networks() {
    const HIT: &str = "cache_hits_noerror";
    const DENIED: &str = "cache_bypasses_access";
    let network = |text: &str, prefix| Network::new(text.parse().unwrap(), prefix);
    // What is allowed, and whether pod a over IPv4 and IPv6, and pod b over IPv4 and IPv6 may ask.
    for (allowed, may) in [
        (vec![network("10.244.0.2", 32)], [true, false, false, false]),
        (vec![network("10.244.0.2", 31)], [true, false, true, false]),
        (vec![network("0.0.0.0", 0)], [true, false, true, false]),
        (vec![network("::", 0)], [false, true, false, true]),
        (
            vec![network("10.0.0.0", 8), network("fd00:10:244::3", 128)],
            [true, false, true, true],
        ),
        (vec![network("192.0.2.0", 24)], [false; 4]),
    ] {
        let mut harness = Harness::restricted(SIZE, &allowed);
        put_addresses(&harness, 3, 300);
        let sources = [('a', true), ('a', false), ('b', true), ('b', false)];
        for ((pod, v4), may) in sources.into_iter().zip(may) {
            // Its source is verified on the way of the first.
            assert_eq!(
                asked(&mut harness, pod, v4),
                DENIED,
                "{pod} {v4} {allowed:?}"
            );
            let expected = if may { HIT } else { DENIED };
            assert_eq!(
                asked(&mut harness, pod, v4),
                expected,
                "{pod} {v4} {allowed:?}"
            );
        }
    }
}
