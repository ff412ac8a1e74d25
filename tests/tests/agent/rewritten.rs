//! A node that rewrites the Service's address at the socket, as replacements of kube-proxy do: what leaves a pod is addressed
//! to an endpoint. Here the programs for the node's own processes do it, for sockets of the namespace in which the id of a
//! replica's namespace is the node's: pods have to ask the endpoint by themselves.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use dns_cache::datapath::{self, LoadOptions, verified};
use dns_cache::kernel_cache::random_seed;
use dns_cache_common::maps::{Address, Instead, Resolver, names};
use dns_cache_tests::addresses::CLUSTER_IP;
use dns_cache_tests::api_server::ApiServer;
use dns_cache_tests::procfs::cgroup2;
use dns_cache_tests::{AgentConfig, Family, Lab, OrPanic, Transport, Way};
use serde_json::Value;

use crate::assert_web;
use crate::kubernetes::{RIGHTS, State, slices, wait};

/// Rewrites the ClusterIP to the first replica's address, as long as the result lives.
fn replacement(lab: &Lab) -> Ebpf {
    let replica = lab.dns().replicas()[0].pod();
    let known = lab
        .node()
        .netns()
        .succeed(Command::new("ip").args(["netns", "list"]));
    let own = known
        .lines()
        .find_map(|line| line.strip_prefix(replica.netns().name()));
    let id = own.and_then(|rest| rest.trim().strip_prefix("(id: ")?.strip_suffix(')'));
    let id = id.and_then(|id| id.parse::<u32>().ok());
    let id = id.or_panic("the replica's namespace has no id in the node's");
    let mut ebpf = datapath::load(&LoadOptions {
        log_level: 0,
        patience: Duration::ZERO,
        cache: None,
        seed: random_seed(),
        node: 0,
        unguarded: false,
    })
    .or_panic("loading the programs");
    let intercept = ebpf.map_mut(names::INTERCEPT).or_panic("no INTERCEPT");
    let mut intercept = HashMap::<_, [u8; 16], [u8; 16]>::try_from(intercept).or_panic("INTERCEPT");
    for family in Family::BOTH {
        let address = Address::from(CLUSTER_IP.of(family));
        let set = intercept.insert(address.0, Address::NONE.0, 0);
        set.or_panic("setting INTERCEPT");
    }
    let instead = Instead {
        v4: replica.address(Family::V4).into(),
        v6: replica.address(Family::V6).into(),
    };
    let map = ebpf.map_mut(names::INSTEAD).or_panic("no INSTEAD");
    let mut map = Array::<_, [u8; 32]>::try_from(map).or_panic("INSTEAD");
    let set = map.set(0, instead.to_bytes(), 0);
    set.or_panic("setting INSTEAD");
    let there = Resolver {
        ifindex: 1,
        netns_id: id,
        mac: [0; 6],
        flags: 0,
    };
    let map = ebpf.map_mut(names::RESOLVER).or_panic("no RESOLVER");
    let mut map = Array::<_, [u8; 16]>::try_from(map).or_panic("RESOLVER");
    map.set(0, there.to_bytes(), 0).or_panic("setting RESOLVER");
    let cgroup = cgroup2().or_panic("no cgroup2 file system");
    let cgroup = File::open(cgroup).or_panic("opening the cgroup");
    for name in ["host_connect4", "host_connect6"] {
        let program = ebpf.program_mut(name).or_panic(name);
        let program: &mut CgroupSockAddr = program.try_into().or_panic(name);
        verified(|| program.load()).or_panic(name);
        let attached = program.attach(&cgroup, CgroupAttachMode::Single);
        attached.map(drop).or_panic(name);
    }
    ebpf
}

/// The endpoints' own addresses are intercepted by themselves, and pods' lookups are answered on the node.
#[test]
fn endpoints_are_intercepted_where_sockets_are_rewritten() {
    let lab = Lab::builder().start();
    let Some(api) = ApiServer::start(lab.node()) else {
        return;
    };
    api.apply(RIGHTS);
    api.apply(&slices(&lab, [State::Ready, State::Ready]));
    let _replacement = replacement(&lab);
    let replica = lab.dns().endpoints()[0];
    // The kernel's table has another peer than the one that was asked for.
    for (family, table) in Family::BOTH.into_iter().zip(["udp", "udp6"]) {
        let table = lab.node().netns().run(|| {
            let any: IpAddr = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(CLUSTER_IP.dns(family))?;
            fs::read_to_string(format!("/proc/thread-self/net/{table}"))
        });
        let table = table.or_panic("connecting");
        let peer = |address: IpAddr| {
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let words = octets.as_chunks::<4>().0.iter();
            let hex = words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
            table.contains(&format!("{}:0035", hex.collect::<String>()))
        };
        let (wanted, asked) = (replica.of(family), CLUSTER_IP.of(family));
        assert!(peer(wanted) && !peer(asked), "{table}");
    }

    let agent = lab.agent(&AgentConfig {
        listen: Vec::new(),
        kubernetes: Some(format!("nodeName: node-1, {}", api.settings())),
        ..AgentConfig::default()
    });
    wait(&agent, "that rewriting is seen", |status| {
        let listen = status["listen"].as_array();
        let listens = |ip: String| listen.is_some_and(|all| all.contains(&Value::from(ip)));
        status["kubernetes"]["intercepts_endpoints"] == true
            && Family::BOTH
                .map(|family| replica.of(family).to_string())
                .into_iter()
                .all(listens)
    });
    for family in Family::BOTH {
        for transport in [Transport::Connected, Transport::Tcp] {
            let before = agent.counters();
            let client = lab.pod(0).client(family).server(replica.dns(family));
            assert_web(&client, transport);
            let way = before.way(&agent.counters());
            assert_ne!(way, Way::Ordinary, "{family:?} {transport:?}");
        }
    }
    lab.node().conntrack().assert_no_pod_dns();
}
