//! What a lookup tells of its way where the answer is not simply the servers' or the cache's.

use super::stale::changing;
use super::*;
use crate::config::{Blocked, BlockedAnswer, Host};
use crate::presentation::name;

/// Parts and outcomes.
fn told(lookup: &Lookup) -> Vec<(&str, &str)> {
    let steps = lookup.steps.iter();
    steps.map(|step| (&*step.part, &*step.outcome)).collect()
}

#[tokio::test]
async fn a_stale_answer_is_not_taken_for_the_servers() {
    const CAUSE: &str = "the upstream answered SERVFAIL (Extended DNS Error 0)";
    let (fake, _, says) = changing().await;
    let bench = Bench::new(&[fake.address]);
    let web = name("web.cluster.local").unwrap();
    bench.resolver.lookup(&web, 1).await;
    bench.pass(20.0);
    says.store(0x8182, SeqCst);
    let expired = format!("an answer of age 20s, expired, by {}", fake.address);
    let zone = format!("cluster.local, by {}", fake.address);
    let lookup = bench.resolver.lookup(&web, 1).await;
    assert_eq!(
        told(&lookup),
        [
            ("cache", &*expired),
            ("zone", &zone),
            ("failure", CAUSE),
            ("stale", &expired)
        ]
    );
    assert_eq!(
        (&*lookup.rcode, lookup.stale, lookup.cause.as_deref()),
        ("NOERROR", true, Some(CAUSE))
    );
    assert_eq!(lookup.server, Some(fake.address));
    // Now it is known, and nobody is asked.
    let lookup = bench.resolver.lookup(&web, 1).await;
    assert_eq!(
        told(&lookup),
        [
            ("cache", &*expired),
            ("remembered", CAUSE),
            ("stale", &expired)
        ]
    );
    assert!(lookup.stale);
}

#[tokio::test]
async fn a_failure_is_told_with_its_cause() {
    const CAUSE: &str = "no upstream could be reached (Extended DNS Error 23)";
    // Nobody listens there.
    let bench = Bench::new(&["127.0.0.1:1".parse().unwrap()]);
    let web = name("web.cluster.local").unwrap();
    for way in [
        &["cache", "zone", "failure"][..],
        &["cache", "remembered", "reply"],
    ] {
        let lookup = bench.resolver.lookup(&web, 1).await;
        let steps = told(&lookup);
        let parts: Vec<_> = steps.iter().map(|(part, _)| *part).collect();
        assert_eq!(parts, way);
        assert!(steps.iter().any(|(_, outcome)| *outcome == CAUSE));
        assert_eq!(
            (&*lookup.rcode, lookup.cause.as_deref(), lookup.server),
            ("SERVFAIL", Some(CAUSE), None)
        );
        assert!(!lookup.stale);
    }
}

#[tokio::test]
async fn what_the_configuration_decides_is_told() {
    let (fake, _) = Fake::answering().await;
    let mut config = config(&[fake.address]);
    config.hosts = vec![Host {
        name: "host.cluster.local".to_owned(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
    }];
    config.blocked = vec![Blocked {
        zone: "ads.cluster.local".to_owned(),
        answer: BlockedAnswer::NxDomain,
    }];
    let bench = Bench::with(&config, LONG);
    for (text, step) in [
        (
            "host.cluster.local",
            ("hosts", "the configuration has this name"),
        ),
        ("x.ads.cluster.local", ("blocked", "NXDOMAIN")),
    ] {
        let lookup = bench.resolver.lookup(&name(text).unwrap(), 1).await;
        assert_eq!(told(&lookup), [("cache", "nothing"), step]);
        assert_eq!((lookup.server, lookup.cause), (None, None));
    }
}

#[tokio::test]
async fn who_joins_a_query_is_told() {
    let (fake, asked) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    let web = name("web.cluster.local").unwrap();
    let lookups = tokio::join!(
        bench.resolver.lookup(&web, 1),
        bench.resolver.lookup(&web, 1)
    );
    let parts = |lookup| -> Vec<&str> { told(lookup).into_iter().map(|(part, _)| part).collect() };
    assert_eq!(parts(&lookups.0), ["cache", "zone", "upstream"]);
    assert_eq!(parts(&lookups.1), ["cache", "zone", "joined", "upstream"]);
    assert_eq!(asked.load(SeqCst), 1);
}
