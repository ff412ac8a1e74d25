//! The lab itself: the ordinary way works in it, shows in conntrack and fails as it does in production,
//! and nothing of a lab stays behind. These are the controls of every later claim.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::patience::LONG;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::{EXPECTED, HUGE, TYPES_WITH_ANSWERS, TYPES_WITHOUT};
use dns_cache_tests::{
    Family, Flavour, Lab, OrPanic, Query, Transport, Upstream, addresses, scope,
};

/// For what must be answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every expected answer, over every transport and family, from the first pod.
fn ordinary_way_works(flavour: Flavour, upstream: Upstream) {
    let lab = Lab::builder().flavour(flavour).upstream(upstream).start();
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        for expected in EXPECTED {
            for transport in Transport::ALL {
                let reply = client.ask(transport, &expected.query());
                let what = format_args!("{} over {transport:?} {family:?}", expected.name);
                expected.check(&reply.or_panic(what).message);
            }
        }
    }
    let conntrack = lab.node().conntrack();
    let entries = conntrack.pod_dns();
    for (protocol, v6) in [("udp", false), ("udp", true), ("tcp", false), ("tcp", true)] {
        let of_kind = |e: &&dns_cache_tests::conntrack::Entry| {
            e.protocol == protocol && e.original.src.is_ipv6() == v6
        };
        let translated = |e: &dns_cache_tests::conntrack::Entry| {
            lab.dns()
                .endpoints()
                .iter()
                .any(|p| e.reply.src == p.v4 || e.reply.src == p.v6)
        };
        let found: Vec<_> = entries.iter().filter(of_kind).collect();
        assert!(
            !found.is_empty(),
            "no conntrack entry of {protocol}, v6: {v6}"
        );
        assert!(
            found.into_iter().all(translated),
            "an entry that was not translated to a replica"
        );
    }
    conntrack.flush();
    conntrack.assert_no_pod_dns();
}

#[test]
fn ordinary_way_routed_coredns() {
    ordinary_way_works(Flavour::Routed, Upstream::CoreDns);
}

#[test]
fn ordinary_way_bridged_coredns() {
    ordinary_way_works(Flavour::Bridged, Upstream::CoreDns);
}

#[test]
fn ordinary_way_routed_embedded() {
    ordinary_way_works(Flavour::Routed, Upstream::Embedded);
}

#[test]
fn ordinary_way_bridged_embedded() {
    ordinary_way_works(Flavour::Bridged, Upstream::Embedded);
}

#[test]
fn rules_spread_lookups_over_the_replicas() {
    let lab = Lab::builder().pods(1).start();
    let client = lab.pod(0).client(Family::V4);
    for _ in 0..40 {
        let _ = client.lookup("web.default.svc.cluster.local", rtype::A);
    }
    let entries = lab.node().conntrack().pod_dns();
    for replica in lab.dns().endpoints() {
        let count = entries
            .iter()
            .filter(|entry| entry.reply.src == replica.v4)
            .count();
        assert!(count > 5, "{replica} got {count} of 40 lookups");
    }
}

#[test]
fn coredns_serves_every_type() {
    let lab = Lab::builder().pods(1).replicas(1).start();
    let client = lab.pod(0).client(Family::V4);
    let ask = |name: &str, rtype: u16| match client.ask(
        Transport::Tcp,
        &Query::new(&format!("{name}.types.svc.cluster.local"), rtype),
    ) {
        Ok(reply) => reply.message,
        Err(error) => panic!("{name}: {error}"),
    };
    for (name, rtype) in TYPES_WITH_ANSWERS {
        assert!(
            !ask(name, rtype).answers.is_empty(),
            "{name} has no answer of type {rtype}"
        );
    }
    for (name, rtype) in TYPES_WITHOUT {
        assert_eq!(ask(name, rtype).answers.len(), 0, "{name}");
    }
    // An empty non-terminal is there; what is below it need not be.
    assert_eq!(ask("ent", rtype::A).rcode(), 0);
    assert_eq!(ask("b.ent", rtype::A).rcode(), 3);
    assert_eq!(
        ask("unknown", rtype::UNKNOWN).data(),
        ["TYPE65280 \\# 4 0a000001"]
    );
    assert_eq!(ask("chain-1", rtype::A).answers.len(), 3);
    assert_eq!(ask("huge", rtype::A).answers.len(), usize::from(HUGE));
    assert_eq!(ask("ttl0", rtype::A).answers[0].ttl, 0);
    let truncated = client.ask(
        Transport::Connected,
        &Query::new("huge.types.svc.cluster.local", rtype::A),
    );
    assert!(
        truncated
            .unwrap()
            .message
            .has(dns_cache_tests::wire::flag::TC)
    );
}

/// INCIDENTS.md, 1: what the agent must end is to be seen without it.
#[test]
fn black_holed_replica_fails_lookups_on_the_ordinary_way() {
    let lab = Lab::builder().pods(1).start();
    lab.dns().replicas()[1].black_hole();
    let client = lab
        .pod(0)
        .client(Family::V4)
        .timeout(Duration::from_millis(100));
    let query = Query::new("web.default.svc.cluster.local", rtype::A);
    let mut sockets: Vec<_> = (0..24).map(|_| client.udp(true).unwrap()).collect();
    // Three tries from one port: conntrack sends each of them to the same replica.
    let failed = sockets
        .iter()
        .filter(|socket| (0..3).all(|_| socket.ask(&query).is_err()))
        .count();
    assert!(
        (1..24).contains(&failed),
        "{failed} of 24 sockets failed, about half should"
    );
    lab.dns().replicas()[1].reachable();
    for socket in &mut sockets {
        socket.set_timeout(PATIENCE);
    }
    let failed = sockets
        .iter()
        .filter(|socket| socket.ask(&query).is_err())
        .count();
    assert_eq!(failed, 0, "all replicas are back");
}

#[test]
fn paused_and_stopped_replicas_come_back() {
    let lab = Lab::builder().pods(1).replicas(1).start();
    let replica = &lab.dns().replicas()[0];
    let client = lab.pod(0).client(Family::V6).timeout(PATIENCE);
    let query = Query::new("web.default.svc.cluster.local", rtype::A);
    replica.pause();
    let hasty = client.clone().timeout(Duration::from_millis(300));
    assert!(hasty.ask(Transport::Connected, &query).is_err());
    replica.resume();
    assert!(client.ask(Transport::Connected, &query).is_ok());
    replica.stop();
    assert!(hasty.ask(Transport::Connected, &query).is_err());
    replica.start();
    assert!(client.ask(Transport::Connected, &query).is_ok());
}

#[test]
fn removed_rules_break_the_ordinary_way_and_come_back_the_same() {
    let lab = Lab::builder().pods(1).upstream(Upstream::Embedded).start();
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    let hasty = client.clone().timeout(Duration::from_millis(200));
    let query = Query::new("web.default.svc.cluster.local", rtype::A);
    let before = lab.node().snapshot();
    lab.node().remove_rules();
    assert!(hasty.ask(Transport::Connected, &query).is_err());
    assert!(
        !lab.node()
            .snapshot()
            .part("iptables-save")
            .unwrap()
            .contains("KUBE-SVC")
    );
    lab.node().load_rules(&lab.dns().endpoints());
    before.rules().assert_same(&lab.node().snapshot().rules());
    assert!(client.ask(Transport::Connected, &query).is_ok());
}

#[test]
fn pods_come_move_and_go() {
    for flavour in Flavour::BOTH {
        let lab = Lab::builder()
            .pods(1)
            .upstream(Upstream::Embedded)
            .flavour(flavour)
            .start();
        let before = lab.node().snapshot();
        let mut pod = lab.add_pod();
        for family in Family::BOTH {
            assert_eq!(
                pod.client(family)
                    .lookup("web.default.svc.cluster.local", rtype::A)
                    .data(),
                ["A 10.96.10.10"]
            );
        }
        pod.readdress(addresses::pod(200));
        for family in Family::BOTH {
            assert_eq!(
                pod.client(family)
                    .lookup("web.default.svc.cluster.local", rtype::A)
                    .data(),
                ["A 10.96.10.10"]
            );
        }
        assert!(
            lab.node()
                .conntrack()
                .pod_dns()
                .iter()
                .any(|entry| entry.original.src == pod.address(Family::V4))
        );
        pod.remove();
        lab.node().assert_comes_back_to(&before);
    }
}

#[test]
fn pods_tools_ask_the_cluster_ip() {
    let lab = Lab::builder().pods(1).upstream(Upstream::Embedded).start();
    let output = lab.pod(0).exec(&["dig", "+short", "+search", "web"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10.96.10.10\n");
}

#[test]
fn relay_hands_queries_to_a_given_server() {
    // The server stands in the relay's own network, that is, in this machine's: on its loopback.
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).unwrap();
        buffer[2] |= 0x80;
        server.send_to(&buffer[..length], client).unwrap();
    });
    let lab = Lab::builder()
        .pods(1)
        .upstream(Upstream::Address(address))
        .start();
    assert!(
        lab.pod(0)
            .client(Family::V6)
            .ask(Transport::Connected, &Query::new("any.example", rtype::A))
            .is_ok()
    );
    echo.join().unwrap();
}

#[test]
fn nothing_stays_of_a_lab() {
    let lab = Lab::builder().start();
    let id = lab.id().to_owned();
    assert!(
        scope::leftovers(&id).len() > 5,
        "the check sees a living lab"
    );
    drop(lab);
    assert_eq!(scope::leftovers(&id), [""; 0]);
}

#[test]
fn nothing_stays_of_a_lab_after_a_panic() {
    let id = thread::spawn(|| {
        let lab = Lab::builder().start();
        std::panic::panic_any(lab.id().to_owned());
    })
    .join()
    .unwrap_err();
    assert_eq!(
        scope::leftovers(id.downcast_ref::<String>().unwrap()),
        [""; 0]
    );
}

#[test]
fn labs_of_one_process_do_not_see_each_other() {
    let [one, two] = [(); 2]
        .map(|()| thread::spawn(|| Lab::builder().pods(1).upstream(Upstream::Embedded).start()));
    let (one, two) = (one.join().unwrap(), two.join().unwrap());
    assert_ne!(one.id(), two.id());
    let query = Query::new("web.default.svc.cluster.local", rtype::A);
    assert!(
        one.pod(0)
            .client(Family::V4)
            .ask(Transport::Connected, &query)
            .is_ok()
    );
    two.node().conntrack().assert_no_pod_dns();
    drop(one);
    assert!(
        two.pod(0)
            .client(Family::V4)
            .ask(Transport::Connected, &query)
            .is_ok()
    );
}

const OWNER: &str = "DNS_CACHE_LAB_TEST_OWNER";

/// No test but the process that the next one kills.
#[test]
fn helper_that_owns_a_lab() {
    if env::var_os(OWNER).is_some() {
        let lab = Lab::builder().pods(1).start();
        println!("lab {}", lab.id());
        thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn lab_of_a_killed_owner_is_removed_by_the_next() {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "helper_that_owns_a_lab", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let id = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("lab ")?.1.to_owned()))
        .expect("the owner has ended");
    let processes = fs::read_to_string(format!("{}/{id}/processes", scope::ROOT)).unwrap();
    assert!(
        processes.contains("dns1"),
        "CoreDNS is in the record: {processes}"
    );
    owner.kill().unwrap();
    owner.wait().unwrap();
    // Whichever lab starts next cleans up: this one, or one of another test.
    let lab = Lab::builder()
        .pods(0)
        .replicas(0)
        .upstream(Upstream::Embedded)
        .start();
    assert_ne!(lab.id(), id);
    let end = Instant::now() + LONG;
    while !scope::leftovers(&id).is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(scope::leftovers(&id), [""; 0]);
}
