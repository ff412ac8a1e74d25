//! `dns-cache cache`: what is cached is shown, and taken out.

use std::time::Instant;

use dns_cache_tests::patience::LONG;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Agent, AgentConfig, Family, Flavour, OrPanic, Transport};
use serde_json::Value;

use crate::{WEB, assert_web, lab_with_agent};

/// What the agent says to `dns-cache cache …`, as JSON.
fn cache(agent: &Agent, args: &[&str]) -> Value {
    let text = said(agent, &[args, &["--output", "json"]].concat());
    serde_json::from_str(&text).or_panic(format_args!("reading {text}"))
}

fn said(agent: &Agent, args: &[&str]) -> String {
    let output = agent.command(&[&["cache"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Name and type of what `cache ls` lists.
fn listed(agent: &Agent, zone: &[&str]) -> Vec<String> {
    let listing = cache(agent, &[&["ls"], zone].concat());
    let entries = listing["entries"].as_array().or_panic("no entries");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| format!("{} {}", text(entry, "name"), text(entry, "type")))
        .collect()
}

#[test]
fn what_is_cached_is_shown_and_flushed() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    // The names above those of the cluster are asked about as well; outside it is listed what was asked for.
    let fill = || {
        let _ = client.lookup(WEB, rtype::A);
        let _ = client.lookup("www.example.com", rtype::A);
        let _ = client.lookup("www.example.com", rtype::AAAA);
        let _ = client.lookup("nothing.example.com", rtype::A);
    };
    fill();
    let outside = [
        "nothing.example.com A",
        "www.example.com A",
        "www.example.com AAAA",
    ];
    assert_eq!(listed(&agent, &["EXAMPLE.com."]), outside);
    assert!(listed(&agent, &[]).len() > outside.len());
    assert_eq!(cache(&agent, &["ls", "com", "--limit", "1"])["more"], 2);

    let found = cache(&agent, &["get", WEB, "A"]);
    let entry = &found["entries"][0];
    assert_eq!(entry["rcode"], "NOERROR");
    let (ttl, age) = (entry["ttl_seconds"].as_u64(), entry["age_seconds"].as_u64());
    assert!(
        ttl.zip(age).is_some_and(|(ttl, age)| ttl + age <= 30),
        "{found:#}"
    );
    let record = entry["records"][0].as_str().unwrap_or_default();
    assert!(record.ends_with(" IN A 10.96.10.10"), "{found:#}");
    // Whoever gave an answer again, kernel or resolver, has it counted.
    let before = agent.counters();
    let mut again = 1;
    let _ = assert_web(&client, Transport::Tcp);
    let end = Instant::now() + LONG;
    while before.answered(&agent.counters()) == 0 {
        assert!(Instant::now() < end, "the kernel does not answer");
        let _ = assert_web(&client, Transport::Connected);
        again += 1;
    }
    let found = cache(&agent, &["get", WEB, "A"]);
    let count = |key: &str| found["entries"][0][key].as_u64().or_panic("a count");
    assert!(count("hits") > 0 && count("kernel_hits") > 0, "{found:#}");
    assert_eq!(count("hits") + count("kernel_hits"), again, "{found:#}");
    let text = said(&agent, &["ls"]);
    assert!(text.contains("NXDOMAIN") && text.contains(WEB), "{text}");

    let flush = ["flush", "--exact", "www.example.com"];
    assert_eq!(cache(&agent, &flush)["entries"], 2);
    assert_eq!(listed(&agent, &["example.com"]), outside[..1]);
    assert_eq!(cache(&agent, &["flush", "example.com"])["entries"], 1);
    assert!(listed(&agent, &["example.com"]).is_empty());
    assert!(!listed(&agent, &["cluster.local"]).is_empty());
    fill();
    let text = said(&agent, &["flush"]);
    assert!(text.starts_with("flushed "), "{text}");
    assert!(listed(&agent, &[]).is_empty());
    let output = agent.command(&["cache", "flush", "a..b"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("empty label"),
        "{error}"
    );
}

/// After a restart: all that there is.
#[test]
fn what_only_the_kernel_has_is_shown_as_well() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let before = agent.counters();
    while before.answered(&agent.counters()) == 0 {
        let _ = assert_web(&client, Transport::Connected);
    }
    agent.kill9();
    let agent = lab.agent(&AgentConfig::default());
    let found = cache(&agent, &["get", WEB, "A"]);
    let entry = &found["entries"][0];
    assert_eq!(entry["hits"], Value::Null, "{found:#}");
    let record = entry["records"][0].as_str().unwrap_or_default();
    let (ttl, data) = (entry["ttl_seconds"].as_u64(), " IN A 10.96.10.10");
    let ttl = ttl.or_panic(format_args!("{found:#}"));
    // As a client gets it, by whole seconds of age; what is left of it is rounded down.
    let shown = [ttl, ttl + 1].map(|ttl| format!("{WEB}. {ttl}{data}"));
    assert!(shown.iter().any(|shown| shown == record), "{found:#}");
    let text = said(&agent, &["get", WEB, "A"]);
    assert!(text.contains(data), "{text}");
}

/// A service whose address changed is served by the new one from the flush on.
#[test]
fn after_a_flush_the_cluster_dns_is_asked_again() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V6);
    for _ in 0..3 {
        let asked = agent.counters().resolver("misses");
        let _ = client.lookup(WEB, rtype::A);
        let _ = client.lookup(WEB, rtype::A);
        assert_eq!(agent.counters().resolver("misses"), asked + 1);
        let _ = cache(&agent, &["flush", WEB]);
    }
}
