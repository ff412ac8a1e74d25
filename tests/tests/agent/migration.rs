//! From NodeLocalDNS to dns-cache, in the order of steps that deploy/README.md gives: no lookup is lost on the way.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::addresses::{CLUSTER_IP, OUTSIDE};
use dns_cache_tests::node_local::{self, NodeLocalDns};
use dns_cache_tests::patience::wait_until;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Family, Lab, Netns, OrPanic, Query, Transport, Upstream, Way, tools,
};

use crate::{SetOnDrop, assert_web, fresh};

/// A pod's client of NodeLocalDNS's address, and one of the ClusterIP.
fn clients(lab: &Lab, pod: usize) -> [Client; 2] {
    let client = lab.pod(pod).client(Family::V4);
    [client.clone().server(node_local::ADDRESS.into()), client]
}

#[test]
fn from_node_local_dns_without_a_lost_lookup() {
    let lab = Lab::builder().upstream(Upstream::CoreDns).start();
    let node = lab.node();
    let cluster_ip = match CLUSTER_IP.of(Family::V4) {
        std::net::IpAddr::V4(ip) => ip,
        std::net::IpAddr::V6(_) => unreachable!("asked for IPv4"),
    };
    // As on a node with kube-proxy in iptables mode: it takes the ClusterIP over, too, and asks by a Service of its own.
    let bind = [node_local::IP, cluster_ip];
    let replica = lab.dns().endpoints()[0].of(Family::V4).to_string();
    node_local::prepare(node, &bind);
    let old = NodeLocalDns::start(node, &bind, &replica, &OUTSIDE.v4.to_string());
    wait_for_answers(&clients(&lab, 0));

    // 1. Its Corefile becomes a configuration, as in the chart's mode `both` with an address of its own and bounds of the
    // cache laid over it.
    let run = |command: &str, args: &[&Path]| {
        let mut program = Command::new(tools::agent());
        node.netns().succeed(program.arg(command).args(args))
    };
    let [over, file] = ["chart.yaml", "imported.yaml"].map(|name| lab.scope().dir().join(name));
    let chart = "listen: [169.254.25.10]\ncache: {maxBytes: 32Mi}\n";
    fs::write(&over, chart).or_panic("writing the chart's settings");
    let import = run(
        "import-corefile",
        &["--over".as_ref(), &over, old.corefile()],
    );
    fs::write(&file, &import).or_panic("writing the import");
    run("check-config", &[&file]);
    // NodeLocalDNS has the port of the metrics.
    let config = AgentConfig {
        text: Some(import),
        extra: "metrics: {listen: 127.0.0.1:9254}\n".to_owned(),
        ..AgentConfig::default()
    };

    // As long as both are there, NodeLocalDNS is what an agent that dies falls back to.
    let agent = lab.agent(&config);
    assert_answers(&lab, &agent);
    agent.kill9();
    let before = old.requests(node);
    for client in clients(&lab, 0) {
        assert_web(&client, Transport::Tcp);
    }
    assert!(old.requests(node) > before, "nobody stands in");

    // It must outlive the lookups.
    let (mut last, mut returned) = (None, None);
    let (over, number) = (AtomicBool::new(false), AtomicU16::new(0));
    let lookups_go_on = || {
        let before = number.load(Ordering::Relaxed);
        wait_until(
            || "the lookups do not go on",
            || number.load(Ordering::Relaxed).wrapping_sub(before) >= 60,
        );
    };
    thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        for client in clients(&lab, 1) {
            let (over, number) = (&over, &number);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let n = number.fetch_add(1, Ordering::Relaxed) % 900;
                    let reply = client.ask(Transport::Connected, &Query::new(&fresh(n), rtype::A));
                    assert_eq!(reply.or_panic(n).message.answers.len(), 1, "{n}");
                }
            });
        }
        // 2. Both live: the new one sees packets first.
        let agent = &*last.insert(lab.agent(&config));
        assert_answers(&lab, agent);
        let asked = old.requests(node);
        lookups_go_on();
        assert_eq!(old.requests(node), asked, "it is still asked");

        // 3. NodeLocalDNS is deleted: it takes its rules and its addresses away, and ends.
        node_local::remove(node, &bind);
        old.process().stop(Duration::from_secs(10));
        assert_answers(&lab, agent);
        node.conntrack().flush();
        assert_answers(&lab, agent);
        node.conntrack().assert_no_pod_dns();

        // The way back: NodeLocalDNS comes again, and then the agent goes.
        node_local::prepare(node, &bind);
        let back = NodeLocalDns::start(node, &bind, &replica, &OUTSIDE.v4.to_string());
        let back = &*returned.insert(back);
        wait_for_listener(node.netns());
        agent.stop();
        agent.detach();
        let asked = back.requests(node);
        lookups_go_on();
        assert!(back.requests(node) >= asked + 50, "it is not asked again");
    });
}

/// The agent answers at both addresses, over all transports.
fn assert_answers(lab: &Lab, agent: &Agent) {
    for client in clients(lab, 0) {
        let before = agent.counters();
        for transport in Transport::ALL {
            assert_web(&client, transport);
        }
        assert_ne!(before.way(&agent.counters()), Way::Ordinary);
    }
}

/// A pod's question would be the agent's.
fn wait_for_listener(node: &Netns) {
    let connects = || node.run(|| TcpStream::connect(node_local::ADDRESS)).is_ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !connects() {
        assert!(Instant::now() < deadline, "NodeLocalDNS does not listen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// CoreDNS has no other word for being ready.
fn wait_for_answers(clients: &[Client]) {
    for client in clients {
        let query = Query::new(crate::WEB, rtype::A);
        let mut answers = std::iter::repeat_with(|| client.ask(Transport::Connected, &query));
        assert!(
            answers.by_ref().take(20).any(|answer| answer.is_ok()),
            "NodeLocalDNS does not answer"
        );
    }
}
