//! Another agent takes over from one that runs: nobody notices.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::addresses::{CLUSTER_IP, LINK_LOCAL, NODE};
use dns_cache_tests::patience::{LONG, wait_until};
use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::BULK;
use dns_cache_tests::{
    Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Process, Query, Transport, tools,
};

use crate::{SetOnDrop, WEB, assert_web, fresh, lab_with_agent};

/// Nobody waits for as long as this, and nobody asks twice.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lookups of all kinds, until `done`: each one must be answered, over UDP after so many tries at most, and rightly.
/// Says how many there were.
fn look_up_until(lab: &Lab, done: &AtomicBool, tries: u32) -> u64 {
    look_up_patiently(lab, done, tries, PATIENCE)
}

/// The same, each answered within this time.
pub(crate) fn look_up_patiently(
    lab: &Lab,
    done: &AtomicBool,
    tries: u32,
    patience: Duration,
) -> u64 {
    let numbers = AtomicU16::new(0);
    let unknown = || fresh(numbers.fetch_add(1, Relaxed) % BULK);
    let ask = |family: Family, transport: Transport| {
        let client = lab.pod(0).client(family).timeout(patience);
        let mut connection =
            (transport == Transport::Tcp).then(|| client.tcp().or_panic("opening a connection"));
        let mut count = 0;
        while !done.load(Relaxed) {
            let web = Query::new(WEB, rtype::A);
            let query = Query::new(&unknown(), rtype::A);
            for query in [web, query] {
                let mut ask = || match &mut connection {
                    // The same connection to the end.
                    Some(connection) => connection.ask(&query),
                    None => client.ask(transport, &query),
                };
                let mut reply = ask();
                for _ in 1..tries {
                    reply = reply.or_else(|_| ask());
                }
                let reply = reply.or_panic(format_args!("{family:?} {transport:?}"));
                assert_eq!(reply.message.answers.len(), 1);
                count += 1;
            }
        }
        count
    };
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = Family::BOTH
            .into_iter()
            .flat_map(|family| Transport::ALL.map(|transport| (family, transport)))
            .map(|(family, transport)| scope.spawn(move || ask(family, transport)))
            .collect();
        let counts = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| {
                done.store(true, Relaxed);
                std::panic::resume_unwind(panic)
            })
        });
        counts.sum()
    })
}

fn attached_by(attach: &str) -> AgentConfig {
    AgentConfig {
        attach: attach.to_owned(),
        ..AgentConfig::default()
    }
}

/// Each agent is process 1, as in its own container.
fn in_containers() -> AgentConfig {
    AgentConfig {
        in_container: true,
        ..AgentConfig::default()
    }
}

fn nobody_notices(config: &AgentConfig, tries: u32, between: impl Fn(&Agent)) {
    let lab = Lab::builder().start();
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Tcp);
    }
    lab.node().conntrack().flush();
    let before = lab.node().snapshot();
    let mut agent = lab.agent(config);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lookups = scope.spawn(|| look_up_until(&lab, &done, tries));
        for _ in 0..3 {
            if lookups.is_finished() {
                break;
            }
            between(&agent);
            let successor = lab.agent(config);
            agent.assert_ends();
            agent = successor;
        }
        done.store(true, Relaxed);
        let count = lookups
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(count > 100, "only {count} lookups");
    });
    lab.node().conntrack().assert_no_pod_dns();
    // The last one is a whole agent.
    let counters = agent.counters();
    assert_web(&lab.pod(0).client(Family::V4), Transport::Tcp);
    assert!(counters.resolved(&agent.counters()) > 0);
    agent.stop();
    agent.detach();
    lab.node().assert_comes_back_to(&before);
}

#[test]
fn nobody_notices_tcx() {
    nobody_notices(&attached_by("auto"), 1, |_| {});
}

#[test]
fn nobody_notices_clsact() {
    nobody_notices(&attached_by("clsact"), 1, |_| {});
}

#[test]
fn nobody_notices_in_containers() {
    nobody_notices(&in_containers(), 1, |_| {});
}

/// The maps of the agents before are of another layout each time: their pins are elsewhere. A reply may be lost that
/// is under way when the program for replies changes, as the new one has not heard of its client.
#[test]
fn nobody_notices_another_layout() {
    nobody_notices(&attached_by("auto"), 2, Agent::age_maps);
}

/// An address that the successor is not told of: when it comes back, no query goes to a socket that the old agent has
/// still open for late answers.
#[test]
fn an_address_that_is_left_out_may_come_back() {
    // On a busy machine the old agent may have ended before.
    assert!((0..5).any(|_| comes_back_while_the_old_agent_lives()));
}

fn comes_back_while_the_old_agent_lives() -> bool {
    let lab = Lab::builder().start();
    // Connections wait there to be accepted.
    let silent = lab.node().netns().run(|| TcpListener::bind((NODE.v4, 0)));
    let silent = silent.or_panic("listening");
    let server = silent.local_addr().or_panic("the listener's address");
    let both = AgentConfig {
        zones: vec![("silent.test".to_owned(), vec![server])],
        ..AgentConfig::default()
    };
    let first = lab.agent(&both);
    // What is lost does not come, however long it is waited for.
    let client = lab.pod(0).client(Family::V6).timeout(PATIENCE * 5);
    let done = AtomicBool::new(false);
    let second = thread::scope(|scope| {
        // From ever new ports, so that each of its sockets has queries that wait.
        scope.spawn(|| {
            let hasty = lab.pod(1).client(Family::V6);
            let hasty = hasty.timeout(Duration::from_millis(5));
            for number in (0u32..).take_while(|_| !done.load(Relaxed)) {
                let query = Query::new(&format!("x{number}.silent.test"), rtype::A);
                let _ = hasty.ask(Transport::Connected, &query);
            }
        });
        let _ends = SetOnDrop(&done);
        lab.agent(&AgentConfig {
            listen: vec![CLUSTER_IP.of(Family::V4)],
            ..both.clone()
        })
    });
    second.reload(&both);
    let lives = first.process().exit_status().is_none();
    for number in 0..100 {
        let query = Query::new(&fresh(number), rtype::A);
        let reply = client.ask(Transport::Connected, &query);
        reply.or_panic(format_args!("lookup {number} after the address came back"));
    }
    first.assert_ends();
    lives
}

/// However far it got: the one that was there goes on, and is whole.
fn a_dead_successor_has_taken_nothing(config: AgentConfig) {
    let config = config.with_link_local();
    let lab = Lab::builder().start();
    let began = Instant::now();
    let mut agent = lab.agent(&config);
    // A part of the time that a start takes on this machine now.
    let step = began.elapsed() / 12;
    let handed_over = |agent: &Agent| {
        agent.log().contains("handed over") || agent.process().exit_status().is_some()
    };
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    let link_local = client.clone().server(LINK_LOCAL.dns(Family::V4));
    let file = agent.config_file();
    let (mut died, mut number) = (0, 0);
    'deaths: for delay in (0..).map(|number| step * number) {
        let successor = successor(&lab, &file, config.in_container);
        thread::sleep(delay);
        successor.kill9();
        // It has noticed when it gives the kernel an answer again.
        let end = Instant::now() + LONG;
        loop {
            // The one that was there says what becomes of it: the other may die before it does.
            if agent.status().is_err() {
                wait_until(|| agent.log(), || handed_over(&agent));
            }
            if handed_over(&agent) {
                break 'deaths;
            }
            number += 1;
            let name = fresh(number);
            let query = Query::new(&name, rtype::A);
            let before = agent.counters();
            for _ in 0..2 {
                let reply = client.ask(Transport::Connected, &query);
                assert_eq!(reply.or_panic("a lookup").message.answers.len(), 1);
            }
            let name = fresh(BULK - 1 - number);
            let query = Query::new(&name, rtype::A);
            let reply = link_local.ask(Transport::Connected, &query);
            let reply = reply.or_panic("a lookup at the link-local address");
            assert_eq!(reply.message.answers.len(), 1);
            let after = agent.counters();
            if before.answered(&after) > 0 {
                break;
            }
            assert!(Instant::now() < end, "{after:?}\n{}", agent.log());
        }
        assert_web(&client, Transport::Tcp);
        lab.node().conntrack().assert_no_pod_dns();
        died += 1;
    }
    assert!(died > 3, "it is quick: only {died} died");
    agent.assert_ends();
    agent = lab.agent(&config);
    assert_web(&client, Transport::Connected);
    agent.stop();
}

#[test]
fn a_successor_that_dies_has_taken_nothing() {
    a_dead_successor_has_taken_nothing(AgentConfig::default());
}

#[test]
fn a_successor_that_dies_in_a_container_has_taken_nothing() {
    a_dead_successor_has_taken_nothing(in_containers());
}

/// Another agent in the node, with this configuration; as a container's first process on request.
pub(crate) fn successor(lab: &Lab, file: &Path, in_container: bool) -> Process {
    let start = match in_container {
        true => Process::start_in_container,
        false => Process::start,
    };
    let arguments = ["run".as_ref(), "--config".as_ref(), file.as_os_str()];
    start(lab.node().netns(), "successor", &tools::agent(), arguments)
}

/// A configuration that is an agent's but for what `edit` makes of it, beside that one's file.
pub(crate) fn other_configuration(agent: &Agent, edit: impl FnOnce(&str) -> String) -> PathBuf {
    let text = fs::read_to_string(agent.config_file()).or_panic("reading the configuration");
    let file = agent.config_file().with_file_name("other.yaml");
    fs::write(&file, edit(&text)).or_panic("writing a configuration");
    file
}

/// A successor that was stopped before its programs were verified: it holds all that it was given.
fn stopped_successor(lab: &Lab, agent: &Agent) -> Process {
    let successor = successor(lab, &agent.config_file(), false);
    let end = Instant::now() + Duration::from_secs(20);
    while !agent.log().contains("another agent takes over") {
        assert!(Instant::now() < end, "{}", successor.log());
    }
    successor.pause();
    assert!(!successor.log().contains(" started "), "it was quick");
    successor
}

/// Lets it go on, which it does not.
fn assert_gives_up(successor: &Process) {
    successor.resume();
    let end = Instant::now() + Duration::from_secs(20);
    while successor.exit_status().is_none() {
        assert!(Instant::now() < end, "{}", successor.log());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!successor.stop(PATIENCE).success());
    let said = successor.log();
    assert!(said.contains("take over from the agent before"), "{said}");
}

/// The programs on a pod's interface, and what they ask and answer with.
fn programs(lab: &Lab, agent: &Agent) -> (String, String) {
    let veth = lab.pod(0).veth();
    let mut filters = Command::new("tc");
    filters.args(["filter", "show", "dev", veth, "ingress"]);
    let mut pins = Command::new("find");
    pins.arg(agent.bpffs());
    let netns = lab.node().netns();
    (netns.succeed(&mut filters), netns.succeed(&mut pins))
}

/// An agent that is told to end while its successor hangs does not wait for it.
#[test]
fn a_hung_successor_does_not_keep_an_agent_that_is_told_to_end() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default().with_link_local());
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    assert_web(&client, Transport::Connected);
    let successor = stopped_successor(&lab, &agent);
    let told = Instant::now();
    agent.stop();
    // It answers for up to five seconds what it has.
    let took = told.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_gives_up(&successor);
    // It was an end as any other.
    let link_local = client.clone().server(LINK_LOCAL.dns(Family::V4));
    for (number, client) in (0..).zip([&client, &link_local]) {
        let query = Query::new(&fresh(number), rtype::A);
        let reply = client.ask(Transport::Connected, &query);
        assert_eq!(reply.or_panic("a lookup").message.answers.len(), 1);
    }
    let agent = lab.agent(&AgentConfig::default());
    let before = agent.counters();
    assert_web(&client, Transport::Tcp);
    assert!(before.resolved(&agent.counters()) > 0);
    agent.stop();
}

/// The agent goes on by itself, and a successor that wakes up after that leaves it all alone.
#[test]
fn a_successor_that_wakes_up_too_late_writes_nothing() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig {
        attach: "clsact".to_owned(),
        ..AgentConfig::default()
    });
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    assert_web(&client, Transport::Connected);
    let before = programs(&lab, &agent);
    let successor = stopped_successor(&lab, &agent);
    let end = Instant::now() + Duration::from_secs(90);
    while !agent.log().contains("has not taken over; going on") {
        assert!(Instant::now() < end, "{}", agent.log());
        assert_web(&client, Transport::Connected);
        thread::sleep(Duration::from_millis(50));
    }
    assert_gives_up(&successor);
    assert_eq!(programs(&lab, &agent), before);
    // The kernel cache is written by the one agent again.
    let query = Query::new(&fresh(1), rtype::A);
    let counters = agent.counters();
    let end = Instant::now() + Duration::from_secs(20);
    while counters.answered(&agent.counters()) == 0 {
        assert!(Instant::now() < end, "{}", agent.log());
        assert!(client.ask(Transport::Connected, &query).is_ok());
    }
    lab.node().conntrack().assert_no_pod_dns();
    agent.stop();
}

/// One that cannot start says so, and harms nobody.
#[test]
fn a_successor_that_fails_has_taken_nothing() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default());
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    assert_web(&client, Transport::Connected);
    // Nobody has this address.
    let metrics = "metrics: {listen: \"198.51.100.1:9253\"}";
    let file = other_configuration(&agent, |text| format!("{text}\n{metrics}\n"));
    let successor = successor(&lab, &file, false);
    let end = Instant::now() + LONG;
    while successor.exit_status().is_none() {
        assert!(Instant::now() < end, "{}", successor.log());
        assert_web(&client, Transport::Connected);
        assert_web(&client, Transport::Tcp);
    }
    assert!(!successor.stop(PATIENCE).success());
    let said = successor.log();
    let said: Vec<_> = said.matches("Cannot assign requested address").collect();
    assert_eq!(said.len(), 1, "once: {}", successor.log());
    let before = agent.counters();
    let query = Query::new(&fresh(1), rtype::A);
    assert!(client.ask(Transport::Connected, &query).is_ok());
    assert!(before.resolved(&agent.counters()) > 0);
    lab.node().conntrack().assert_no_pod_dns();
}

/// An agent that does not answer cannot hand over. The other one waits for its end, as at a restart.
#[test]
fn a_wedged_agent_is_waited_for() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
    assert_web(&client, Transport::Connected);
    agent.pause();
    thread::scope(|scope| {
        let successor = scope.spawn(|| lab.agent(&AgentConfig::default()));
        wait_until(
            || agent.log(),
            || {
                assert!(!successor.is_finished());
                agent.log().contains("waiting for that, or for its end")
            },
        );
        agent.kill9();
        let successor = successor
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let before = successor.counters();
        let query = Query::new(WEB, rtype::A);
        assert!(client.ask(Transport::Tcp, &query).is_ok());
        assert!(before.resolved(&successor.counters()) > 0);
    });
}

/// A successor that speaks another version of the conversation starts when the old agent has made room, as at a restart; that
/// one's supervisor does not start it again meanwhile.
#[test]
fn one_that_is_not_understood_makes_it_end() {
    for after in ["standBy", "exit"] {
        let config = AgentConfig {
            extra: format!("afterHandOver: {after}\n"),
            ..AgentConfig::default()
        };
        let lab = Lab::builder().start();
        let first = lab.agent(&config);
        let client = lab.pod(0).client(Family::V4).timeout(PATIENCE);
        assert_web(&client, Transport::Connected);
        let socket = first.state_dir().join("control.sock");
        let mut stranger = UnixStream::connect(socket).or_panic("connecting to the control socket");
        stranger
            .write_all(b"{\"version\":1,\"command\":\"hand-over\",\"protocol\":99}\n")
            .or_panic("asking");
        let mut said = String::new();
        stranger.read_to_string(&mut said).or_panic("reading");
        assert!(said.contains("version 99"), "{said}");
        let second = lab.agent(&config);
        for transport in Transport::ALL {
            assert_web(&client, transport);
        }
        if after == "standBy" {
            assert!(first.log().contains("standing by"), "{}", first.log());
            assert!(first.process().exit_status().is_none());
        }
        second.stop();
        first.assert_ends();
    }
}

/// Under a supervisor that would start it again.
#[test]
fn one_that_stands_by_ends_with_its_successor() {
    let config = AgentConfig {
        extra: "afterHandOver: standBy\n".to_owned(),
        ..AgentConfig::default()
    };
    let lab = Lab::builder().start();
    let first = lab.agent(&config);
    let second = lab.agent(&config);
    let end = Instant::now() + LONG;
    while !first.log().contains("standing by") {
        assert!(Instant::now() < end, "{}", first.log());
        thread::sleep(Duration::from_millis(10));
    }
    // A third one takes over from the second one, and the first one is needed no more than before.
    let third = lab.agent(&config);
    assert!(first.process().exit_status().is_none());
    third.kill9();
    second.kill9();
    first.assert_ends();
    // Told to end, it does so at once.
    let fourth = lab.agent(&config);
    let fifth = lab.agent(&config);
    assert!(fourth.process().exit_status().is_none());
    fourth.stop();
    assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
    fifth.stop();
}
