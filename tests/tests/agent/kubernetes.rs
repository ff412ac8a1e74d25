//! Servers and addresses from a real API server, by an account that may do no more than the chart's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::addresses::{CLUSTER_IP, LINK_LOCAL};
use dns_cache_tests::api_server::ApiServer;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{Agent, AgentConfig, Family, Lab, OrPanic, Query, Transport, Way};
use serde_json::{Value, json};

use crate::hand_over::look_up_patiently;
use crate::{SetOnDrop, WEB_A, assert_web, fresh};

/// What is read: EndpointSlices of one namespace, and one Node.
pub(crate) const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: dns-cache, namespace: kube-system}
rules: [{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dns-cache, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dns-cache}
subjects: [{kind: User, name: agent, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: dns-cache}
rules: [{apiGroups: [""], resources: [nodes], resourceNames: [node-1], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: dns-cache}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: dns-cache}
subjects: [{kind: User, name: agent, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-1}}
"#;

/// A replica's state as its EndpointSlice has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Ending,
    Gone,
}

/// The slices of both families, with the first replica on this node and the second one in its zone.
pub(crate) fn slices(lab: &Lab, states: [State; 2]) -> String {
    let slices = Family::BOTH.map(|family| {
        let replicas = lab.dns().endpoints().into_iter().zip(states).enumerate();
        let endpoints: Vec<_> = replicas
            .filter(|(_, (_, state))| *state != State::Gone)
            .map(|(n, (pair, state))| {
                json!({
                    "addresses": [pair.of(family)],
                    "conditions": {
                        "ready": state == State::Ready,
                        "serving": true,
                        "terminating": state == State::Ending,
                    },
                    "nodeName": format!("node-{}", n + 1),
                    "zone": "zone-1",
                })
            })
            .collect();
        let (kind, name) = match family {
            Family::V4 => ("IPv4", "kube-dns-4"),
            Family::V6 => ("IPv6", "kube-dns-6"),
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": kind,
            "endpoints": endpoints,
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                      {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        })
    });
    json!({"apiVersion": "v1", "kind": "List", "items": slices}).to_string()
}

/// Address and distance of each server that the agent has for the cluster.
fn servers(agent: &Agent) -> Vec<(String, u64)> {
    let servers = agent.upstreams("cluster.local").into_iter();
    servers
        .map(|server| {
            let address = server["address"].as_str().unwrap_or_default().to_owned();
            (address, server["distance"].as_u64().unwrap_or(u64::MAX))
        })
        .collect()
}

/// Waits until the agent's status is as wanted.
pub(crate) fn wait(agent: &Agent, what: &str, wanted: impl Fn(&Value) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let status = agent.status().or_panic("asking for the status");
        if wanted(&status) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {status:#}\n{}", agent.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_heard(status: &Value) -> bool {
    status["kubernetes"]["api_error"].is_null()
}

/// Waits until the agent asks these replicas and no others.
fn wait_for(lab: &Lab, agent: &Agent, replicas: &[usize]) {
    let mut wanted: Vec<_> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            let endpoints = lab.dns().endpoints();
            replicas
                .iter()
                .map(move |n| (endpoints[*n].dns(family).to_string(), *n as u64))
        })
        .collect();
    wanted.sort();
    wait(agent, &format!("{wanted:?}"), |_| {
        let mut servers = servers(agent);
        servers.sort();
        servers == wanted
    });
}

#[test]
fn the_cluster_says_whom_to_ask_and_where_to_answer() {
    use State::{Ending, Gone, Ready};
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    api.apply(RIGHTS);
    api.apply(&slices(&lab, [Ready, Ready]));
    let agent = lab.agent(&AgentConfig {
        listen: Vec::new(),
        kubernetes: Some(format!("nodeName: node-1, {}", api.settings())),
        ..AgentConfig::default()
    });
    wait_for(&lab, &agent, &[0, 1]);
    let service = Family::BOTH.map(|family| CLUSTER_IP.of(family).to_string());
    wait(&agent, "the Service's addresses", |status| {
        status["listen"] == json!(service)
    });
    for family in Family::BOTH {
        for transport in Transport::ALL {
            let before = agent.counters();
            assert_web(&lab.pod(0).client(family), transport);
            assert_ne!(before.way(&agent.counters()), Way::Ordinary);
        }
    }

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        scope.spawn(|| {
            let client = lab.pod(1).client(Family::V4);
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let reply = client.ask(Transport::Connected, &Query::new(&fresh(number), rtype::A));
                let reply = reply.or_panic(format_args!("lookup {number}"));
                assert_eq!(reply.message.answers.len(), 1);
                number = (number + 1) % 900;
            }
        });
        // A pod is deleted as the kubelet does it: first it is said to end, then it ends.
        let first = &lab.dns().replicas()[0];
        api.apply(&slices(&lab, [Ending, Ready]));
        wait_for(&lab, &agent, &[1]);
        api.apply(&slices(&lab, [Gone, Ready]));
        first.stop();
        first.start();
        api.apply(&slices(&lab, [Ready, Ready]));
        wait_for(&lab, &agent, &[0, 1]);
        // Nobody knows anything any more.
        api.stop();
        wait(&agent, "that the API server is gone", |status| {
            !is_heard(status)
        });
        assert_eq!(servers(&agent).len(), 4);
        api.resume();
        wait(&agent, "that the API server is back", is_heard);
        api.apply(&slices(&lab, [Ready, Gone]));
        wait_for(&lab, &agent, &[0]);
        // Of two evils: the last known servers.
        api.apply(&slices(&lab, [Gone, Gone]));
        wait(&agent, "that there are none", |_| {
            agent.log().contains("no endpoint that answers")
        });
        assert!(!servers(&agent).is_empty());
    });
    lab.node().conntrack().assert_no_pod_dns();
}

/// The successor serves what its predecessor did until it knows by itself what the Service's addresses are: nothing tells
/// it at its start, and nothing at all where the cluster's DNS is away as well.
#[test]
fn a_hand_over_keeps_both_families() {
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    api.apply(RIGHTS);
    api.apply(&slices(&lab, [State::Ready, State::Ready]));
    let config = AgentConfig {
        listen: Vec::new(),
        kubernetes: Some(format!("nodeName: node-1, {}", api.settings())),
        ..AgentConfig::default()
    };
    let service = Family::BOTH.map(|family| CLUSTER_IP.of(family).to_string());
    let is_whole = |status: &Value| status["listen"] == json!(service);
    let mut agent = lab.agent(&config);
    wait(&agent, "the Service's addresses", is_whole);
    lab.node().conntrack().flush();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (lab, done) = (&lab, &done);
        let _ends = SetOnDrop(done);
        // What is lost does not come, however long it is waited for.
        let patience = Duration::from_secs(10);
        scope.spawn(move || look_up_patiently(lab, done, 1, patience));
        for _ in 0..3 {
            let successor = lab.agent(&config);
            agent.assert_ends();
            agent = successor;
        }
    });
    // None has ever taken the ordinary path.
    lab.node().conntrack().assert_no_pod_dns();

    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    let successor = lab.agent(&config);
    agent.assert_ends();
    let status = successor.status().or_panic("asking for the status");
    assert!(is_whole(&status), "{status:#}");
    assert_eq!(status["kubernetes"]["addresses"], json!([]));
    // What a killed agent leaves tells as much, and without an API server the Service is asked by it.
    api.stop();
    successor.kill9();
    let agent = lab.agent(&config);
    let status = agent.status().or_panic("asking for the status");
    assert!(is_whole(&status), "{status:#}");
    let asked = Family::BOTH.map(|family| (CLUSTER_IP.dns(family).to_string(), 0));
    assert_eq!(servers(&agent), asked);
    for replica in lab.dns().replicas() {
        replica.reachable();
    }
    wait(&agent, "the Service's addresses", |status| {
        status["kubernetes"]["addresses"] == json!(service)
    });
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Connected);
    }
}

/// Nobody has said what stands in for the agent's own addresses, of which one is of no special range: the Service does.
#[test]
fn the_service_answers_at_a_dead_agents_own_addresses() {
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    api.apply(RIGHTS);
    api.apply(&slices(&lab, [State::Ready, State::Ready]));
    for intercepted in [false, true] {
        let settings = format!("interceptService: {intercepted}, {}", api.settings());
        let agent = lab.agent(&AgentConfig {
            listen: Family::BOTH.map(|family| LINK_LOCAL.of(family)).into(),
            kubernetes: Some(settings),
            ..AgentConfig::default()
        });
        let service = Family::BOTH.map(|family| CLUSTER_IP.of(family).to_string());
        wait(&agent, "the Service's addresses", |status| {
            status["kubernetes"]["addresses"] == json!(service)
        });
        // It is in force a moment after it is known.
        let own = json!(Family::BOTH.map(|family| LINK_LOCAL.of(family).to_string()));
        wait(&agent, "routes for the node's own processes", |status| {
            status["datapath"]["host"]["routes"] == own
        });
        let client = |family| {
            let client = lab.pod(0).client(family).server(LINK_LOCAL.dns(family));
            client.timeout(Duration::from_secs(5))
        };
        for family in Family::BOTH {
            assert_web(&client(family), Transport::Connected);
        }
        agent.kill9();
        for (number, family) in (0..).zip(Family::BOTH.repeat(10)) {
            for transport in Transport::ALL {
                let reply = client(family).ask(transport, &Query::new(&fresh(number), rtype::A));
                let reply = reply.or_panic(format_args!("{family:?} {transport:?}, agent dead"));
                assert_eq!(reply.message.answers.len(), 1);
            }
        }
    }
}

/// Other servers of the same cluster know the same: what is cached stays.
#[test]
fn a_change_of_endpoints_keeps_the_cache() {
    use State::{Gone, Ready};
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    api.apply(RIGHTS);
    api.apply(&slices(&lab, [Ready, Gone]));
    let agent = lab.agent(&AgentConfig {
        kubernetes: Some(format!(
            "nodeName: node-1, interceptEndpoints: true, {}",
            api.settings()
        )),
        ..AgentConfig::default()
    });
    wait_for(&lab, &agent, &[0]);
    let client = lab.pod(0).client(Family::V4);
    assert_web(&client, Transport::Connected);
    let misses = || agent.counters().resolver("misses");
    let before = misses();
    api.apply(&slices(&lab, [Gone, Ready]));
    wait_for(&lab, &agent, &[1]);
    assert_eq!(assert_web(&client, Transport::Tcp).data(), [WEB_A]);
    assert_eq!(misses(), before);
    // Its own address is intercepted as well, as it would have to be behind a kube-proxy replacement.
    let endpoint = lab.dns().endpoints()[1].dns(Family::V4);
    let counters = agent.counters();
    assert_web(&client.server(endpoint), Transport::Connected);
    assert_ne!(counters.way(&agent.counters()), Way::Ordinary);
}

/// An agent whose rights were taken back was uninstalled, and takes all that it had away by itself; one that comes back
/// finds what it left.
#[test]
fn an_agent_without_its_rights_leaves_nothing() {
    /// What happens to the cluster before the agent is told to end.
    #[derive(Debug, PartialEq)]
    enum Fate {
        GoesOn,
        Uninstalls,
        /// The same, and its API server is away for a moment.
        UninstallsAway,
    }
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    // Neighbours and counters settle with the first lookups.
    assert_web(&lab.pod(0).client(Family::V4), Transport::Tcp);
    let before = lab.node().snapshot();
    for fate in [Fate::GoesOn, Fate::Uninstalls, Fate::UninstallsAway] {
        api.apply(RIGHTS);
        let agent = lab.agent(&AgentConfig {
            kubernetes: Some(format!("detachWhenRefused: true, {}", api.settings())),
            ..AgentConfig::default()
        });
        wait(&agent, "that the API server is heard", is_heard);
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
        if fate != Fate::GoesOn {
            api.delete(&["-n", "kube-system", "rolebinding/dns-cache"]);
        }
        thread::scope(|scope| {
            if fate == Fate::UninstallsAway {
                api.stop();
                scope.spawn(|| api.resume());
            }
            agent.stop();
        });
        let is_left = agent.bpffs().exists();
        assert_eq!(is_left, fate == Fate::GoesOn, "{fate:?}:\n{}", agent.log());
        if !is_left {
            assert!(!agent.state_dir().exists(), "{}", agent.log());
            lab.node().assert_comes_back_to(&before);
        }
        assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
    }
}

/// The Service is asked in the place of its endpoints until they are known.
#[test]
fn without_an_api_server_the_service_is_asked() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig {
        kubernetes: Some("apiServer: \"http://127.0.0.1:9\"".to_owned()),
        ..AgentConfig::default()
    });
    for family in Family::BOTH {
        assert_web(&lab.pod(0).client(family), Transport::Connected);
    }
    let service = Family::BOTH.map(|family| (CLUSTER_IP.dns(family).to_string(), 0));
    assert_eq!(servers(&agent), service);
    let status = agent.status().or_panic("asking for the status");
    assert!(!is_heard(&status), "{status:#}");
}
