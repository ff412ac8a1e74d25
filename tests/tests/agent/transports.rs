//! Upstreams over TLS and UDP, with real servers.

use std::time::Duration;

use dns_cache::metrics::names;
use dns_cache_tests::wire::{flag, rtype};
use dns_cache_tests::zones::{HUGE, TYPES_WITH_ANSWERS};
use dns_cache_tests::{Agent, AgentConfig, Family, Lab, OrPanic, Query, Transport, unbound};

use crate::metrics::Scrape;

/// An agent that asks Unbound in the second pod for `corp.example`, over TLS to this name.
fn over_tls(lab: &Lab, family: Family, name: &str) -> Agent {
    let server = lab.pod(1).addresses().socket(family, 853);
    let authority = unbound::certificates().join("ca.pem");
    lab.agent(&AgentConfig {
        extra: format!(
            "zones:\n  - zone: corp.example\n    upstreams: [\"{server}\"]\n    transport: tls\n    \
             tls: {{serverName: {name}, caFile: {authority:?}}}\n"
        ),
        ..AgentConfig::default()
    })
}

const RECORDS: [&str; 2] = [
    "db.corp.example. 30 IN A 192.0.2.7",
    "web.corp.example. 30 IN AAAA 2001:db8::7",
];

#[test]
fn dns_over_tls_to_unbound() {
    for family in Family::BOTH {
        let lab = Lab::builder().start();
        let address = lab.pod(1).address(family);
        let server = unbound::start(lab.pod(1).netns(), address, &RECORDS);
        let agent = over_tls(&lab, family, unbound::NAME);
        let client = lab.pod(0).client(family);
        for (name, rtype, data) in [
            ("db.corp.example", rtype::A, "A 192.0.2.7"),
            ("web.corp.example", rtype::AAAA, "AAAA 2001:db8::7"),
        ] {
            assert_eq!(client.lookup(name, rtype).data(), [data]);
        }
        assert_eq!(client.lookup("none.corp.example", rtype::A).rcode(), 3);
        let status = &agent.upstreams("corp.example")[0];
        assert!(status["connections"].as_u64() >= Some(1), "{status:#}");
        // A new handshake when the server is another.
        drop(server);
        let _server = unbound::start(lab.pod(1).netns(), address, &RECORDS);
        assert_eq!(client.lookup("more.corp.example", rtype::A).rcode(), 3);
    }
}

#[test]
fn a_certificate_for_another_name_is_no_answer() {
    let lab = Lab::builder().start();
    let address = lab.pod(1).address(Family::V4);
    let _server = unbound::start(lab.pod(1).netns(), address, &RECORDS);
    let agent = over_tls(&lab, Family::V4, "other.example");
    let client = lab
        .pod(0)
        .client(Family::V4)
        .timeout(Duration::from_secs(5));
    let query = Query::new("db.corp.example", rtype::A);
    let reply = client.ask(Transport::Connected, &query);
    assert_eq!(reply.or_panic("SERVFAIL in time").message.rcode(), 2);
    assert!(
        agent.log().contains("no TLS with an upstream"),
        "{}",
        agent.log()
    );
}

/// CoreDNS over UDP: every type, and what does not fit into a datagram comes over TCP.
#[test]
fn plain_udp_to_coredns() {
    let lab = Lab::builder().start();
    let replicas = lab.dns().endpoints();
    let servers: Vec<_> = replicas
        .iter()
        .map(|pair| format!("\"{}\"", pair.dns(Family::V4)))
        .collect();
    let agent = lab.agent(&AgentConfig {
        extra: format!(
            "transport: udp\nzones:\n  - zone: types.svc.cluster.local\n    upstreams: [{}]\n    transport: udp\n",
            servers.join(", ")
        ),
        ..AgentConfig::default()
    });
    let client = lab.pod(0).client(Family::V4);
    for (name, rtype) in TYPES_WITH_ANSWERS {
        let query = Query::new(&format!("{name}.types.svc.cluster.local"), rtype);
        let message = client.ask(Transport::Tcp, &query).or_panic(name).message;
        assert!(
            !message.answers.is_empty() && !message.has(flag::TC),
            "{name}"
        );
        if name == "huge" {
            assert_eq!(message.answers.len(), usize::from(HUGE));
        }
    }
    let outside = client.lookup("www.example.com", rtype::A);
    assert_eq!(outside.data(), ["A 198.51.100.2"]);
    // TCP only for what was truncated.
    let servers = agent.upstreams("types.svc.cluster.local");
    let sum = |key: &str| {
        servers
            .iter()
            .filter_map(|server| server[key].as_u64())
            .sum::<u64>()
    };
    assert!(sum("connections") >= 1 && sum("queries") as usize > TYPES_WITH_ANSWERS.len());
    assert_eq!(sum("failures"), 0, "{servers:#?}");
    let scraped = Scrape::of(&lab);
    for proto in ["proto=\"udp\"", "proto=\"tcp\""] {
        let opened = scraped.sum(&names::PROXY_CONN_MISSES, &[proto]);
        assert!(opened > 0.0, "{proto}");
    }
    assert_eq!(agent.upstreams(".")[0]["connections"], 0);
}
