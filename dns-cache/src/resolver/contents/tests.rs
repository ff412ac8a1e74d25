use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use tokio::sync::Semaphore;

use super::*;
use crate::presentation::name;
use crate::resolver::Transport;
use crate::resolver::tests::{Bench, query};
use crate::upstream::fake::{self, Fake};

fn zone(text: &str) -> Selection {
    Selection::Zone(name(text).unwrap())
}

fn one(text: &str) -> Selection {
    Selection::Name(name(text).unwrap())
}

#[test]
fn a_zone_is_a_name_and_all_below_it() {
    let svc = zone("svc.cluster.local");
    for (text, meant) in [
        ("svc.cluster.local", true),
        ("a.b.svc.cluster.local", true),
        ("xsvc.cluster.local", false),
        ("cluster.local", false),
        (".", false),
        ("svc.cluster.local.example", false),
    ] {
        assert_eq!(svc.means(&name(text).unwrap()), meant, "{text}");
    }
    assert!(zone(".").means(b"\0") && zone(".").means(b"\x01a\0"));
    let ab = one("a.b");
    assert!(ab.means(b"\x01a\x01b\0") && !ab.means(b"\x01b\0"));
    assert!(!ab.means(b"\x01x\x01a\x01b\0"));
}

#[tokio::test]
async fn what_is_cached_is_listed() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    for (text, flags) in [("web", 0x0100), ("WEB", 0x0110), ("db.ns", 0x0100)] {
        let name = format!("{text}.cluster.local");
        bench.ask(&query(1, &name, 1, flags), Transport::Udp).await;
    }
    bench.pass(5.0);
    let listing = bench.resolver.cached(&Selection::All, None, 10);
    let shown: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.checking_disabled))
        .collect();
    assert_eq!(
        shown,
        [
            ("db.ns.cluster.local", false),
            ("web.cluster.local", false),
            ("web.cluster.local", true)
        ]
    );
    for entry in &listing.entries {
        assert_eq!((&*entry.rtype, &*entry.rcode), ("A", "NOERROR"));
        assert_eq!((entry.ttl_seconds, entry.age_seconds), (15, 5));
        assert!(entry.bytes > 500 && entry.records.is_empty());
    }
    assert_eq!(bench.resolver.cached(&Selection::All, None, 2).more, 1);
    assert_eq!(
        bench
            .resolver
            .cached(&zone("ns.cluster.local"), None, 9)
            .entries
            .len(),
        1
    );
    let web = one("web.cluster.local");
    assert_eq!(bench.resolver.cached(&web, Some(28), 9), Listing::default());
    let found = bench.resolver.cached(&web, Some(1), 9).entries;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].records, ["web.cluster.local. 15 IN A 10.0.0.1"]);
}

#[tokio::test]
async fn what_is_given_most_often_is_listed_first() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    for (name, lookups) in [("a", 2), ("b", 4), ("c", 1), ("d", 5), ("e", 3)] {
        let name = format!("{name}.cluster.local");
        for _ in 0..lookups {
            bench.ask(&query(1, &name, 1, 0x0100), Transport::Udp).await;
        }
    }
    for (limit, shown) in [(1, "d"), (2, "db"), (3, "dbe"), (9, "dbeac")] {
        let listing = bench.resolver.cached(&Selection::All, None, limit);
        let first = |entry: &Cached| entry.name.chars().next();
        let names: String = listing.entries.iter().filter_map(first).collect();
        assert_eq!((&*names, listing.more), (shown, 5 - shown.len() as u64));
    }
}

#[tokio::test]
async fn a_flush_takes_out_what_is_meant() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    for (names, left) in [
        (
            one("b.cluster.local"),
            vec!["a.b.cluster.local", "c.cluster.local"],
        ),
        (zone("b.cluster.local"), vec!["c.cluster.local"]),
        (Selection::All, vec![]),
    ] {
        for name in ["b.cluster.local", "a.b.cluster.local", "c.cluster.local"] {
            bench.ask(&query(1, name, 1, 0x0100), Transport::Udp).await;
        }
        assert_eq!(bench.resolver.flush(&names).entries, 3 - left.len() as u64);
        assert_eq!(bench.resolver.flush(&names).entries, 0);
        let listing = bench.resolver.cached(&Selection::All, None, 10).entries;
        let listed: Vec<_> = listing.into_iter().map(|entry| entry.name).collect();
        assert_eq!(listed, left);
    }
}

/// An answer that was on its way reaches those who waited for it, nobody else, and is not kept.
#[tokio::test]
async fn a_flush_lets_nothing_old_in() {
    let (arrived, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gates = (Arc::clone(&arrived), Arc::clone(&release));
    let last = Arc::new(AtomicU8::new(0));
    let fake = Fake::start(move |mut stream, _| {
        let ((arrived, release), last) = (gates.clone(), Arc::clone(&last));
        async move {
            while let Some(query) = fake::read(&mut stream).await {
                let mut response = fake::address(&query);
                let octet = response.last_mut().unwrap();
                *octet = last.fetch_add(1, SeqCst) + 1;
                let old = *octet == 1;
                arrived.add_permits(1);
                if old {
                    release.acquire().await.unwrap().forget();
                }
                fake::write(&mut stream, &response).await;
            }
        }
    })
    .await;
    let bench = Bench::new(&[fake.address]);
    let web = query(1, "web", 1, 0x0100);
    let ask = || async {
        let (reply, hit) = bench.ask(&web, Transport::Udp).await;
        (*reply.last().unwrap(), hit)
    };
    let flushed_meanwhile = async {
        arrived.acquire().await.unwrap().forget();
        bench.resolver.flush(&Selection::All);
        // It starts a question of its own, which waits behind the old one on the connection.
        let later = async {
            let later = ask().await;
            assert_eq!(later, (2, false));
        };
        tokio::join!(later, async { release.add_permits(1) });
    };
    let (first, ()) = tokio::join!(ask(), flushed_meanwhile);
    assert_eq!(first, (1, false));
    assert_eq!(ask().await, (2, true));
}
