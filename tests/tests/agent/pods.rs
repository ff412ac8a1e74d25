//! Pods that come, move and go while the agent runs.

use std::fs;
use std::ops::Range;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use dns_cache_common::maps::BridgePort;
use dns_cache_tests::turn::Turn;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Pod, Query, Transport, addresses,
};

use crate::{assert_web, fresh, lab_with_agent, metrics};

const LIMIT: Duration = Duration::from_millis(100);
/// As many pods have that, and one must be in time.
const PODS: u16 = 10;
/// What shall happen, happens at last, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a new pod waits for its program: from the veth's appearance on until the agent said that it is attached, and
/// until the last lookup that still took the ordinary way. It is answered all the while.
fn new_pods_wait(lab: &Lab, agent: &Agent, names: Range<u16>) -> Duration {
    let known = agent.interfaces();
    lab.node().conntrack().flush();
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                if agent.interfaces().iter().any(|name| !known.contains(name)) {
                    return Some(Instant::now());
                }
            }
            None
        });
        let pod = lab.add_pod();
        let client = pod.client(Family::V4);
        let conntrack = lab.node().conntrack();
        let (mut entries, mut last_ordinary) = (0, None);
        for number in names {
            let sent = Instant::now();
            let reply = client.ask(Transport::Connected, &Query::new(&fresh(number), rtype::A));
            assert!(reply.is_ok(), "lookup {number} of a new pod: {reply:?}");
            let now = conntrack.pod_dns().len();
            if now > entries {
                last_ordinary = Some(sent);
            }
            entries = now;
        }
        let attached = watcher.join().unwrap_or(None);
        let attached = attached.or_panic("a new pod's interface has no program");
        let last = last_ordinary.map_or(attached, |last| attached.max(last));
        let waited = last.saturating_duration_since(pod.appeared());
        pod.remove();
        waited
    })
}

/// The best of some, for each is seen by processes that the machine has to get round to.
fn new_pod_is_served_in_time(flavour: Flavour) {
    let _alone = Turn::alone();
    let (lab, agent) = lab_with_agent(flavour);
    let mut waits = Vec::new();
    let is_in_time = |wait: &Duration| *wait <= LIMIT;
    for pod in 0..PODS {
        waits.push(new_pods_wait(&lab, &agent, pod * 20..(pod + 1) * 20));
        if waits.iter().any(is_in_time) {
            break;
        }
    }
    assert!(waits.iter().any(is_in_time), "new pods wait {waits:?}");
}

#[test]
fn new_pod_is_served_in_time_routed() {
    new_pod_is_served_in_time(Flavour::Routed);
}

#[test]
fn new_pod_is_served_in_time_bridged() {
    new_pod_is_served_in_time(Flavour::Bridged);
}

#[test]
fn removed_pod_leaves_nothing() {
    for flavour in Flavour::BOTH {
        let (lab, agent) = lab_with_agent(flavour);
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
        let before = lab.node().snapshot();
        let interfaces = agent.interfaces();
        for _ in 0..5 {
            let pod = lab.add_pod();
            agent.wait_for(&[pod.veth()], PATIENCE);
            for family in Family::BOTH {
                assert_web(&pod.client(family), Transport::Connected);
                assert_web(&pod.client(family), Transport::Tcp);
            }
            pod.remove();
        }
        let end = Instant::now() + PATIENCE;
        while agent.interfaces() != interfaces && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(agent.interfaces(), interfaces);
        lab.node().assert_comes_back_to(&before);
        lab.node().conntrack().assert_no_pod_dns();
    }
}

/// The next pod gets the address of the last one, on another veth.
#[test]
fn address_moves_to_another_pod() {
    for flavour in Flavour::BOTH {
        let (mut lab, agent) = lab_with_agent(flavour);
        for family in Family::BOTH {
            assert_web(&lab.pod(1).client(family), Transport::Connected);
        }
        let gone = lab.pods_mut().remove(1);
        let addresses = gone.addresses();
        gone.remove();
        let mut heir = lab.add_pod();
        agent.wait_for(&[heir.veth()], PATIENCE);
        heir.readdress(addresses);
        for family in Family::BOTH {
            for transport in Transport::ALL {
                assert_web(&heir.client(family), transport);
                assert_web(&lab.pod(0).client(family), transport);
            }
        }
        lab.node().conntrack().assert_no_pod_dns();
    }
}

/// A pod whose address is replaced is answered at the new one.
#[test]
fn address_of_a_living_pod_changes() {
    let (mut lab, _agent) = lab_with_agent(Flavour::Routed);
    let pod = &mut lab.pods_mut()[0];
    assert_web(&pod.client(Family::V4), Transport::Connected);
    pod.readdress(addresses::pod(240));
    for family in Family::BOTH {
        for transport in Transport::ALL {
            assert_web(&lab.pod(0).client(family), transport);
        }
    }
}

/// A pod that takes a second address is answered at both, in turn.
#[test]
fn pod_with_two_addresses() {
    for flavour in Flavour::BOTH {
        let (lab, _agent) = lab_with_agent(flavour);
        let pod = lab.pod(0);
        let second = addresses::pod(240);
        pod.add_addresses(second);
        for _ in 0..3 {
            for family in Family::BOTH {
                for address in [pod.address(family), second.of(family)] {
                    for transport in Transport::ALL {
                        assert_web(&pod.client(family).source_address(address), transport);
                    }
                }
            }
        }
        lab.node().conntrack().assert_no_pod_dns();
    }
}

/// A pod that sends from ever new MAC addresses: it fills the map of all bridges' ports with a few of them, the newest.
#[test]
fn a_pod_of_many_mac_addresses_takes_few_places() {
    const ADDRESSES: u8 = 200;
    const MOST: usize = 32;
    let (lab, agent) = lab_with_agent(Flavour::Bridged);
    let mac = |number: u8| [2, 0xd5, 0, 0, 0, number];
    for number in 1..=ADDRESSES {
        let text = mac(number).map(|byte| format!("{byte:02x}")).join(":");
        let mut bridge = Command::new("bridge");
        bridge.args(["fdb", "add", &text, "dev", lab.pod(0).veth()]);
        let _ = lab
            .node()
            .netns()
            .succeed(bridge.args(["master", "dynamic"]));
    }
    let pins = fs::read_dir(agent.bpffs()).or_panic("listing the pins");
    let map = pins
        .flatten()
        .find_map(|layout| MapData::from_pin(layout.path().join("BRIDGE_PORTS")).ok())
        .or_panic("no pinned map");
    let map = HashMap::<_, [u8; 12], u32>::try_from(Map::HashMap(map)).or_panic("BRIDGE_PORTS");
    let noted = || {
        let keys = map.keys().filter_map(Result::ok);
        let numbers = keys.filter_map(|key| {
            let mac = BridgePort::from_bytes(key).mac;
            (mac[..5] == [2, 0xd5, 0, 0, 0]).then_some(mac[5])
        });
        numbers.collect::<Vec<_>>()
    };
    let end = Instant::now() + Duration::from_secs(30);
    while !noted().contains(&ADDRESSES) {
        assert!(Instant::now() < end, "{:?}", noted());
    }
    let noted = noted();
    assert!(noted.len() <= MOST, "{noted:?}");
    for index in [0, 1] {
        assert_web(&lab.pod(index).client(Family::V4), Transport::Connected);
    }
}

/// Whatever a CNI calls them; and not the node's uplink, which here is a veth as well.
#[test]
fn what_looks_like_a_pods_interface_is_found() {
    for flavour in [Flavour::Routed, Flavour::Bridged] {
        let lab = Lab::builder().flavour(flavour).start();
        let agent = lab.agent(&AgentConfig {
            interfaces: vec!["auto".to_owned()],
            ..AgentConfig::default()
        });
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
        let found = agent.interfaces();
        assert!(!found.contains(&"up0".to_owned()), "{found:?}");
        // An interface that joins a subnet turns out to be an uplink, unless a bridge has it.
        let veth = lab.pod(0).veth();
        lab.node()
            .netns()
            .ip(&format!("addr add 192.0.2.1/24 dev {veth}\n"));
        let new = lab.add_pod();
        agent.wait_for(&[new.veth()], Duration::from_secs(20));
        let is_left = agent.interfaces().iter().any(|name| name == veth);
        assert_eq!(is_left, flavour == Flavour::Bridged);
    }
}

/// By its result, where there is one; else by what has asked. Metrics tell as much.
#[test]
fn a_pod_is_excluded_by_its_address() {
    for flavour in Flavour::BOTH {
        let lab = Lab::builder().flavour(flavour).start();
        let dir = lab.scope().dir().join("results");
        fs::create_dir(&dir).or_panic("making a directory");
        let [known, unknown] = [lab.pod(0), lab.pod(1)];
        let address = known.address(Family::V4);
        let result = format!(
            r#"{{"cniArgs":[["K8S_POD_NAMESPACE","db"],["K8S_POD_NAME","one"]],"result":{{"interfaces":[{{"name":"{}"}}],"ips":[{{"address":"{address}/24"}}]}}}}"#,
            known.veth()
        );
        fs::write(dir.join("pods-one-eth0"), result).or_panic("writing a result");
        // Another pod is excluded from the start.
        let config = |exclude: &str| AgentConfig {
            extra: format!(
                "exclude: [10.244.0.99{exclude}]\ncniResults: {dir:?}\nmetrics: {{perPod: true}}\n"
            ),
            ..AgentConfig::default()
        };
        let agent = lab.agent(&config(""));
        // An address is learnt by a query that comes to the agent.
        for (number, pod) in (0..).zip([known, unknown]) {
            let answer = pod.client(Family::V4).lookup(&fresh(number), rtype::A);
            assert_eq!(answer.answers.len(), 1);
        }
        let (_, text) = metrics::get(&lab, "/metrics");
        let sender = unknown.address(Family::V4);
        for (pod, namespace, name, sender) in [
            (known, "db", "one", String::new()),
            (unknown, "", "", sender.to_string()),
        ] {
            let labels = format!(
                "interface={:?},namespace={namespace:?},pod={name:?},address={sender:?},result=\"miss\"",
                pod.veth()
            );
            assert!(text.contains(&labels), "{labels}:\n{text}");
        }

        agent.reload(&config(&format!(", {address}, {sender}/32")));
        let wait_until = |pod: &Pod, attached: bool| {
            let end = Instant::now() + PATIENCE;
            while agent.interfaces().iter().any(|name| name == pod.veth()) != attached {
                assert!(Instant::now() < end, "{}: {}", pod.veth(), agent.log());
                thread::sleep(Duration::from_millis(10));
            }
        };
        for pod in [known, unknown] {
            wait_until(pod, false);
        }
        // Neither asks here any more, and both stay left alone.
        thread::sleep(Duration::from_secs(5));
        let before = agent.counters();
        for pod in [known, unknown] {
            assert_web(&pod.client(Family::V4), Transport::Connected);
        }
        let after = agent.counters();
        assert_eq!((before.resolved(&after), before.answered(&after)), (0, 0));
        agent.reload(&config(""));
        for pod in [known, unknown] {
            wait_until(pod, true);
        }
    }
}

/// Which pod an interface leads to is told by the container runtime's files, which come and go with pods.
#[test]
fn an_excluded_pod_is_left_alone() {
    let lab = Lab::builder().start();
    let dir = lab.scope().dir().join("results");
    fs::create_dir(&dir).or_panic("making a directory");
    let file = |pod: &str| dir.join(format!("pods-{pod}-eth0"));
    let write = |pod: &str, veth: &str| {
        let result = format!(
            r#"{{"cniArgs":[["K8S_POD_NAMESPACE","db"],["K8S_POD_NAME","{pod}"]],"result":{{"interfaces":[{{"name":"{veth}"}}]}}}}"#
        );
        fs::write(file(pod), result).or_panic("writing a result");
    };
    write("one", lab.pod(1).veth());
    let config = AgentConfig {
        extra: format!("exclude: [db/two, db/one]\ncniResults: {dir:?}\n"),
        ..AgentConfig::default()
    };
    let agent = lab.agent_on(&config, &[lab.pod(0).veth()]);
    let wait_until = |veth: &str, attached: bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while agent.interfaces().iter().any(|name| name == veth) != attached {
            assert!(Instant::now() < end, "{veth}: {}", agent.log());
            thread::sleep(Duration::from_millis(10));
        }
    };
    wait_until(lab.pod(1).veth(), false);
    let before = agent.counters();
    assert_web(&lab.pod(1).client(Family::V4), Transport::Connected);
    assert_eq!(before.resolved(&agent.counters()), 0);
    write("two", lab.pod(0).veth());
    wait_until(lab.pod(0).veth(), false);
    fs::remove_file(file("one")).or_panic("removing a result");
    wait_until(lab.pod(1).veth(), true);
    assert_web(&lab.pod(1).client(Family::V4), Transport::Connected);
    assert_eq!(before.resolved(&agent.counters()), 1);
}
