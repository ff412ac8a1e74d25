//! A link-local address is nobody's but the agent's. While that is away, the ordinary servers answer in its place, and
//! their answers come from the address that was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::addresses::{CLUSTER_IP, LINK_LOCAL};
use dns_cache_tests::patience::slowness;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::BULK;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Family, Flavour, Lab, Message, OrPanic, Process, Query, Transport,
    Way, tools,
};

use crate::{
    PASSED_BY, SetOnDrop, WEB, assert_web, attach_modes, fresh, wait_until_passed_by, warm,
};

pub(crate) fn config(attach: &str) -> AgentConfig {
    let config = AgentConfig {
        attach: attach.to_owned(),
        ..AgentConfig::default()
    };
    config.with_link_local()
}

fn client(lab: &Lab, family: Family) -> Client {
    let server = LINK_LOCAL.dns(family);
    let client = lab.pod(0).client(family).server(server);
    client.timeout(Duration::from_secs(1))
}

/// Names of which nothing knows yet.
pub(crate) struct Names(pub(crate) u16);

impl Names {
    pub(crate) fn query(&mut self) -> Query {
        self.0 += 1;
        Query::new(&fresh(self.0), rtype::A)
    }

    /// Asks once for a name that nobody knows yet.
    #[track_caller]
    pub(crate) fn ask(&mut self, client: &Client, transport: Transport) {
        let reply = client.ask(transport, &self.query());
        let reply = reply.or_panic(format_args!("{transport:?}, while the agent is away"));
        assert_eq!(reply.message.answers.len(), 1);
    }
}

/// Every lookup, by all transports, from the very first one on.
fn all_are_answered_when_killed(flavour: Flavour, attach: &str) {
    let lab = Lab::builder().flavour(flavour).start();
    let agent = lab.agent(&config(attach));
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&client(&lab, family), transport);
        }
    }
    lab.node().conntrack().assert_no_pod_dns();
    agent.kill9();
    let mut names = Names(0);
    for family in Family::BOTH {
        let client = client(&lab, family);
        for _ in 0..30 {
            for transport in Transport::ALL {
                names.ask(&client, transport);
            }
        }
    }
    assert!(!lab.node().conntrack().pod_dns().is_empty());
}

#[test]
fn all_are_answered_when_killed_routed() {
    all_are_answered_when_killed(Flavour::Routed, "tcx");
}

#[test]
fn all_are_answered_when_killed_bridged() {
    all_are_answered_when_killed(Flavour::Bridged, "tcx");
}

#[test]
fn all_are_answered_when_killed_clsact() {
    all_are_answered_when_killed(Flavour::Routed, "clsact");
}

/// What was begun while the agent was dead: a connection goes on to its end on the ordinary path, a client with a
/// fixed port is the agent's again at once.
#[test]
fn what_lives_across_the_agents_return() {
    for family in Family::BOTH {
        let lab = Lab::builder().start();
        lab.agent(&config("auto")).kill9();
        let client = client(&lab, family);
        let mut names = Names(0);
        let mut connection = client.tcp().or_panic("connecting to a dead agent");
        let socket = client.clone().source_port(52_002).udp(true);
        let socket = socket.or_panic("opening a socket");
        for _ in 0..2 {
            let answered = connection.ask(&names.query());
            answered.or_panic("the agent is away");
            socket.ask(&names.query()).or_panic("the agent is away");
        }
        let agent = lab.agent(&config("auto"));
        for _ in 0..5 {
            let before = agent.counters();
            let answered = connection.ask(&names.query());
            answered.or_panic("on a connection from before");
            assert_eq!(
                before.resolved(&agent.counters()),
                0,
                "it stays where it is"
            );
            socket.ask(&names.query()).or_panic("the agent is back");
            names.ask(&client, Transport::Tcp);
            assert!(before.resolved(&agent.counters()) > 1, "the agent is back");
        }
        // Once more, with notes of the connections from before.
        agent.kill9();
        let answered = connection.ask(&names.query());
        answered.or_panic("on a connection from the first death");
        for transport in Transport::ALL {
            names.ask(&client, transport);
        }
    }
}

/// A connection to the agent that was killed is ended by a reset, not left to wait.
#[test]
fn a_dead_agents_connections_end() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&config("auto"));
    let client = client(&lab, Family::V4).timeout(Duration::from_secs(20));
    let mut connection = client.tcp().or_panic("connecting");
    let mut names = Names(0);
    connection.ask(&names.query()).or_panic("the agent lives");
    agent.kill9();
    let asked = Instant::now();
    assert!(connection.ask(&names.query()).is_err());
    let waited = asked.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    names.ask(&client, Transport::Tcp);
}

#[test]
fn all_are_answered_when_wedged() {
    for family in Family::BOTH {
        let lab = Lab::builder().start();
        let agent = lab.agent(&config("auto").soon_passed_by());
        let client = client(&lab, family);
        let hasty = client.clone().timeout(Duration::from_millis(100));
        let mut names = Names(0);
        for transport in Transport::ALL {
            names.ask(&client, transport);
        }
        agent.pause();
        wait_until_passed_by(&Transport::ALL, |transport| {
            hasty.ask(transport, &names.query()).is_ok()
        });
        for _ in 0..20 {
            for transport in Transport::ALL {
                names.ask(&client, transport);
            }
        }
        assert!(!lab.node().conntrack().pod_dns().is_empty());
        let before = {
            agent.resume();
            agent.counters()
        };
        let back = Instant::now();
        while before.resolved(&agent.counters()) == 0 {
            names.ask(&client, Transport::Connected);
            assert!(back.elapsed() < PASSED_BY * slowness(), "it stays away");
        }
        assert!(agent.counters().datapath("diverted_back") > 0);
    }
}

/// A client that asks both addresses from one port at a time, as musl and Netty do.
#[test]
fn both_addresses_from_one_port() {
    let lab = Lab::builder().start();
    lab.agent(&config("auto")).kill9();
    for family in Family::BOTH {
        let any = SocketAddr::new(lab.pod(0).address(family), 0);
        let socket = lab.pod(0).netns().run(|| UdpSocket::bind(any));
        let socket = socket.or_panic("opening a socket");
        let patience = Some(Duration::from_secs(2));
        socket
            .set_read_timeout(patience)
            .or_panic("setting a time-out");
        let mut waiting: BTreeMap<u16, (IpAddr, Query)> = BTreeMap::new();
        for number in 0..40 {
            let server = [CLUSTER_IP, LINK_LOCAL][usize::from(number % 2)];
            let query = Query::new(&fresh(number), rtype::A).id(number);
            let sent = socket.send_to(&query.to_bytes(), server.dns(family));
            sent.or_panic("sending");
            waiting.insert(number, (server.of(family), query));
        }
        let mut buffer = [0; 512];
        while !waiting.is_empty() {
            let (length, from) = socket
                .recv_from(&mut buffer)
                .or_panic(format_args!("{waiting:?} wait"));
            let message = Message::read(&buffer[..length]).or_panic("no message");
            let (asked, query) = waiting.remove(&message.id).or_panic("not asked for");
            assert_eq!((from.ip(), message.question), (asked, query.question()));
        }
    }
}

/// How often our program looks at what goes to the first pod.
fn egress(lab: &Lab, agent: &Agent) -> usize {
    let veth = lab.pod(0).veth();
    let node = lab.node().netns();
    let mut command = Command::new("tc");
    let filters = node.succeed(command.args(["filter", "show", "dev", veth, "egress"]));
    let mut command = Command::new("ip");
    let link = node.succeed(command.args(["-oneline", "link", "show", "dev", veth]));
    let ifindex = link.split(':').next().or_panic("reading ip's output");
    let pin = agent.bpffs().join(format!("links/{ifindex}-egress"));
    let filters = filters.lines().filter(|line| line.contains("pod_egress"));
    filters.count() + usize::from(pin.exists())
}

/// What goes to pods is looked at only if there is a fallback, whenever that is said.
#[test]
fn a_reload_brings_and_takes_it() {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::builder().start();
        let plain = AgentConfig {
            attach: attach.to_owned(),
            ..AgentConfig::default()
        };
        let agent = lab.agent(&plain);
        assert_eq!(egress(&lab, &agent), 0);
        // Often, for the kernel lets go of a program in its own time.
        for _ in 0..20 {
            agent.reload(&config(attach));
            assert_eq!(egress(&lab, &agent), 1);
            agent.reload(&plain);
            assert_eq!(egress(&lab, &agent), 0);
        }
        agent.reload(&config(attach));
        agent.kill9();
        let mut names = Names(0);
        for family in Family::BOTH {
            names.ask(&client(&lab, family), Transport::Unconnected);
        }
        // Nor does a new agent leave what it does not need.
        let agent = lab.agent(&plain);
        assert_eq!(egress(&lab, &agent), 0);
    }
}

/// What a dead agent diverts it does until the next one is in its place, which in a container has the same number.
#[test]
fn all_are_answered_until_the_next_agent_serves() {
    let lab = Lab::builder().start();
    let config = AgentConfig {
        in_container: true,
        ..config("auto")
    };
    let killed = lab.agent(&config);
    let client = client(&lab, Family::V4);
    assert_web(&client, Transport::Connected);
    killed.kill9();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            let mut numbers = (0..BULK).cycle();
            let mut count = 0;
            while !done.load(Relaxed) {
                let name = fresh(numbers.next().unwrap_or_default());
                let reply = client.ask(Transport::Connected, &Query::new(&name, rtype::A));
                reply.or_panic("while no agent serves, or the next one comes");
                count += 1;
            }
            count
        });
        let stop = SetOnDrop(&done);
        let agent = lab.agent(&config);
        drop(stop);
        let count = lookups.join().unwrap_or_else(|panic| resume_unwind(panic));
        assert!(count > 10, "only {count} lookups");
        let mut names = Names(0);
        let before = agent.counters();
        names.ask(&client, Transport::Tcp);
        assert!(before.resolved(&agent.counters()) > 0);
    });
}

/// It says why it cannot start. Without an agent before it, it leaves the node as it was; what a dead one left serves on.
#[test]
fn a_start_that_fails_harms_nobody() {
    for attach in attach_modes() {
        let lab = Lab::builder().start();
        let client = client(&lab, Family::V4);
        assert_web(&lab.pod(0).client(Family::V4), Transport::Tcp);
        let obstacle = || lab.node().netns().ip("link add dnscache1 type bridge");
        let fail = |file: &Path| {
            let process = Process::start(
                lab.node().netns(),
                "failing",
                &tools::agent(),
                ["run".as_ref(), "--config".as_ref(), file.as_os_str()],
            );
            let end = Instant::now() + Duration::from_secs(20);
            while process.exit_status().is_none() {
                assert!(Instant::now() < end, "it starts: {}", process.log());
                thread::sleep(Duration::from_millis(5));
            }
            assert!(!process.stop(Duration::ZERO).success());
            let said = process.log();
            assert!(said.contains("create the veth pair dnscache0"), "{said}");
        };
        let config = config(attach);
        // For its file.
        let agent = lab.agent(&config);
        let file = agent.config_file();
        agent.stop();
        agent.detach();
        obstacle();
        let before = lab.node().snapshot();
        fail(&file);
        lab.node().assert_comes_back_to(&before);
        lab.node().netns().ip("link del dnscache1");

        let agent = lab.agent(&config);
        warm(&agent, &client, WEB);
        agent.kill9();
        obstacle();
        fail(&file);
        lab.node().conntrack().flush();
        // In the kernel, as it was cached before.
        assert_web(&client, Transport::Connected);
        lab.node().conntrack().assert_no_pod_dns();
        let mut names = Names(0);
        for transport in Transport::ALL {
            names.ask(&client, transport);
        }
        lab.node().netns().ip("link del dnscache1");
        let agent = lab.agent(&config);
        let before = agent.counters();
        assert_web(&client, Transport::Connected);
        assert_eq!(before.way(&agent.counters()), Way::Kernel);
        agent.stop();
    }
}

#[test]
fn detach_leaves_nothing() {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::builder().start();
        for family in Family::BOTH {
            assert_web(&lab.pod(0).client(family), Transport::Tcp);
        }
        let before = lab.node().snapshot();
        let agent = lab.agent(&config(attach));
        agent.kill9();
        let mut names = Names(0);
        names.ask(&client(&lab, Family::V4), Transport::Connected);
        agent.detach();
        lab.node().assert_comes_back_to(&before);
        let mut command = Command::new("tc");
        command.args(["filter", "show", "dev", lab.pod(0).veth(), "egress"]);
        assert_eq!(lab.node().netns().succeed(&mut command), "");
    }
}

/// Without an address to fall back to, the agent says so.
#[test]
fn an_address_without_a_fallback_is_named() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig {
        listen: vec![LINK_LOCAL.of(Family::V4)],
        ..AgentConfig::default()
    });
    let log = agent.log();
    assert!(
        log.contains("169.254.20.10 is answered by nobody while the agent is away"),
        "{log}"
    );
}
