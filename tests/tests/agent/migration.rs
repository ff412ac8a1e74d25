//! From NodeLocalDNS to dns-cache, in the order of steps that deploy/README.md gives: no lookup is lost on the way.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::addresses::{CLUSTER_IP, LINK_LOCAL, OUTSIDE};
use dns_cache_tests::node_local::{self, NodeLocalDns};
use dns_cache_tests::patience::wait_until;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Family, Lab, Netns, Node, OrPanic, Query, Transport, Upstream, Way,
    tools,
};

use crate::{SetOnDrop, assert_web, fresh};

/// Where NodeLocalDNS listens on a node with kube-proxy in iptables mode: it takes the ClusterIP over, too, and asks by a
/// Service of its own.
fn bind() -> Vec<IpAddr> {
    let pairs = [LINK_LOCAL, CLUSTER_IP].into_iter();
    pairs
        .flat_map(|pair| Family::BOTH.map(|family| pair.of(family)))
        .collect()
}

/// A pod's clients of all these addresses.
fn clients(lab: &Lab, pod: usize) -> Vec<Client> {
    let family = |ip: &IpAddr| {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    };
    let of = |ip: IpAddr| lab.pod(pod).client(family(&ip)).server((ip, 53).into());
    bind().into_iter().map(of).collect()
}

/// The node's own processes, which have NodeLocalDNS's address from the kubelet.
fn own(lab: &Lab) -> [Client; 2] {
    Family::BOTH.map(|family| Client::new(Arc::clone(lab.node().netns()), LINK_LOCAL.dns(family)))
}

#[test]
fn from_node_local_dns_without_a_lost_lookup() {
    let lab = Lab::builder().upstream(Upstream::CoreDns).start();
    let node = lab.node();
    let bind = bind();
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
    wait_for_requests(&old, node, before + 1, "nobody stands in");

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
        // The node's own packets to an address of its own are for who has that.
        for client in own(&lab) {
            let before = old.requests(node);
            assert_web(&client, Transport::Tcp);
            wait_for_requests(&old, node, before + 1, "the node itself asks another");
        }
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
        for client in own(&lab) {
            for transport in Transport::ALL {
                let before = agent.counters().datapath("from_host");
                assert_web(&client, transport);
                let after = agent.counters().datapath("from_host");
                assert!(after > before, "the node itself asks another");
            }
        }

        // The way back: NodeLocalDNS comes again, and then the agent goes.
        node_local::prepare(node, &bind);
        let back = NodeLocalDns::start(node, &bind, &replica, &OUTSIDE.v4.to_string());
        let back = &*returned.insert(back);
        wait_for_listeners(node.netns(), &bind);
        agent.stop();
        agent.detach();
        let asked = back.requests(node);
        lookups_go_on();
        wait_for_requests(back, node, asked + 50, "it is not asked again");
    });
}

/// CoreDNS counts a query a moment after it has answered.
fn wait_for_requests(server: &NodeLocalDns, node: &Node, least: u64, otherwise: &str) {
    wait_until(|| otherwise, || server.requests(node) >= least);
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
fn wait_for_listeners(node: &Netns, bind: &[IpAddr]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for ip in bind {
        let connects = || node.run(|| TcpStream::connect((*ip, 53))).is_ok();
        while !connects() {
            assert!(
                Instant::now() < deadline,
                "NodeLocalDNS does not listen at {ip}"
            );
            thread::sleep(Duration::from_millis(20));
        }
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
