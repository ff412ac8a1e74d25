//! The agent's end, however it comes, costs no lookup; what was there before it came is unharmed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dns_cache_tests::patience::{slowness, wait_until};
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Family, Flavour, Lab, Netns, OrPanic, Query, Transport, Way,
};

use crate::metrics::get;
use crate::{
    PASSED_BY, SetOnDrop, WEB, assert_web, fresh, lab_with_agent, wait_until_passed_by, warm,
};

fn next_lookup_works_after(end: fn(&Agent), flavour: Flavour) {
    for family in Family::BOTH {
        for transport in Transport::ALL {
            let (lab, agent) = lab_with_agent(flavour);
            let client = lab.pod(0).client(family).timeout(Duration::from_secs(1));
            assert_web(&client, transport);
            warm(&agent, &client, WEB);
            lab.node().conntrack().assert_no_pod_dns();
            end(&agent);
            // The very next one, once: over UDP the kernel still has the answer.
            assert_web(&client, transport);
            let conntrack = lab.node().conntrack();
            if transport == Transport::Tcp {
                assert!(!conntrack.pod_dns().is_empty(), "it took the ordinary way");
            } else {
                conntrack.assert_no_pod_dns();
            }
            assert!(
                client
                    .ask(transport, &Query::new(&fresh(1), rtype::A))
                    .is_ok()
            );
            assert!(!conntrack.pod_dns().is_empty(), "it took the ordinary way");
        }
    }
}

#[test]
fn next_lookup_after_sigkill_works_routed() {
    next_lookup_works_after(Agent::kill9, Flavour::Routed);
}

#[test]
fn next_lookup_after_sigkill_works_bridged() {
    next_lookup_works_after(Agent::kill9, Flavour::Bridged);
}

#[test]
fn next_lookup_after_a_panic_works() {
    next_lookup_works_after(Agent::abort, Flavour::Routed);
}

#[test]
fn kernel_answers_go_on_after_sigterm() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    assert_web(&client, Transport::Connected);
    let before = agent.counters();
    while before.way(&agent.counters()) != Way::Kernel {
        assert_web(&client, Transport::Connected);
    }
    agent.stop();
    assert_web(&client, Transport::Connected);
    lab.node().conntrack().assert_no_pod_dns();
}

#[test]
fn upstreams_see_the_connections_of_a_dead_agent_end() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    let established = || {
        let replicas = lab.dns().replicas().iter();
        replicas
            .map(|replica| established_at_port_53(replica.pod().netns()))
            .sum::<usize>()
    };
    for number in 0..8 {
        let reply = client.ask(Transport::Connected, &Query::new(&fresh(number), rtype::A));
        assert!(reply.is_ok());
    }
    assert!(established() > 0, "no connection to end");
    agent.kill9();
    let end = Instant::now() + Duration::from_secs(20);
    while established() > 0 {
        assert!(Instant::now() < end, "{} stay", established());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// By proc_pid_net(5): connections in state 1 whose local port is 53.
fn established_at_port_53(netns: &Netns) -> usize {
    let text = netns.run(|| {
        ["tcp", "tcp6"]
            .map(|family| fs::read_to_string(format!("/proc/thread-self/net/{family}")))
            .map(|text| text.or_panic("reading the TCP sockets"))
            .concat()
    });
    let sockets = text.lines().map(|line| line.split_whitespace());
    sockets
        .filter(|fields| {
            let mut fields = fields.clone();
            fields.nth(1).is_some_and(|local| local.ends_with(":0035"))
                && fields.nth(1) == Some("01")
        })
        .count()
}

#[test]
fn fixed_port_client_survives_sigkill() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let socket = lab
        .pod(0)
        .client(Family::V4)
        .source_port(52_001)
        .udp(true)
        .or_panic("opening a socket");
    let query = Query::new(WEB, rtype::A);
    assert!(socket.ask(&query).is_ok());
    agent.kill9();
    assert!(socket.ask(&query).is_ok());
    let agent = lab.agent(&AgentConfig::default());
    let before = agent.counters();
    assert!(socket.ask(&query).is_ok());
    assert!(socket.ask(&Query::new(&fresh(1), rtype::A)).is_ok());
    assert!(
        before.resolved(&agent.counters()) > 0,
        "the new agent has not taken over"
    );
}

#[test]
fn stopped_agent_costs_no_lookup() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    std::thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            let client = lab
                .pod(0)
                .client(Family::V4)
                .timeout(Duration::from_secs(1));
            for _ in 0..150 {
                assert_web(&client, Transport::Connected);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        agent.stop();
        lookups
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// SIGTERM while queries wait for an upstream: they are answered before the agent ends.
#[test]
fn stopped_agent_answers_what_it_was_asked() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab
        .pod(0)
        .client(Family::V4)
        .timeout(Duration::from_secs(20));
    for transport in Transport::ALL {
        assert_web(&client, transport);
    }
    for replica in lab.dns().replicas() {
        replica.pause();
    }
    let before = agent.counters();
    std::thread::scope(|scope| {
        let asking: Vec<_> = [Transport::Connected, Transport::Tcp]
            .into_iter()
            .zip([7, 8])
            .map(|(transport, number)| {
                let client = &client;
                scope.spawn(move || client.ask(transport, &Query::new(&fresh(number), rtype::A)))
            })
            .collect();
        let waiting = || agent.counters().resolver("misses") - before.resolver("misses");
        wait_until(|| format!("{} wait", waiting()), || waiting() == 2);
        scope.spawn(|| agent.stop());
        // It says so while they wait.
        wait_until(
            || format!("{:?}", get(&lab, "/ready")),
            || get(&lab, "/ready").1 == "the agent is about to end\n",
        );
        for replica in lab.dns().replicas() {
            replica.resume();
        }
        for asked in asking {
            let reply = asked
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .or_panic("a query from before the end");
            assert_eq!(reply.message.answers.len(), 1);
        }
    });
    lab.node().conntrack().assert_no_pod_dns();
}

/// SIGSTOP: the sockets are there, and nobody reads them. What is cached is answered, the rest takes the ordinary way
/// soon, and comes back by itself.
#[test]
fn a_wedged_agent_is_passed_by() {
    for family in Family::BOTH {
        let lab = Lab::builder().start();
        let agent = lab.agent(&AgentConfig::default().soon_passed_by());
        let pod = lab.pod(0);
        let (patient, hasty) = (
            pod.client(family).timeout(Duration::from_secs(1)),
            pod.client(family).timeout(Duration::from_millis(100)),
        );
        assert_web(&patient, Transport::Connected);
        assert_web(&patient, Transport::Connected);
        let before = agent.counters();
        agent.pause();
        let mut names = (0..).map(fresh);
        wait_until_passed_by(&Transport::ALL, |transport| {
            let name = names.next().unwrap_or_default();
            let reply = hasty.ask(transport, &Query::new(&name, rtype::A));
            reply.is_ok()
        });
        for transport in [Transport::Connected, Transport::Unconnected] {
            assert_web(&patient, transport);
        }
        for _ in 0..20 {
            assert!(
                patient
                    .ask(Transport::Connected, &Query::new(&fresh(0), rtype::A))
                    .is_ok()
            );
        }
        assert!(!lab.node().conntrack().pod_dns().is_empty());
        agent.resume();
        let (back, stopped) = (Instant::now(), agent.counters());
        while stopped.resolved(&agent.counters()) == 0 {
            assert_web(&patient, Transport::Tcp);
            assert!(back.elapsed() < PASSED_BY * slowness(), "it stays away");
        }
        let after = agent.counters();
        for counter in ["ordinary_wedged_udp", "ordinary_wedged_tcp"] {
            assert!(
                after.datapath(counter) > before.datapath(counter),
                "{counter}"
            );
        }
    }
}

/// From the moment at which a new agent starts until it serves, each packet has somewhere to go.
#[test]
fn starting_agent_costs_no_lookup() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        agent.kill9();
        let lookups = scope.spawn(|| {
            let client = lab
                .pod(0)
                .client(Family::V4)
                .timeout(Duration::from_secs(1));
            let mut count = 0;
            while !done.load(Relaxed) {
                // The kernel would go on answering for one name, which the old programs may have handed to the new agent.
                let name = fresh((count % 900) as u16);
                let reply = client.ask(Transport::Unconnected, &Query::new(&name, rtype::A));
                assert_eq!(reply.or_panic(&name).message.answers.len(), 1, "{name}");
                count += 1;
            }
            count
        });
        let ends = SetOnDrop(&done);
        let agent = lab.agent(&AgentConfig::default());
        wait_until(
            || "the new agent is asked nothing",
            || agent.counters().datapath("to_resolver_udp") > 0,
        );
        drop(ends);
        let count = lookups
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(count > 10, "only {count} lookups");
        let resolved = agent.counters().datapath("to_resolver_udp");
        assert!(
            resolved > 0 && resolved < count,
            "{resolved} of {count} by the new agent"
        );
    });
}

/// More connections than the resolver takes from one client, each used again after the resolver has closed it:
/// the client hears of it from the resolver, and the ordinary way sees nothing of it.
#[test]
fn connections_that_the_resolver_closes_leave_conntrack_alone() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let events = lab.node().conntrack().events();
    let client = lab.pod(0).client(Family::V4);
    let mut connections: Vec<_> = (0..230).filter_map(|_| client.tcp().ok()).collect();
    let query = Query::new(WEB, rtype::A);
    let mut refused = 0;
    for connection in &mut connections {
        // Twice: the second segment of a connection that was closed at once meets no socket any more.
        refused += u32::from(connection.ask(&query).is_err() | connection.ask(&query).is_err());
    }
    assert!(refused > 0, "no connection was over the limit");
    assert_web(&lab.pod(1).client(Family::V4), Transport::Tcp);
    lab.node().conntrack().assert_no_pod_dns();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(events.pod_dns(), [], "conntrack saw pods' DNS");
}

#[test]
fn restarted_agent_serves_again_and_attaches_once() {
    let lab = Lab::builder().start();
    let first = lab.agent(&AgentConfig::default());
    assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
    let mut interfaces = first.interfaces();
    let snapshot = lab.node().snapshot();
    for kill in [true, false] {
        if kill {
            first.kill9();
        }
        let agent = lab.agent(&AgentConfig::default());
        let before = agent.counters();
        for family in Family::BOTH {
            for transport in Transport::ALL {
                assert_web(&lab.pod(0).client(family), transport);
            }
        }
        assert!(before.resolved(&agent.counters()) >= 6);
        let mut again = agent.interfaces();
        interfaces.sort();
        again.sort();
        assert_eq!(again, interfaces);
        let links =
            |snapshot: &dns_cache_tests::Snapshot| snapshot.part("tc qdisc").map(str::to_owned);
        assert_eq!(links(&lab.node().snapshot()), links(&snapshot));
        agent.stop();
    }
}

#[test]
fn tcp_connection_from_before_the_agent_is_unharmed() {
    for flavour in Flavour::BOTH {
        let lab = Lab::builder().flavour(flavour).start();
        for family in Family::BOTH {
            let client = lab.pod(0).client(family);
            let mut old = client.tcp().or_panic("connecting");
            old.ask(&Query::new(WEB, rtype::A))
                .or_panic("before the agent came");
            let agent = lab.agent(&AgentConfig::default());
            for number in 0..5 {
                old.ask(&Query::new(&fresh(number), rtype::A))
                    .or_panic("on a connection from before the agent");
                assert_web(&client, Transport::Tcp);
            }
            assert!(agent.counters().datapath("ordinary_no_socket_tcp") > 0);
            agent.stop();
            agent.detach();
            old.ask(&Query::new(WEB, rtype::A))
                .or_panic("after the agent went");
        }
    }
}
