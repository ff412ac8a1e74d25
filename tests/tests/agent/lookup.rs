//! `dns-cache lookup` and `dns-cache upstreams`: what an agent answers, and whom it asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::{Agent, Family, Flavour, OrPanic, Pair};
use serde_json::Value;

use crate::{WEB, WEB_A, lab_with_agent};

pub(crate) fn said(agent: &Agent, args: &[&str]) -> String {
    let output = agent.command(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn json(agent: &Agent, args: &[&str]) -> Value {
    let text = said(agent, &[args, &["--output", "json"]].concat());
    serde_json::from_str(&text).or_panic(format_args!("reading {text}"))
}

/// The parts of the way that a lookup went.
pub(crate) fn parts<'a>(lookup: &'a Value) -> Vec<&'a str> {
    let steps = lookup["steps"].as_array().or_panic("no steps");
    let part = |step: &'a Value| step["part"].as_str().unwrap_or_default();
    steps.iter().map(part).collect()
}

/// What one of them said.
pub(crate) fn outcome(lookup: &Value, step: usize) -> &str {
    lookup["steps"][step]["outcome"]
        .as_str()
        .or_panic(format_args!("{lookup:#}"))
}

#[test]
fn a_lookup_tells_its_way() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let first = json(&agent, &["lookup", WEB]);
    let way = ["kernel", "cache", "zone", "upstream"];
    assert_eq!(parts(&first), way, "{first:#}");
    assert_eq!(first["rcode"], "NOERROR");
    let record = first["records"][0].as_str().unwrap_or_default();
    assert!(record.ends_with(&format!(" IN {WEB_A}")), "{first:#}");
    assert!(first["micros"].as_u64().is_some_and(|micros| micros > 0));
    let replicas = lab.dns().endpoints();
    let replica = |pair: &Pair| first["server"] == pair.dns(Family::V4).to_string();
    assert!(replicas.iter().any(replica), "{first:#}");
    let asked = agent.counters().resolver("misses");
    // It is the pods' own cache.
    assert_eq!(lab.pod(0).client(Family::V4).lookup(WEB, 1).data(), [WEB_A]);
    assert_eq!(agent.counters().resolver("misses"), asked);
    let second = json(&agent, &["lookup", WEB, "A"]);
    assert_eq!(parts(&second), ["kernel", "cache", "reply"], "{second:#}");
    assert_eq!(second["server"], first["server"]);

    let text = said(&agent, &["lookup", "www.example.com", "AAAA", "--trace"]);
    assert!(
        text.starts_with("www.example.com AAAA: NOERROR in "),
        "{text}"
    );
    assert!(
        text.contains("2001:db8:80::2") && text.contains("zone"),
        "{text}"
    );
    let wrong = agent.command(&["lookup", WEB, "NOTYPE"]);
    assert!(!wrong.status.success(), "{wrong:?}");
}

/// Before both caches have the cut, and when its five seconds are over, another step is there.
#[test]
fn a_lookup_names_the_cut_in_the_kernel() {
    let (_lab, agent) = lab_with_agent(Flavour::Routed);
    let end = Instant::now() + Duration::from_secs(20);
    let way = ["kernel", "kernel cut", "cache", "cut", "reply"];
    let cut = "there is nothing below com.default.svc.cluster.local";
    for number in 0.. {
        let name = format!("host{number}.com.default.svc.cluster.local");
        let lookup = json(&agent, &["lookup", &name]);
        assert_eq!(lookup["rcode"], "NXDOMAIN", "{lookup:#}");
        if parts(&lookup) == way {
            let by_kernel = outcome(&lookup, 1);
            assert!(
                by_kernel.starts_with(&format!("{cut}: an answer of age ")),
                "{lookup:#}"
            );
            assert_eq!(outcome(&lookup, 3), cut, "{lookup:#}");
            let above = json(
                &agent,
                &["cache", "get", "com.default.svc.cluster.local", "A"],
            );
            assert_eq!(above["entries"][0]["cut"], true, "{above:#}");
            let above = said(&agent, &["cache", "ls", "com.default.svc.cluster.local"]);
            assert!(above.contains(" CUT "), "{above}");
            return;
        }
        assert!(Instant::now() < end, "{lookup:#}");
    }
}

#[test]
fn top_shows_what_happens() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let over = AtomicBool::new(false);
    let frame = thread::scope(|scope| {
        scope.spawn(|| {
            let client = lab.pod(0).client(Family::V4);
            while !over.load(Ordering::Relaxed) {
                let _ = client.lookup(WEB, 1);
            }
        });
        let frame = json(&agent, &["top", "--interval", "1", "--count", "1"]);
        over.store(true, Ordering::Relaxed);
        frame
    });
    let qps = |key: &str| frame[key].as_f64().or_panic(key.to_owned());
    assert!(qps("kernel_qps") + qps("userspace_qps") > 0.0, "{frame:#}");
    assert!(
        frame["hit_ratio"].as_f64().is_some_and(|hits| hits > 0.5),
        "{frame:#}"
    );
    assert_eq!(
        frame["pods"][0]["interface"],
        lab.pod(0).veth(),
        "{frame:#}"
    );
    assert!(
        frame["pods"][0]["qps"]
            .as_f64()
            .is_some_and(|qps| qps > 0.0),
        "{frame:#}"
    );
    let text = said(&agent, &["top", "--interval", "1", "--count", "1"]);
    assert!(text.starts_with("queries/s "), "{text}");
}

#[test]
fn upstreams_are_listed_by_zone() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let servers = json(&agent, &["upstreams"]);
    let servers = servers.as_array().or_panic("no list");
    for pair in lab.dns().endpoints() {
        let address = pair.dns(Family::V4).to_string();
        assert!(
            servers
                .iter()
                .any(|server| server["zone"] == "cluster.local" && server["address"] == address),
            "{servers:#?}"
        );
    }
    assert!(servers.iter().any(|server| server["zone"] == "."));
    assert!(said(&agent, &["upstreams"]).contains("cluster.local"));
}
