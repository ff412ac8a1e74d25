//! NXDOMAIN cuts hide no name that exists, and end a search list on the node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dns_cache_tests::patience::LONG;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Family, Flavour, Query, Transport, zones};

use crate::lab_with_agent;

const ZONE: &str = "cluster.local";

/// Every name of the cluster's zone file that is no wildcard, with its type.
fn existing() -> BTreeSet<(String, u16)> {
    let mut origin = String::new();
    let mut names = BTreeSet::new();
    for line in zones::rich()[0].text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["$ORIGIN", name] = words[..] {
            origin = format!(".{}", name.trim_end_matches('.'));
        }
        let Some(class) = words.iter().position(|word| *word == "IN") else {
            continue;
        };
        let rtype = match words[class + 1] {
            "A" => rtype::A,
            "AAAA" => rtype::AAAA,
            "SRV" => rtype::SRV,
            "CNAME" => rtype::CNAME,
            "TXT" => rtype::TXT,
            _ => continue,
        };
        // The many services are all alike.
        if !words[0].contains('*') && !words[0].starts_with("svc-") && words[0] != "@" {
            names.insert((format!("{}{origin}", words[0]), rtype));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

/// The names above this one within the zone.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.')
        .map(|(dot, _)| &name[dot + 1..])
        .take_while(|above| above.ends_with(ZONE))
}

#[test]
fn no_existing_name_is_hidden() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    for (n, (name, rtype)) in existing().into_iter().enumerate() {
        // All that could lead to a cut above it: the names there, and names beside it that do not exist.
        for above in above(&name) {
            let _ = client.lookup(above, rtype::A);
            for deeper in [format!("nope{n}.{above}"), format!("a.nope{n}.{above}")] {
                let _ = client.lookup(&deeper, rtype::A);
                // The kernel's answer, and the resolver's.
                let deepest = Query::new(&format!("b.{deeper}"), rtype);
                for transport in [Transport::Connected, Transport::Tcp] {
                    let _ = client.ask(transport, &deepest);
                }
            }
        }
        let query = Query::new(&name, rtype);
        for transport in [Transport::Connected, Transport::Tcp] {
            let message = client.ask(transport, &query).unwrap().message;
            assert_eq!(message.rcode(), 0, "{name} {rtype}");
            // A large one may be truncated to nothing over UDP.
            let whole = transport == Transport::Tcp;
            assert!(!whole || !message.answers.is_empty(), "{name} {rtype}");
        }
    }
    let counters = agent.counters();
    assert!(counters.resolver("cuts") > 0, "no cut was ever used");
    assert!(counters.datapath("cache_cuts") > 0, "none in the kernel");
}

#[test]
fn a_search_list_costs_the_upstream_next_to_nothing() {
    const LOOKUPS: u64 = 200;
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let asked = || {
        let upstreams = agent.status().unwrap()["resolver"]["upstreams"].clone();
        let upstreams = upstreams.as_array().unwrap().iter();
        upstreams
            .filter(|upstream| upstream["zone"] == ZONE)
            .map(|upstream| upstream["queries"].as_u64().unwrap())
            .sum::<u64>()
    };
    let search = |host: &str| {
        for domain in ["default.svc.cluster.local", "svc.cluster.local", ZONE] {
            for rtype in [rtype::A, rtype::AAAA] {
                assert_eq!(client.lookup(&format!("{host}.{domain}"), rtype).rcode(), 3);
            }
        }
    };
    search("warm.com");
    search("again.com");
    let before = asked();
    for n in 0..LOOKUPS {
        search(&format!("host{n}.com"));
    }
    let each = (asked() - before) as f64 / LOOKUPS as f64;
    assert!(
        each < 0.2,
        "{each} upstream queries a lookup, of 6 without cuts"
    );
}

/// Of the five lookups of `google.com` in a pod only the last one leaves the kernel, until a flush.
#[test]
fn a_search_list_ends_in_the_kernel() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    // Packets that left the kernel for one application's lookup.
    let search = |host: &str| {
        let before = agent.counters();
        for domain in ["default.svc.cluster.local", "svc.cluster.local", ZONE] {
            for rtype in [rtype::A, rtype::AAAA] {
                assert_eq!(client.lookup(&format!("{host}.{domain}"), rtype).rcode(), 3);
            }
        }
        before.resolved(&agent.counters())
    };
    let warm = |what: &str| {
        let end = Instant::now() + LONG;
        let mut number = 0;
        while search(&format!("{what}{number}.com")) > 0 {
            assert!(Instant::now() < end, "the kernel never answers all");
            number += 1;
        }
    };
    warm("first");
    // Longer than the negative TTL: cuts in use are refreshed.
    let end = Instant::now() + Duration::from_secs(7);
    let (mut lookups, mut left) = (0, 0);
    // So many, too, that a refresh is a small part of them.
    while Instant::now() < end || lookups < 200 {
        left += search(&format!("host{lookups}.com"));
        lookups += 1;
    }
    assert!(
        left * 5 < lookups,
        "{left} packets of {lookups} lookups left the kernel"
    );
    // What was flushed is not given any more: a name, whose cut is above it, its zone, and everything.
    for args in [
        &[
            "cache",
            "flush",
            "--exact",
            "x.com.default.svc.cluster.local",
        ][..],
        &["cache", "flush", "svc.cluster.local"],
        &["cache", "flush"],
    ] {
        warm("again");
        let said = agent.command(args);
        assert!(said.status.success(), "{said:?}");
        assert!(search("x.com") > 0, "{args:?}");
    }
}
