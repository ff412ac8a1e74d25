//! A resolver in a pod of this node that forwards to the address which the agent answers at, and which the agent asks.

use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Family, Lab, OrPanic, Process, Query, Transport, addresses, coredns,
};
use serde_json::Value;

/// CoreDNS in the second pod, which forwards everything to `to`, and an agent that asks it for everything else.
fn start(lab: &Lab, to: std::net::SocketAddr) -> (Process, Agent) {
    let netns = lab.pod(1).netns();
    let resolver = coredns::start(netns, "forwarder", &[], Some(to));
    let server = lab.pod(1).addresses().dns(Family::V4);
    let agent = lab.agent(&AgentConfig {
        zones: vec![(".".to_owned(), vec![server])],
        ..AgentConfig::default()
    });
    (resolver, agent)
}

fn loops(agent: &Agent) -> Vec<Value> {
    let status = agent.status().or_panic("asking for the status");
    let loops = status.pointer("/resolver/loops").and_then(Value::as_array);
    loops.or_panic("no loops in the status").clone()
}

#[test]
fn a_loop_is_found_told_and_ended() {
    let lab = Lab::builder().start();
    let (resolver, agent) = start(&lab, addresses::CLUSTER_IP.dns(Family::V4));
    let end = Instant::now() + Duration::from_secs(20);
    while loops(&agent).is_empty() {
        assert!(Instant::now() < end, "no loop is found:\n{}", agent.log());
        thread::sleep(Duration::from_millis(20));
    }
    let address = lab.pod(1).address(Family::V4).to_string();
    let found = &loops(&agent)[0];
    assert_eq!(
        (&found["zone"], &found["client"]),
        (&".".into(), &address.clone().into())
    );
    assert!(
        agent.log().contains(&format!("came back from {address}")),
        "{}",
        agent.log()
    );

    // No query goes round until its time is over.
    let client = lab.pod(0).client(Family::V4);
    let reply = client.ask(
        Transport::Connected,
        &Query::new("www.example.com", rtype::A),
    );
    let reply = reply.or_panic("an error at once");
    assert!([2, 5].contains(&reply.message.rcode()), "{}", reply.message);
    assert!(reply.time < Duration::from_secs(1), "{:?}", reply.time);
    // The cluster's names are none of it, for that client neither.
    for pod in lab.pods() {
        crate::assert_web(&pod.client(Family::V4), Transport::Connected);
    }

    // Mended, the forwarder is served again without anybody's doing.
    drop(resolver);
    let outside = Some(addresses::OUTSIDE.dns(Family::V4));
    let _resolver = coredns::start(lab.pod(1).netns(), "forwarder", &[], outside);
    let end = Instant::now() + Duration::from_secs(180);
    while !loops(&agent).is_empty() {
        assert!(
            Instant::now() < end,
            "the loop never ends:\n{}",
            agent.log()
        );
        thread::sleep(Duration::from_millis(100));
    }
    let forwarder = lab.pod(1).client(Family::V4);
    assert_eq!(
        forwarder.lookup("www.example.com", rtype::A).data(),
        ["A 198.51.100.2"]
    );
}

#[test]
fn a_resolver_that_forwards_elsewhere_is_none() {
    let lab = Lab::builder().start();
    let (_resolver, agent) = start(&lab, addresses::OUTSIDE.dns(Family::V4));
    let client = lab.pod(0).client(Family::V4);
    assert_eq!(
        client.lookup("www.example.com", rtype::A).data(),
        ["A 198.51.100.2"]
    );
    assert_eq!(loops(&agent), [] as [Value; 0]);
}
