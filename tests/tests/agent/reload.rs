//! Another configuration while pods ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache::metrics::names;
use dns_cache_tests::patience::{LONG, wait_until};
use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::BULK;
use dns_cache_tests::{Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Query, Transport, Way};
use serde_json::Value;

use crate::capabilities;
use crate::lookup::{json, outcome, parts, said};
use crate::metrics::Scrape;
use crate::{SetOnDrop, WEB, WEB_A, assert_web, fresh, lab_with_agent};

/// NodeLocalDNS's address; in this lab nobody else has it.
const LOCAL: &str = "169.254.20.10";

fn local() -> IpAddr {
    LOCAL.parse().or_panic(LOCAL)
}

fn with_local() -> AgentConfig {
    let mut config = AgentConfig::default();
    config.listen.push(local());
    config
}

/// The way that a lookup of a cached name takes from this pod.
fn way(lab: &Lab, agent: &Agent, pod: usize) -> Way {
    let before = agent.counters();
    assert_web(&lab.pod(pod).client(Family::V4), Transport::Connected);
    before.way(&agent.counters())
}

#[test]
fn addresses_come_and_go() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        let client = lab.pod(0).client(Family::V4);
        let there = client.clone().server(SocketAddr::new(local(), 53));
        let hasty = there.clone().timeout(Duration::from_millis(300));
        for _ in 0..2 {
            let reply = hasty.ask(Transport::Connected, &Query::new(WEB, rtype::A));
            assert!(reply.is_err(), "{reply:?}");
            agent.reload(&with_local());
            for transport in Transport::ALL {
                assert_web(&there, transport);
                assert_web(&client, transport);
            }
            agent.reload(&AgentConfig::default());
            assert_web(&client, Transport::Connected);
        }
    }
}

/// What was asked at an address that goes meanwhile is answered.
#[test]
fn last_replies_come_from_an_address_that_has_gone() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    agent.reload(&with_local());
    let there = lab.pod(0).client(Family::V4).timeout(LONG);
    let there = there.server(SocketAddr::new(local(), 53));
    assert_web(&there, Transport::Connected);
    for replica in lab.dns().replicas() {
        replica.pause();
    }
    let before = agent.counters();
    thread::scope(|scope| {
        let asked =
            scope.spawn(|| there.ask(Transport::Connected, &Query::new(&fresh(1), rtype::A)));
        let waiting = || agent.counters().resolver("misses") > before.resolver("misses");
        wait_until(|| "no query came".to_owned(), waiting);
        agent.reload(&AgentConfig::default());
        for replica in lab.dns().replicas() {
            replica.resume();
        }
        // An answer, or on a busy machine the word that there was none.
        let reply = asked
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        reply.or_panic("the query of before");
    });
}

#[test]
fn interfaces_come_and_go() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        assert_web(&lab.pod(1).client(Family::V4), Transport::Connected);
        let veth = lab.pod(1).veth();
        let mut without = AgentConfig::default();
        without.interfaces.push(format!("!{veth}"));
        agent.reload(&without);
        assert!(!agent.interfaces().iter().any(|name| name == veth));
        assert_eq!(way(&lab, &agent, 1), Way::Ordinary);
        assert_ne!(way(&lab, &agent, 0), Way::Ordinary);
        agent.reload(&AgentConfig::default());
        agent.wait_for(&[veth], LONG);
        assert_ne!(way(&lab, &agent, 1), Way::Ordinary);
    }
}

/// The file is seen without a signal. A mistake in it is told, and changes nothing.
#[test]
fn a_bad_file_is_refused_and_the_old_one_stays() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    // Taken over, refused, and whether the last one was taken over.
    let metrics = || {
        let scrape = Scrape::of(&lab);
        [
            names::RELOADS,
            names::RELOAD_FAILED,
            names::RELOAD_SUCCESSFUL,
        ]
        .map(|metric| scrape.sum(&metric, &[]))
    };
    assert_eq!(metrics(), [0.0, 0.0, 1.0]);
    agent.write_config("listen: [10.96.0.10]\ncluster: {upstreams: [x]}\n");
    agent.wait_for_reloads(0, 1);
    assert_eq!(metrics(), [0.0, 1.0, 0.0]);
    let status = agent.status().or_panic("asking for the status");
    let error = status["reload"]["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("dns-cache.yaml:2:23: cluster.upstreams[0]: \"x\""),
        "{error}"
    );
    let text = agent.command(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(
        text.contains("refused ") && text.contains("cluster.upstreams[0]"),
        "{text}"
    );
    assert!(
        agent
            .log()
            .contains("configuration refused, the old one stays")
    );
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Connected);
    }
    let other = AgentConfig {
        extra: "\ncache: {maxEntries: 500}\n".to_owned(),
        ..AgentConfig::default()
    };
    agent.configure(&other);
    agent.wait_for_reloads(1, 1);
    assert_eq!(metrics(), [1.0, 1.0, 1.0]);
    let status = agent.status().or_panic("asking for the status");
    assert!(status["reload"]["error"].is_null(), "{status:#}");
    assert_eq!(status["reload"]["needs_restart"][0], "cache");
}

/// The kernel does not let an address go: then nothing else of the new file is in force either.
#[test]
fn what_the_kernel_refuses_changes_nothing() {
    const MAP_DELETE_ELEM: u32 = 3;
    let lab = Lab::builder().start();
    let config = AgentConfig {
        binary: Some(capabilities::without(&lab, MAP_DELETE_ELEM)),
        ..with_local()
    };
    let agent = lab.agent(&config);
    let client = lab.pod(0).client(Family::V4);
    let there = client.clone().server(SocketAddr::new(local(), 53));
    agent.configure(&AgentConfig {
        extra: format!("\nhosts:\n- {{name: {WEB}, addresses: [192.0.2.7]}}\n"),
        ..AgentConfig::default()
    });
    agent.wait_for_reloads(0, 1);
    for transport in Transport::ALL {
        assert_web(&client, transport);
        assert_web(&there, transport);
    }
    assert!(
        !agent.log().contains("not wholly in force"),
        "{}",
        agent.log()
    );
}

/// What other servers would be asked for now is flushed; the rest stays.
#[test]
fn zones_change_and_others_keep_their_cache() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V6);
    let outside = || client.lookup("www.example.com", rtype::A).data();
    assert_web(&client, Transport::Connected);
    assert_eq!(outside(), ["A 198.51.100.2"]);
    // From now on by the cluster's servers, which forward it.
    let mut config = AgentConfig::default();
    let servers = vec![lab.dns().endpoints()[0].dns(Family::V4)];
    config.zones = vec![("example.com".to_owned(), servers)];
    agent.reload(&config);
    let asked = agent.counters().resolver("misses");
    assert_web(&client, Transport::Connected);
    assert_eq!(agent.counters().resolver("misses"), asked);
    assert_eq!(outside(), ["A 198.51.100.2"]);
    assert_eq!(agent.counters().resolver("misses"), asked + 1);
    // The same once more is no change.
    agent.reload(&config);
    assert_eq!(outside(), ["A 198.51.100.2"]);
    assert_eq!(agent.counters().resolver("misses"), asked + 1);
}

/// The servers of a zone and the cuts change while pods ask. A lookup by the command looks into both caches before it
/// uses them: nobody else asks for what is looked at.
#[test]
fn forward_rules_and_cuts_change_under_load() {
    const OUTSIDE: &str = "www.example.com";
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let lookup = |name: &str| json(&agent, &["lookup", name]);
    let below = |number: u32| format!("a.b{number}.com.default.svc.cluster.local");
    let is_cached = |lookup: &Value| {
        parts(lookup) == ["kernel", "cache", "reply"]
            && (0..2).all(|step| outcome(lookup, step).contains("s to go"))
    };
    let server = lab.dns().endpoints()[0].dns(Family::V4);
    let changed = AgentConfig {
        cluster: "  nxdomainCut: false\n".to_owned(),
        zones: vec![("example.com".to_owned(), vec![server])],
        ..AgentConfig::default()
    };
    let cut_way = ["kernel", "kernel cut", "cache", "cut", "reply"];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for transport in [Transport::Connected, Transport::Tcp] {
            let (lab, over) = (&lab, &over);
            scope.spawn(move || {
                let client = lab.pod(1).client(Family::V6);
                for number in (0..BULK).cycle() {
                    let missing = format!("x.y{number}.com.svc.cluster.local");
                    for (name, rcode) in [
                        (&*fresh(number), 0),
                        ("mail.example.com", 0),
                        (&*missing, 3),
                    ] {
                        let reply = client.ask(transport, &Query::new(name, rtype::A));
                        let reply = reply.or_panic(format_args!("{name} by {transport:?}"));
                        assert_eq!(reply.message.rcode(), rcode, "{name} by {transport:?}");
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let _ends = SetOnDrop(&over);
        let mut number = 0;
        for (config, cuts) in [
            (&changed, true),
            (&AgentConfig::default(), false),
            (&changed, true),
        ] {
            // In both caches for a while, and the cut as well where there is one.
            said(&agent, &["cache", "flush"]);
            let end = Instant::now() + Duration::from_secs(20);
            let mut last;
            loop {
                number += 1;
                last = [WEB, OUTSIDE, &below(number)].map(lookup);
                let [web, outside, below] = &last;
                if is_cached(web) && is_cached(outside) && (parts(below) == cut_way) == cuts {
                    break;
                }
                assert!(Instant::now() < end, "{last:#?}");
            }
            agent.reload(config);
            let outside = lookup(OUTSIDE);
            assert_eq!(outcome(&outside, 0), "nothing", "{outside:#}");
            assert_eq!(outcome(&outside, 1), "nothing", "{outside:#}");
            let zone = if cuts { "example.com, by " } else { "., by " };
            assert!(outcome(&outside, 2).starts_with(zone), "{outside:#}");
            let web = lookup(WEB);
            assert!(is_cached(&web), "{web:#}");
            number += 1;
            let below = lookup(&below(number));
            let way = ["kernel", "cache", "zone", "upstream"];
            assert_eq!(parts(&below), way, "{below:#}");
        }
    });
    assert_eq!(agent.reloads(), (3, 0));
    lab.node().conntrack().assert_no_pod_dns();
}

/// A host hides what was cached for its name, in the kernel too; without it the name is the cluster's again.
#[test]
fn hosts_come_and_go() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let missing = "a.b.missing.svc.cluster.local";
    let config = AgentConfig {
        extra: format!(
            "\nhosts:\n- {{name: {WEB}, addresses: [192.0.2.7]}}\n- {{name: {missing}, addresses: [192.0.2.8]}}\n"
        ),
        ..AgentConfig::default()
    };
    for _ in 0..2 {
        for _ in 0..3 {
            assert_web(&client, Transport::Connected);
            assert_eq!(client.lookup(missing, rtype::A).rcode(), 3);
        }
        agent.reload(&config);
        for _ in 0..3 {
            assert_eq!(client.lookup(WEB, rtype::A).data(), ["A 192.0.2.7"]);
            assert_eq!(client.lookup(missing, rtype::A).data(), ["A 192.0.2.8"]);
            let _ = client.lookup("c.b.missing.svc.cluster.local", rtype::A);
        }
        agent.reload(&AgentConfig::default());
    }
    assert_web(&client, Transport::Connected);
}

/// One lookup after the other, by both transports, cached and not, through twenty reloads.
#[test]
fn no_lookup_is_lost() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (transport, first) in [(Transport::Connected, 0), (Transport::Tcp, 500)] {
            let (lab, over) = (&lab, &over);
            scope.spawn(move || {
                let client = lab.pod(0).client(Family::V4);
                let mut number = first;
                while !over.load(Ordering::Relaxed) {
                    let message = assert_web(&client, transport);
                    assert_eq!(message.data(), [WEB_A]);
                    let query = Query::new(&fresh(number), rtype::A);
                    let reply = client.ask(transport, &query);
                    let reply = reply.or_panic(format_args!("lookup {number} by {transport:?}"));
                    assert_eq!(reply.message.answers.len(), 1);
                    number = first + (number + 1 - first) % 500;
                }
            });
        }
        for n in 0..20 {
            let mut config = if n % 2 == 0 {
                with_local()
            } else {
                AgentConfig::default()
            };
            if n % 3 == 0 {
                // The other replica alone.
                config.upstreams = vec![lab.dns().endpoints()[1].dns(Family::V4)];
            }
            agent.reload(&config);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(agent.reloads(), (20, 0));
    lab.node().conntrack().assert_no_pod_dns();
}
