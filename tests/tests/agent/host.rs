//! The node's own processes: by the link-local address, and by the ClusterIP if they are to be served there too.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use dns_cache_tests::addresses::{CLUSTER_IP, LINK_LOCAL, NODE};
use dns_cache_tests::patience::{LONG, wait_until};
use dns_cache_tests::procfs::{cgroup2, linux};
use dns_cache_tests::{Agent, AgentConfig, Client, Family, Lab, Message, OrPanic, Transport};

use crate::fallback::{Names, config};
use crate::hand_over::{other_configuration, successor};
use crate::{assert_web, wait_until_passed_by};

/// A client among the node's own processes.
fn client(lab: &Lab, server: IpAddr) -> Client {
    let netns = Arc::clone(lab.node().netns());
    Client::new(netns, (server, 53).into()).timeout(Duration::from_secs(1))
}

/// Entries of DNS to an address of [`LINK_LOCAL`] are as they are without any rule: nobody's address was changed.
#[track_caller]
fn assert_never_nated(lab: &Lab) {
    let mut seen = 0;
    for entry in lab.node().conntrack().entries() {
        let (to, back) = (entry.original, entry.reply);
        if to.dport == 53
            && Family::BOTH
                .map(|family| LINK_LOCAL.of(family))
                .contains(&to.dst)
        {
            seen += 1;
            assert_eq!(
                (back.src, back.dst, back.dport),
                (to.dst, to.src, to.sport),
                "{}",
                entry.line
            );
        }
    }
    assert!(seen > 0, "the node's own packets are tracked");
}

#[test]
fn they_ask_the_link_local_address() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&config("auto"));
    let mut names = Names(0);
    for family in Family::BOTH {
        let client = client(&lab, LINK_LOCAL.of(family));
        for transport in Transport::ALL {
            assert_come_to(&agent, || {
                assert_web(&client, transport);
                names.ask(&client, transport);
            });
        }
    }
    assert_never_nated(&lab);
    lab.node().conntrack().assert_no_pod_dns();
}

/// What the node's own processes ask now comes to the agent.
#[track_caller]
fn assert_come_to(agent: &Agent, ask: impl FnOnce()) {
    let before = agent.counters();
    ask();
    let after = agent.counters();
    assert!(after.datapath("from_host") > before.datapath("from_host"));
}

/// As for pods: the ordinary servers answer, from the address that was asked.
fn all_are_answered_while_it_is_away(lab: &Lab, names: &mut Names) {
    for family in Family::BOTH {
        let client = client(lab, LINK_LOCAL.of(family));
        for _ in 0..10 {
            for transport in Transport::ALL {
                names.ask(&client, transport);
            }
        }
    }
}

/// The way to a killed agent goes with it, and the next one makes it anew.
#[test]
fn their_way_goes_with_the_agent_and_comes_with_the_next() {
    let lab = Lab::builder().start();
    let before = lab.node().snapshot();
    lab.agent(&config("auto")).kill9();
    let routes = ["ip link", "ip route"].map(|part| before.part(part).map(str::to_owned));
    let end = Instant::now() + LONG;
    loop {
        let now = lab.node().snapshot();
        if ["ip link", "ip route"].map(|part| now.part(part).map(str::to_owned)) == routes {
            break;
        }
        assert!(Instant::now() < end, "a route to nobody: {now:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let agent = lab.agent(&config("auto"));
    let mut names = Names(0);
    for family in Family::BOTH {
        assert_come_to(&agent, || {
            names.ask(&client(&lab, LINK_LOCAL.of(family)), Transport::Connected);
        });
    }
}

#[test]
fn their_link_local_address_is_answered_when_wedged() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&config("auto").soon_passed_by());
    let client = client(&lab, LINK_LOCAL.of(Family::V4));
    let mut names = Names(0);
    for transport in Transport::ALL {
        names.ask(&client, transport);
    }
    let mut connection = client.tcp().or_panic("connecting");
    connection.ask(&names.query()).or_panic("it lives");
    agent.pause();
    let hasty = client.clone().timeout(Duration::from_millis(100));
    wait_until_passed_by(&Transport::ALL, |transport| {
        hasty.ask(transport, &names.query()).is_ok()
    });
    all_are_answered_while_it_is_away(&lab, &mut names);
    agent.resume();
    connection
        .ask(&names.query())
        .or_panic("what is open goes on");
}

/// The node's routes to the resolver.
fn routes(lab: &Lab) -> Vec<String> {
    let snapshot = lab.node().snapshot();
    // All tables, so both families.
    let lines = snapshot.part("ip route").unwrap_or_default().lines();
    let ours = |line: &&str| {
        Family::BOTH
            .iter()
            .any(|family| line.starts_with(&format!("{} dev dnscache0", LINK_LOCAL.of(*family))))
    };
    lines.filter(ours).map(str::to_owned).collect()
}

/// A successor that is not to be asked there takes the way away.
#[test]
fn routes_are_the_successors() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&config("auto"));
    assert_eq!(routes(&lab).len(), 2, "{:?}", routes(&lab));
    let successor = lab.agent(&AgentConfig::default());
    agent.assert_ends();
    wait_until(|| format!("{:?}", routes(&lab)), || routes(&lab).is_empty());
    let next = lab.agent(&config("auto"));
    successor.assert_ends();
    assert_eq!(routes(&lab).len(), 2, "{:?}", routes(&lab));
    assert_eq!(says(&next), (2, false));
    assert_web(&client(&lab, LINK_LOCAL.v4.into()), Transport::Connected);
}

/// The routes follow the configuration, and others' packets do not get in by them.
#[test]
fn routes_come_and_go() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default());
    let routes = || routes(&lab);
    assert_eq!(routes(), [""; 0]);
    agent.reload(&config("auto"));
    assert_eq!(routes().len(), 2, "{:?}", routes());
    assert_eq!(says(&agent), (2, false));
    // A neighbour of the node's, which takes it for a router.
    let outside = lab.node().outside();
    outside.ip(&format!("route add {}/32 via {}", LINK_LOCAL.v4, NODE.v4));
    let stranger = Client::new(Arc::clone(outside), LINK_LOCAL.dns(Family::V4));
    let stranger = stranger.timeout(Duration::from_millis(200));
    let before = agent.counters();
    assert!(
        stranger
            .ask(Transport::Connected, &Names(0).query())
            .is_err()
    );
    let after = agent.counters();
    assert_eq!(
        after.resolver("queries_udp"),
        before.resolver("queries_udp")
    );
    assert!(after.datapath("host_other") > before.datapath("host_other"));
    agent.reload(&AgentConfig::default());
    assert_eq!(routes(), [""; 0]);
    assert_eq!(says(&agent), (0, false));
}

/// How many addresses it says to have a route to, and whether programs are on the cgroup.
fn says(agent: &Agent) -> (usize, bool) {
    let status = agent.status().or_panic("asking for its status");
    let host = &status["datapath"]["host"];
    let routes = host["routes"].as_array().or_panic("no routes").len();
    (routes, host["sockets"] == true)
}

/// As [`config`], and all processes of the node are served at the ClusterIP.
fn everywhere() -> AgentConfig {
    serving(&cgroup2().or_panic("no cgroup2 file system"))
}

/// The same of those in a cgroup.
fn serving(cgroup: &Path) -> AgentConfig {
    config("auto").with_host(cgroup)
}

/// The names that processes of the node hear, after they have connected to a server by TCP, and by UDP.
fn peers(lab: &Lab, server: SocketAddr) -> [SocketAddr; 2] {
    let peers = lab.node().netns().run(|| {
        let stream = TcpStream::connect(server)?;
        let any: IpAddr = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        Ok::<_, std::io::Error>([stream.peer_addr()?, socket.peer_addr()?])
    });
    peers.or_panic("connecting")
}

#[test]
fn they_are_served_at_the_cluster_ip() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&everywhere());
    assert_eq!(says(&agent), (2, true));
    let mut names = Names(0);
    for family in Family::BOTH {
        let server = CLUSTER_IP.dns(family);
        let client = client(&lab, server.ip());
        for transport in Transport::ALL {
            assert_come_to(&agent, || {
                assert_web(&client, transport);
                names.ask(&client, transport);
            });
        }
        // Each socket's process hears the name that it gave.
        assert_eq!(peers(&lab, server), [server; 2]);
    }
    lab.node().conntrack().assert_no_pod_dns();
    assert_never_nated(&lab);
    // A pod's processes are in the cgroup too.
    let before = agent.counters();
    for family in Family::BOTH {
        for transport in Transport::ALL {
            names.ask(&lab.pod(0).client(family), transport);
        }
    }
    let after = agent.counters();
    assert!(before.resolved(&after) >= 6);
    assert_eq!(after.datapath("from_host"), before.datapath("from_host"));
}

/// An IPv6 socket that asks an IPv4 address, as many programs do it.
#[test]
fn a_socket_of_both_families_is_served() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&everywhere());
    let server = SocketAddr::from((CLUSTER_IP.v4.to_ipv6_mapped(), 53));
    let socket = lab.node().netns().run(|| UdpSocket::bind("[::]:0"));
    let socket = socket.or_panic("opening a socket");
    let patience = Some(Duration::from_secs(2));
    socket
        .set_read_timeout(patience)
        .or_panic("setting a time-out");
    for connected in [false, true] {
        let query = Names(u16::from(connected)).query();
        if connected {
            socket.connect(server).or_panic("connecting");
            socket.send(&query.to_bytes()).or_panic("sending");
            assert_eq!(socket.peer_addr().or_panic("asking for the peer"), server);
        } else {
            let sent = socket.send_to(&query.to_bytes(), server);
            sent.or_panic("sending");
        }
        let (_, from) = socket.recv_from(&mut [0; 512]).or_panic("no answer");
        assert_eq!(from, server, "connected: {connected}");
    }
    assert_eq!(agent.counters().datapath("from_host"), 2);
}

/// With nobody there, the ClusterIP is what it was before: kube-proxy's.
#[test]
fn their_cluster_ip_takes_the_ordinary_way_when_killed() {
    let lab = Lab::builder().start();
    let config = everywhere();
    let agent = lab.agent(&config);
    let mut names = Names(0);
    for family in Family::BOTH {
        names.ask(&client(&lab, CLUSTER_IP.of(family)), Transport::Connected);
    }
    lab.node().conntrack().assert_no_pod_dns();
    agent.kill9();
    for family in Family::BOTH {
        let client = client(&lab, CLUSTER_IP.of(family));
        for _ in 0..10 {
            for transport in Transport::ALL {
                names.ask(&client, transport);
            }
        }
    }
    assert!(!lab.node().conntrack().pod_dns().is_empty());
    let agent = lab.agent(&config);
    for family in Family::BOTH {
        assert_come_to(&agent, || {
            names.ask(&client(&lab, CLUSTER_IP.of(family)), Transport::Unconnected);
        });
    }
}

/// Nobody's route leads there any more: the sockets ask the ClusterIP, and their processes do not see it.
#[test]
fn their_link_local_address_is_answered_when_killed() {
    if linux() < (5, 14) {
        println!(
            "not tried: this kernel has no SO_NETNS_COOKIE (Linux 5.14), without which nobody answers there"
        );
        return;
    }
    let lab = Lab::builder().start();
    let config = everywhere();
    let agent = lab.agent(&config);
    let mut names = Names(0);
    for family in Family::BOTH {
        names.ask(&client(&lab, LINK_LOCAL.of(family)), Transport::Connected);
    }
    agent.kill9();
    all_are_answered_while_it_is_away(&lab, &mut names);
    let opened = Family::BOTH.map(|family| {
        let server = LINK_LOCAL.dns(family);
        assert_eq!(peers(&lab, server), [server; 2]);
        client(&lab, server.ip()).udp(true).or_panic("connecting")
    });
    let agent = lab.agent(&config);
    // What has begun there goes on there, and what is new comes back.
    for socket in opened {
        let query = names.query();
        socket.send(&query.to_bytes()).or_panic("sending");
        let answer = socket.receive().or_panic("no answer");
        assert_eq!(Message::read(&answer).map(|m| m.id), Some(query.id));
    }
    assert_eq!(agent.counters().datapath("from_host"), 0);
    for family in Family::BOTH {
        assert_come_to(&agent, || {
            names.ask(&client(&lab, LINK_LOCAL.of(family)), Transport::Unconnected);
        });
    }
}

/// The datagrams of such a socket pass the programs, and must not go where its answers are not taken from.
#[test]
fn a_connected_socket_of_both_families_stays_where_it_is() {
    let lab = Lab::builder().start();
    let config = everywhere();
    lab.agent(&config).kill9();
    let mut servers = vec![CLUSTER_IP];
    if linux() >= (5, 14) {
        servers.push(LINK_LOCAL);
    } else {
        println!(
            "not tried at the link-local address: this kernel has no SO_NETNS_COOKIE (Linux 5.14)"
        );
    }
    let mut names = Names(0);
    let sockets = servers.into_iter().map(|server| {
        let server = SocketAddr::from((server.v4.to_ipv6_mapped(), 53));
        let socket = lab.node().netns().run(|| UdpSocket::bind("[::]:0"));
        let socket = socket.or_panic("opening a socket");
        socket.connect(server).or_panic("connecting");
        let patience = Some(Duration::from_secs(2));
        socket
            .set_read_timeout(patience)
            .or_panic("setting a time-out");
        (socket, server)
    });
    let sockets: Vec<_> = sockets.collect();
    let mut ask_all = || {
        for (socket, server) in &sockets {
            let query = names.query();
            socket.send(&query.to_bytes()).or_panic("sending");
            let (_, from) = socket.recv_from(&mut [0; 512]).or_panic("no answer");
            assert_eq!(from, *server);
        }
    };
    ask_all();
    let agent = lab.agent(&config);
    ask_all();
    assert_eq!(agent.counters().datapath("from_host"), 0);
}

#[test]
fn the_cgroup_is_left_as_it_was() {
    let lab = Lab::builder().start();
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Tcp);
    }
    let before = lab.node().snapshot();
    let agent = lab.agent(&everywhere());
    let pins = agent.bpffs().join("host");
    let count = || fs::read_dir(&pins).map_or(0, Iterator::count);
    // The kernel lets go of a link in its own time.
    let assert_attached = |expected: usize| {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let snapshot = lab.node().snapshot();
            let links = snapshot.part("links").unwrap_or_default();
            let links = links.lines().filter(|line| line.contains("Cgroup"));
            match links.count() {
                attached if attached == expected => return,
                attached => assert!(Instant::now() < end, "{attached} are attached"),
            }
        }
    };
    assert_eq!(count(), 8);
    assert_attached(8);
    agent.kill9();
    assert_attached(8);
    // In each other's place.
    let agent = lab.agent(&everywhere());
    assert_eq!(count(), 8);
    assert_attached(8);
    agent.kill9();
    let agent = lab.agent(&config("auto"));
    assert_eq!(count(), 0);
    assert_attached(0);
    agent.kill9();
    lab.agent(&everywhere()).kill9();
    agent.detach();
    lab.node().assert_comes_back_to(&before);
    assert!(!pins.exists());
}

/// A successor that has put its programs in the place of this agent's, or took them away as its configuration says.
#[test]
fn a_successor_that_dies_takes_nothing_from_them() {
    for is_enabled in [true, false] {
        // It may be done before it is killed.
        assert!((0..5).any(|_| is_survived(is_enabled)));
    }
}

/// Whether the successor died before it had everything.
fn is_survived(is_enabled: bool) -> bool {
    let lab = Lab::builder().start();
    let agent = lab.agent(&everywhere());
    let file = other_configuration(&agent, |text| {
        text.replace("{enabled: true,", &format!("{{enabled: {is_enabled},"))
    });
    // The last one that is attached.
    let pin = agent.bpffs().join("host/host_connect6");
    let program = || {
        let link = FdLink::from(PinnedLink::from_pin(&pin).ok()?);
        Some(link.info().ok()?.program_id())
    };
    let own = program();
    assert!(own.is_some());
    let successor = successor(&lab, &file, false);
    let end = Instant::now() + LONG;
    while program() == own {
        assert!(Instant::now() < end, "{}", successor.log());
        std::thread::sleep(Duration::from_micros(100));
    }
    successor.kill9();
    let is_over = || agent.process().exit_status().is_some();
    wait_until(
        || format!("the dead one's programs stay\n{}", agent.log()),
        || is_over() || program() == own,
    );
    if is_over() {
        return false;
    }
    assert_eq!(says(&agent), (2, true));
    let mut names = Names(0);
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_come_to(&agent, || {
                names.ask(&client(&lab, CLUSTER_IP.of(family)), transport);
            });
        }
    }
    assert_never_nated(&lab);
    true
}

#[test]
fn pods_are_served_without_a_cgroup() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&serving(Path::new("/proc")));
    assert_eq!(says(&agent), (2, false));
    assert_web(&lab.pod(0).client(Family::V4), Transport::Tcp);
    let log = agent.log();
    assert!(
        log.contains("host.cgroup must be a directory of a cgroup2"),
        "{log}"
    );
}
