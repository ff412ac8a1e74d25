//! Names that the configuration answers by itself.

use dns_cache_common::types::ede;

use super::failures::explanation;
use super::*;
use crate::config::{Blocked, BlockedAnswer, Host};

#[tokio::test]
async fn hosts_and_blocked_zones_are_answered_without_upstreams() {
    let (fake, asked) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    let blocked = |zone: &str, answer| Blocked {
        zone: zone.to_owned(),
        answer,
    };
    config.hosts = vec![Host {
        name: "host.ads.cluster.local".to_owned(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
    }];
    config.blocked = vec![
        blocked("ads.cluster.local", BlockedAnswer::NxDomain),
        blocked("not.ads.cluster.local", BlockedAnswer::Refused),
    ];
    let bench = Bench::with(&config, LONG);
    for (name, rtype, rcode, answers, code) in [
        ("HOST.ads.cluster.local", 1, 0, 2, None),
        ("host.ads.cluster.local", 28, 0, 0, None),
        ("1.2.0.192.in-addr.arpa", 12, 0, 1, None),
        ("x.host.ads.cluster.local", 1, 3, 0, Some(ede::BLOCKED)),
        ("ads.cluster.local", 1, 3, 0, Some(ede::BLOCKED)),
        ("a.not.ads.cluster.local", 1, 5, 0, Some(ede::BLOCKED)),
    ] {
        for _ in 0..2 {
            let query = with_opt(query(1, name, rtype, 0x0100), false);
            let (reply, hit) = bench.ask(&query, Transport::Udp).await;
            let header = Header::read(&reply[..]).unwrap();
            assert!(hit, "{name}");
            assert_eq!(
                (header.flags.rcode(), header.records[0], explanation(&reply)),
                (rcode, answers, code),
                "{name}"
            );
        }
    }
    assert_eq!(asked.load(SeqCst), 0);
    assert_eq!((bench.count("local"), bench.count("blocked")), (6, 6));
    let other = query(1, "xads.cluster.local", 1, 0x0100);
    assert!(!bench.ask(&other, Transport::Udp).await.1);
}
