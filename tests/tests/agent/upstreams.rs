//! Replicas that fall silent, close, and come back.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::patience::LONG;
use dns_cache_tests::pulse::Pulse;
use dns_cache_tests::turn::Turn;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Query, Transport, Upstream, coredns, zones,
};

use crate::lookup::said;
use crate::{WEB, WEB_A, assert_web, fresh, lab_with_agent};

/// After half a second another server is asked; on a machine that has other things to do, that is late.
const SOON: Duration = Duration::from_secs(2);
/// A client that asks only once.
const PATIENCE: Duration = Duration::from_secs(5);

/// INCIDENTS.md, 1: no lookup fails, and none takes long, while one replica is silent.
#[test]
fn silent_replica_costs_no_lookup() {
    for silent in 0..2 {
        let (lab, _agent) = lab_with_agent(Flavour::Routed);
        let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
        // Both connections are there and in use.
        for number in 0..10 {
            let _ = client.lookup(&fresh(number), rtype::A);
        }
        lab.dns().replicas()[silent].black_hole();
        for number in 100..140 {
            let reply = client.ask(Transport::Connected, &Query::new(&fresh(number), rtype::A));
            let reply = reply.or_panic(format_args!("{} with a silent replica", fresh(number)));
            assert_eq!(reply.message.answers.len(), 1);
            assert!(reply.time < SOON, "lookup {number} took {:?}", reply.time);
        }
        lab.node().conntrack().assert_no_pod_dns();
    }
}

/// From many clients at once; none ever waits for long; hedges and, after the ejection, the choice keep the tail short.
#[test]
fn black_holed_replica_is_ejected_and_let_back_in() {
    let _alone = Turn::alone();
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let lookups = |first: u32, count: u32| -> Vec<Duration> {
        let clients = 8;
        thread::scope(|scope| {
            let ask = |client: u32| {
                let pod = lab.pod(client as usize % 2).client(Family::V4);
                let pod = pod.timeout(PATIENCE);
                (first..first + count)
                    .skip(client as usize)
                    .step_by(clients as usize)
                    .map(|number| {
                        let name = format!("n{number}.wild.types.svc.cluster.local");
                        let query = Query::new(&name, rtype::A);
                        let reply = pod.ask(Transport::Connected, &query);
                        let reply = reply.or_panic(format_args!("lookup {number}"));
                        assert_eq!(reply.message.answers.len(), 1, "lookup {number}");
                        let time = reply.time;
                        assert!(time < SOON, "lookup {number} took {time:?}");
                        time
                    })
                    .collect::<Vec<_>>()
            };
            let asking: Vec<_> = (0..clients).map(|c| scope.spawn(move || ask(c))).collect();
            let times = asking.into_iter().map(|client| client.join());
            times
                .flat_map(|times| times.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    };
    let replicas = |agent: &Agent| agent.upstreams("cluster.local");
    lookups(0, 100);
    lab.dns().replicas()[0].black_hole();
    let pulse = Pulse::start();
    let mut next = 100;
    let mut worst = Duration::ZERO;
    let end = Instant::now() + LONG;
    while !replicas(&agent)[0]["suspect"].as_bool().unwrap_or_default() {
        assert!(Instant::now() < end, "{:?}", replicas(&agent));
        worst = worst.max(lookups(next, 20).into_iter().max().unwrap_or_default());
        next += 20;
    }
    // The best of three rounds: what disturbs one is the machine's.
    let mut p99 = Duration::MAX;
    for _ in 0..3 {
        let mut times = lookups(next, 300);
        next += 300;
        times.sort_unstable();
        worst = worst.max(times[times.len() - 1]);
        p99 = p99.min(times[times.len() * 99 / 100]);
        if p99 < Duration::from_millis(100) {
            break;
        }
    }
    assert!(
        p99 < Duration::from_millis(100),
        "99 % take {p99:?} or less"
    );
    let table = said(&agent, &["upstreams"]);
    let ejected: Vec<_> = table
        .lines()
        .filter(|line| line.starts_with("cluster.local ") && line.contains(" ejected for "))
        .collect();
    let address = lab.dns().endpoints()[0].dns(Family::V4).to_string();
    assert!(
        matches!(ejected[..], [line] if line.contains(&address)),
        "{table}"
    );
    let status = replicas(&agent);
    let count = |server: usize, key: &str| status[server][key].as_u64().or_panic("a count");
    assert!(count(0, "ejections") > 0);
    // An agent that gets no turn for an attempt's time takes a server for silent that is well.
    if pulse.end() < Duration::from_millis(250) {
        assert_eq!((count(0, "ejections"), count(1, "ejections")), (1, 0));
        assert!(worst < Duration::from_secs(1), "one took {worst:?}");
    }
    let hedges = count(0, "hedges") + count(1, "hedges");
    assert!(hedges * 20 <= count(0, "queries") + count(1, "queries"));

    lab.dns().replicas()[0].reachable();
    // A probe comes with a lookup, when its time has come.
    let end = Instant::now() + LONG;
    while replicas(&agent)[0]["suspect"].as_bool().unwrap_or(true) {
        assert!(Instant::now() < end, "{:?}", replicas(&agent));
        lookups(next, 8);
        next += 8;
    }
    lab.node().conntrack().assert_no_pod_dns();
}

#[test]
fn replica_that_is_silent_from_the_start_costs_no_lookup() {
    let lab = Lab::builder().start();
    lab.dns().replicas()[0].black_hole();
    let _agent = lab.agent(&AgentConfig::default());
    let client = lab.pod(0).client(Family::V6).timeout(PATIENCE);
    for number in 0..20 {
        let reply = client.ask(Transport::Connected, &Query::new(&fresh(number), rtype::A));
        let reply = reply.or_panic(format_args!("lookup {number}"));
        assert!(reply.time < SOON, "lookup {number} took {:?}", reply.time);
    }
}

#[test]
fn stopped_replica_costs_no_lookup() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let mut number = 0;
    let mut lookups = |count: u16| {
        for _ in 0..count {
            number += 1;
            assert_eq!(client.lookup(&fresh(number), rtype::A).answers.len(), 1);
        }
    };
    lookups(10);
    for replica in lab.dns().replicas() {
        replica.stop();
        lookups(10);
        replica.start();
        lookups(10);
    }
}

/// The connections are dead and nobody said so: the next query goes over new ones.
#[test]
fn restarted_replicas_are_asked_again_at_once() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    assert_web(&client, Transport::Connected);
    for replica in lab.dns().replicas() {
        replica.stop();
    }
    for replica in lab.dns().replicas() {
        replica.start();
    }
    assert_eq!(client.lookup(&fresh(1), rtype::A).answers.len(), 1);
}

/// INCIDENTS.md, 4: a fixed source port, kube-proxy's rules gone for a moment, CoreDNS restarted.
#[test]
fn fixed_port_client_loses_nothing_while_coredns_restarts() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let mut socket = lab
        .pod(0)
        .client(Family::V4)
        .source_port(52_001)
        .udp(true)
        .or_panic("opening a socket");
    // What is lost is not answered later either.
    socket.set_timeout(Duration::from_secs(3));
    let cached = |count: usize| {
        for _ in 0..count {
            let reply = socket
                .ask(&Query::new(WEB, rtype::A))
                .or_panic("a cached name");
            assert_eq!(reply.message.data(), [WEB_A]);
            thread::sleep(Duration::from_millis(10));
        }
    };
    cached(10);
    lab.node().remove_rules();
    cached(10);
    for replica in lab.dns().replicas() {
        replica.stop();
    }
    cached(10);
    for replica in lab.dns().replicas() {
        replica.start();
    }
    lab.node().load_rules(&lab.dns().endpoints());
    cached(10);
    let reply = socket
        .ask(&Query::new(&fresh(7), rtype::A))
        .or_panic("an uncached name afterwards");
    assert_eq!(reply.message.answers.len(), 1);
    lab.node().conntrack().assert_no_pod_dns();
}

/// Nobody answers: the client is told so, and why, before it would ask again.
#[test]
fn black_holed_replicas_are_told_of_in_time() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    let client = lab.pod(0).client(Family::V4);
    let client = client.timeout(Duration::from_secs(10));
    for (number, transport) in (0..).zip([Transport::Connected, Transport::Tcp]) {
        let query = Query::new(&fresh(number), rtype::A).edns(1232);
        let reply = client.ask(transport, &query);
        let reply = reply.or_panic(format_args!("over {transport:?}"));
        assert_eq!(reply.message.rcode(), 2, "{transport:?}");
        let opt = reply.message.opt.or_panic("an OPT record");
        let option = opt.data.rsplit(' ').next().unwrap_or_default();
        // RFC 8914: No Reachable Authority, or Network Error.
        let cause = option.strip_prefix("000f").and_then(|ede| ede.get(4..8));
        assert!(matches!(cause, Some("0016" | "0017")), "{}", opt.data);
        // glibc's time-out.
        let most = Duration::from_secs(5);
        assert!(reply.time < most, "{transport:?}: {:?}", reply.time);
    }
}

/// Names outside the cluster go to the servers of resolv.conf, whatever becomes of the replicas.
#[test]
fn other_names_go_to_the_servers_of_resolv_conf() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for replica in lab.dns().replicas() {
        replica.stop();
    }
    let client = lab.pod(0).client(Family::V6);
    assert_eq!(
        client.lookup("www.example.com", rtype::A).data(),
        ["A 198.51.100.2"]
    );
    assert_eq!(
        client.lookup("alias.example.com", rtype::AAAA).data(),
        ["AAAA 2001:db8:80::2", "CNAME www.example.com"]
    );

    // Others are written there, and the first ones are gone.
    let other = lab.pod(1);
    let _other = coredns::start(other.netns(), "other", &[zones::outside()], None);
    lab.node().netns().ip("link set up0 down\n");
    let address = other.address(Family::V4);
    agent.write_resolv_conf(&format!("nameserver {address}\n"));
    let server = other.addresses().dns(Family::V4).to_string();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let servers = agent.upstreams(".");
        if servers.len() == 1 && servers[0]["address"] == server {
            break;
        }
        assert!(Instant::now() < end, "{servers:?}");
        thread::sleep(Duration::from_millis(20));
    }
    while coredns::requests(other.netns()) == 0 {
        assert!(Instant::now() < end, "it is not asked:\n{}", agent.log());
        let name = "mail.example.com";
        let _ = client.ask(Transport::Connected, &Query::new(name, rtype::A));
    }
    assert_eq!(
        client.lookup("www.example.com", rtype::A).data(),
        ["A 198.51.100.2"]
    );
}

/// A stub domain goes to its own servers: here to the cluster's, while those of resolv.conf are others.
#[test]
fn stub_domain_goes_to_its_own_servers() {
    let lab = Lab::builder().upstream(Upstream::Embedded).start();
    let servers = vec![lab.dns().endpoints()[0].dns(Family::V6)];
    let config = AgentConfig {
        zones: vec![("example.com".to_owned(), servers)],
        ..AgentConfig::default()
    };
    let _agent = lab.agent(&config);
    lab.node().netns().ip("link set up0 down\n");
    assert_eq!(
        lab.pod(0)
            .client(Family::V4)
            .lookup("www.example.com", rtype::A)
            .data(),
        ["A 198.51.100.2"]
    );
}
