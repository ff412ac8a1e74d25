//! Real clients decide: each looks a thousand names up, A and AAAA, through the pod's search list, without one
//! time-out. A query that had to be sent again would be one more that the agent has seen.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use dns_cache_tests::agent::Counters;
use dns_cache_tests::procfs;
use dns_cache_tests::wire::{Message, rtype};
use dns_cache_tests::zones::{self, BULK, MANY};
use dns_cache_tests::{
    Agent, AgentConfig, Family, Flavour, Lab, OrPanic, Pair, Pod, Query, addresses, musl, tools,
};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ProtocolConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::runtime::Builder;

use crate::lab_with_agent;

/// Less than the 5 s, or the 10 s by [`ONE_TRY`], after which a client asks again or gives up: what takes longer was lost. A
/// busy machine is no fault, so no client here has less patience. (musl tries again after 2.5 s, which its queries' number
/// shows.)
const LONGEST: Duration = Duration::from_secs(4);

/// A query without an answer is a failed lookup.
const ONE_TRY: &str = "timeout:10 attempts:1";

/// What a client's lookup of one name makes of it on the way: the search list's first domain says no, the second
/// one has it, and each is asked for A and AAAA.
const QUERIES: u64 = 4;

fn name(number: u16) -> String {
    format!("svc-{number}.bulk")
}

fn services_addresses(number: u16) -> BTreeSet<String> {
    let (v4, v6) = zones::service_addresses(number);
    BTreeSet::from([v4.to_string(), v6.to_string()])
}

/// A pod's resolv.conf with further options.
fn resolv_conf(servers: Pair, options: &str) -> String {
    let servers = Family::BOTH.map(|family| servers.of(family));
    format!(
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\nnameserver {}\noptions ndots:5 {options}\n",
        servers[0], servers[1]
    )
}

/// Not this machine's own musl, but the one in the tools folder.
const NEWER_MUSL: &str = "newer musl";

/// The jars that Netty's resolver is made of.
const NETTY: [&str; 9] = [
    "netty-buffer",
    "netty-codec",
    "netty-codec-dns",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-resolver-dns",
    "netty-transport",
    "jctools-core",
];

/// The command that looks up the names behind it: a program of `tests/clients`, and what it is to do.
fn command(client: &str) -> Vec<String> {
    let source = |file: &str| format!("{}/clients/{file}", env!("CARGO_MANIFEST_DIR"));
    let java = |args: &[&str], file: &str| -> Vec<String> {
        let java = ["java", "-XX:TieredStopAtLevel=1"].iter().chain(args);
        java.map(|&word| word.to_owned())
            .chain([source(file)])
            .collect()
    };
    match client.split_once(' ') {
        // Debian's, which has pycares.
        Some(("python", how)) => {
            let python = ["/usr/bin/python3".to_owned(), source("lookups.py")];
            [&python[..], &[how.to_owned()]].concat()
        }
        Some(("cares", flags)) => vec![text(&tools::binary("client-cares")), flags.to_owned()],
        Some(("node", how)) => vec!["node".to_owned(), source("lookups.js"), how.to_owned()],
        Some(("java", how)) => {
            let mut command = java(&[], "Lookups.java");
            command.push(how.to_owned());
            command
        }
        _ if client == NEWER_MUSL => {
            let program = tools::binary("client-musl-dynamic");
            [musl::newer(), program].map(|path| text(&path)).into()
        }
        _ if client == "netty" => {
            let jars = NETTY.map(|name| format!("/usr/share/java/{name}.jar"));
            java(&["-cp", &jars.join(":")], "NettyLookups.java")
        }
        _ => vec![text(&tools::binary(&format!("client-{client}")))],
    }
}

fn text(path: &Path) -> String {
    path.to_str().or_panic("a path in UTF-8").to_owned()
}

/// How a pod's lookups are made.
#[derive(Clone, Copy)]
struct Way {
    /// Whom it asks.
    servers: Pair,
    /// What it asks for.
    name: fn(u16) -> String,
}

/// By the service's addresses and the search list.
const USUAL: Way = Way {
    servers: addresses::CLUSTER_IP,
    name,
};

/// Runs a client with all names, and checks each line that it prints.
fn look_all_up(
    lab: &Lab,
    way: Way,
    client: &str,
    options: &str,
    right: impl Fn(u16) -> BTreeSet<String>,
) {
    let names: Vec<_> = (0..BULK).map(way.name).collect();
    let found = look_up(lab, way.servers, client, options, &names);
    for (number, found) in (0..).zip(found) {
        assert_eq!(found, right(number), "{client} {options}: {number}");
    }
}

/// Runs a client with these names, which it must print in their order; the addresses of each, or what it says instead.
fn look_up(
    lab: &Lab,
    servers: Pair,
    client: &str,
    options: &str,
    names: &[String],
) -> Vec<BTreeSet<String>> {
    let pod = lab.pod(0);
    let resolv_conf = resolv_conf(servers, options);
    pod.netns().write_resolv_conf(&resolv_conf);
    let command = command(client);
    let command: Vec<_> = command.iter().chain(names).map(String::as_str).collect();
    let output = pod.exec(&command);
    assert!(output.status.success(), "{client}: {output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), names.len(), "{client} {options}");
    let lines = text.lines().zip(names).map(|(line, name)| {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(&**name), "{client} {options}");
        let micros: u64 = words.next().and_then(|w| w.parse().ok()).or_panic(line);
        let time = Duration::from_micros(micros);
        assert!(time < LONGEST, "{client} {options}: {line}");
        words.map(plain).collect()
    });
    lines.collect()
}

/// An address in its usual form (RFC 5952), which Java does not use; or what else is said.
fn plain(word: &str) -> String {
    word.parse()
        .map_or_else(|_| word.to_owned(), |address: IpAddr| address.to_string())
}

/// The same, and the agent has seen so many queries a name over UDP: none was sent twice.
fn none_is_repeated(lab: &Lab, agent: &Agent, client: &str, options: &str, queries: u64) {
    none_is_repeated_by(lab, agent, USUAL, client, options, queries);
}

fn none_is_repeated_by(
    lab: &Lab,
    agent: &Agent,
    way: Way,
    client: &str,
    options: &str,
    queries: u64,
) {
    let before = agent.counters();
    look_all_up(lab, way, client, options, services_addresses);
    assert_eq!(
        udp_queries(&before, &agent.counters()),
        queries * u64::from(BULK),
        "{client} {options}: queries over UDP"
    );
}

fn udp_queries(before: &Counters, after: &Counters) -> u64 {
    let to_resolver = "to_resolver_udp";
    before.answered(after) + after.datapath(to_resolver) - before.datapath(to_resolver)
}

#[test]
fn glibc_with_all_its_options() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for options in [
        "",
        "single-request",
        "single-request-reopen",
        "edns0",
        "trust-ad",
        "rotate",
        "no-tld-query",
        "no-reload",
        "no-check-names",
        "debug",
        // More dots than any name here has; the last one of several holds.
        "ndots:15",
        ONE_TRY,
        &format!("edns0 trust-ad rotate single-request-reopen {ONE_TRY}"),
    ] {
        none_is_repeated(&lab, &agent, "glibc", options, QUERIES);
    }
    none_is_repeated(&lab, &agent, "glibc", "use-vc", 0);
    // With as many dots a name is asked for as it is, and found.
    let whole = Way {
        name: |number| format!("{}.svc.cluster.local", name(number)),
        ..USUAL
    };
    for options in ["ndots:0", "ndots:1", "ndots:2"] {
        none_is_repeated_by(&lab, &agent, whole, "glibc", options, QUERIES / 2);
    }
    let before = agent.counters();
    look_all_up(&lab, USUAL, "glibc", "no-aaaa", |number| {
        let mut addresses = services_addresses(number);
        addresses.retain(|address| !address.contains(':'));
        addresses
    });
    let asked = udp_queries(&before, &agent.counters());
    assert_eq!(asked, QUERIES / 2 * u64::from(BULK), "no-aaaa");
    lab.node().conntrack().assert_no_pod_dns();
}

/// It asks all servers at once: the two addresses of the service.
#[test]
fn musl() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for client in ["musl", NEWER_MUSL] {
        for options in ["", ONE_TRY] {
            none_is_repeated(&lab, &agent, client, options, 2 * QUERIES);
        }
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// More addresses than 512 bytes hold. Before 1.2.4 it lives on those that fit, later ones ask for the rest over TCP.
#[test]
fn musl_and_a_truncated_answer() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for (client, library) in [("musl", musl::own()), (NEWER_MUSL, musl::newer())] {
        let path = library.display();
        let version = musl::version(&library)
            .or_panic(format_args!("no musl at {path}: run `cargo xtask setup`"));
        let before = agent.counters();
        let found = look_up(
            &lab,
            addresses::CLUSTER_IP,
            client,
            "",
            &["many.types".to_owned()],
        );
        let connections = agent.counters().resolver("tcp_connections");
        let over_tcp = connections > before.resolver("tcp_connections");
        let whole = found[0].len() == usize::from(MANY);
        let knows_tcp = version >= musl::WITH_TCP;
        assert_eq!(
            (over_tcp, whole),
            (knows_tcp, knows_tcp),
            "{version:?}: {found:?}"
        );
        assert!(
            found[0].iter().all(|word| word.starts_with("10.97.0.")),
            "{found:?}"
        );
        assert!(knows_tcp || client == "musl", "{version:?} is not newer");
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// The cluster's DNS has been silent for longer than it is believed that there is no such name. That is believed on then, for
/// names that nobody has asked for before as well, or musl would give up at the first SERVFAIL of its search list, and glibc
/// wait 11 s: the servers of what lies outside are well.
#[test]
fn outside_names_are_found_while_the_clusters_dns_is_silent() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let outside = |client: &str| {
        let names = (0..5).map(|number| format!("{}-{number}.hosts.example.com", client.len()));
        names.collect::<Vec<_>>()
    };
    let right = BTreeSet::from(["198.51.100.9", "2001:db8:80::9"].map(str::to_owned));
    let found = look_up(&lab, addresses::CLUSTER_IP, "glibc", "", &outside("warm"));
    assert!(found.iter().all(|found| *found == right), "{found:?}");
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    thread::sleep(Duration::from_secs(6));
    for (number, client) in ["glibc", "musl", NEWER_MUSL].into_iter().enumerate() {
        let began = Instant::now();
        let found = look_up(&lab, addresses::CLUSTER_IP, client, "", &outside(client));
        let took = began.elapsed();
        assert!(
            found.iter().all(|found| *found == right),
            "{client}: {found:?}"
        );
        // The first name shows that nobody answers; the others know.
        let most = if number == 0 { LONGEST } else { LONGEST / 2 };
        assert!(took < most, "{client}: {took:?}");
    }
    lab.node().conntrack().assert_no_pod_dns();
}

#[test]
fn go() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for options in ["", "single-request", "rotate trust-ad", ONE_TRY] {
        none_is_repeated(&lab, &agent, "go", options, QUERIES);
    }
    none_is_repeated(&lab, &agent, "go", "use-vc", 0);
    lab.node().conntrack().assert_no_pod_dns();
}

/// As Node and Python's pycares: all queries from one socket a server.
#[test]
fn c_ares() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for options in ["", "rotate", ONE_TRY] {
        none_is_repeated(&lab, &agent, "cares", options, QUERIES);
    }
    // Without EDNS, with it, and both by TCP.
    for (flags, queries) in [("+", QUERIES), ("+e", QUERIES), ("+v", 0), ("+ve", 0)] {
        let client = format!("cares {flags}");
        none_is_repeated(&lab, &agent, &client, "", queries);
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// By the C library, and by c-ares, as aiohttp does.
#[test]
fn python() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    for client in ["python getaddrinfo", "python pycares"] {
        none_is_repeated(&lab, &agent, client, "", QUERIES);
    }
    none_is_repeated(&lab, &agent, "python pycares", "rotate", QUERIES);
    lab.node().conntrack().assert_no_pod_dns();
}

/// As NodeLocalDNS has it, and many a pod's resolv.conf.
#[test]
fn by_the_link_local_address() {
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default().with_link_local());
    let way = Way {
        servers: addresses::LINK_LOCAL,
        ..USUAL
    };
    none_is_repeated_by(&lab, &agent, way, "glibc", "", QUERIES);
    none_is_repeated_by(&lab, &agent, way, "glibc", "use-vc", 0);
    for client in ["musl", NEWER_MUSL] {
        // It asks both at once.
        none_is_repeated_by(&lab, &agent, way, client, "", 2 * QUERIES);
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// By the C library, and by its own c-ares, which is asked for whole names.
#[test]
fn node() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    none_is_repeated(&lab, &agent, "node lookup", "", QUERIES);
    for options in ["", "rotate"] {
        none_is_repeated(&lab, &agent, "node resolve", options, QUERIES / 2);
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// By the C library, and by the JDK's own resolver, which is asked for whole names.
#[test]
fn java() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    none_is_repeated(&lab, &agent, "java inet", "", QUERIES);
    none_is_repeated(&lab, &agent, "java jndi", "", QUERIES / 2);
    lab.node().conntrack().assert_no_pod_dns();
}

/// All queries from one socket, which is why the next test asks as it does. It asks once more by itself where the answer is
/// no (another server, a CNAME), so that what is sent is not counted; a query without an answer takes the 5 s that are its default.
#[test]
fn netty() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for options in ["", ONE_TRY] {
        look_all_up(&lab, USUAL, "netty", options, services_addresses);
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// Their whole output is compared: a warning of theirs (a retry, a wrong ID) would be in it.
#[test]
fn dig_and_kdig() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let server = format!("@{}", addresses::CLUSTER_IP.v4);
    let server6 = format!("@{}", addresses::CLUSTER_IP.v6);
    for (program, options) in [
        ("dig", &[&*server][..]),
        ("dig", &[&server, "+noedns"]),
        ("dig", &[&server6, "+dnssec", "+nocookie"]),
        ("dig", &[&server, "+tcp", "+keepopen"]),
        ("kdig", &[&server]),
        ("kdig", &[&server6, "+edns", "+cookie"]),
        ("kdig", &[&server, "+tcp", "+keepopen"]),
    ] {
        let names: Vec<_> = (0..BULK)
            .map(|number| format!("{}.svc.cluster.local.", name(number)))
            .collect();
        let mut command = vec![program, "+timeout=10", "+retry=0", "+noall", "+answer"];
        command.extend(options);
        for name in &names {
            command.extend([name, "A", name, "AAAA"]);
        }
        let output = lab.pod(0).exec(&command);
        let what = format!("{program} {options:?}");
        assert!(output.status.success(), "{what}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2 * names.len(), "{what}: {text}");
        for (number, pair) in lines.chunks(2).enumerate() {
            let found = pair.iter().filter_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(&names[number])).then_some(())?;
                words.next_back().map(str::to_owned)
            });
            let found: BTreeSet<_> = found.collect();
            assert_eq!(found, services_addresses(number as u16), "{what}: {pair:?}");
        }
    }
    lab.node().conntrack().assert_no_pod_dns();
}

/// What a pod has sent since `before`, once as much has come back to it: each query was answered, and once.
fn all_answered(pod: &Pod, before: (u64, u64)) -> u64 {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (sent, received) = pod.netns().run(procfs::ip_packets);
        let (sent, received) = (sent - before.0, received - before.1);
        if sent == received {
            return sent;
        }
        let lost = sent.cast_signed() - received.cast_signed();
        assert!(Instant::now() < end, "of {sent}, {lost} were not answered");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Looks all names up by hickory in the pod, by connections of the kinds that are wanted.
fn look_all_up_by_hickory(pod: &Pod, options: &str, wanted: impl Fn(&ProtocolConfig) -> bool) {
    let text = resolv_conf(addresses::CLUSTER_IP, options);
    let (mut config, options_read) = parse_resolv_conf(text).or_panic("reading a resolv.conf");
    for server in &mut config.name_servers {
        let connections = &mut server.connections;
        connections.retain(|connection| wanted(&connection.protocol));
        assert!(!connections.is_empty(), "no connections are left");
    }
    pod.netns().run(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.or_panic("a runtime").block_on(async {
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            *builder.options_mut() = options_read;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            let resolver = builder.build().or_panic("a resolver");
            for number in 0..BULK {
                let start = Instant::now();
                let found = resolver.lookup_ip(name(number)).await;
                let found = found.or_panic(name(number));
                let found: BTreeSet<_> = found.iter().map(|ip| ip.to_string()).collect();
                assert_eq!(found, services_addresses(number), "{options}");
                assert!(start.elapsed() < LONGEST, "{options}: {number}");
            }
        });
    });
}

/// It asks two servers at once, the two addresses of the service, and once more whoever has not answered after a third of a
/// second, whatever time-out it is told: on a busy machine that is no fault, if all are answered.
#[test]
fn hickory() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let pod = lab.pod(0);
    for options in ["", "rotate", ONE_TRY, "edns0"] {
        let before = agent.counters();
        let packets = pod.netns().run(procfs::ip_packets);
        look_all_up_by_hickory(pod, options, |_| true);
        let asked = all_answered(pod, packets);
        assert_eq!(asked, udp_queries(&before, &agent.counters()), "{options}");
        assert!(asked >= 2 * QUERIES * u64::from(BULK), "{options}: {asked}");
    }
    let before = agent.counters();
    look_all_up_by_hickory(pod, "", |kind| matches!(kind, ProtocolConfig::Tcp));
    let after = agent.counters();
    assert_eq!(udp_queries(&before, &after), 0, "over TCP");
    let connections = |counters: &Counters| counters.resolver("tcp_connections");
    assert!(connections(&after) > connections(&before));
    lab.node().conntrack().assert_no_pod_dns();
}

/// As Netty does: every query from one port, a hundred of them on their way at a time.
#[test]
fn one_fixed_source_port() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    const AT_ONCE: u16 = 50;
    for family in Family::BOTH {
        let before = agent.counters();
        let client = lab.pod(0).client(family).source_port(53_533);
        let socket = client.timeout(LONGEST).udp(false);
        let socket = socket.or_panic("opening a socket");
        for first in (0..BULK).step_by(usize::from(AT_ONCE)) {
            let numbers = first..first + AT_ONCE;
            let queries: Vec<_> = numbers
                .flat_map(|number| {
                    let name = format!("{}.svc.cluster.local", name(number));
                    [(rtype::A, 0), (rtype::AAAA, 1)]
                        .map(|(rtype, bit)| Query::new(&name, rtype).id(number << 1 | bit))
                })
                .collect();
            for query in &queries {
                socket.send(&query.to_bytes()).or_panic("sending");
            }
            let mut open: BTreeSet<_> = queries.iter().map(|query| query.id).collect();
            for _ in &queries {
                let reply = socket.receive().or_panic("an answer is missing");
                let message = Message::read(&reply).or_panic("no message");
                assert!(open.remove(&message.id), "an answer twice: {message}");
                assert_eq!(
                    message.question,
                    queries[usize::from(message.id - (first << 1))].question()
                );
                let address: IpAddr = message.answers[0].data.parse().or_panic("an address");
                let right = services_addresses(message.id >> 1);
                assert!(right.contains(&address.to_string()), "{message}");
                assert_eq!(address.is_ipv6(), message.id & 1 == 1, "{message}");
            }
        }
        assert_eq!(udp_queries(&before, &agent.counters()), 2 * u64::from(BULK));
    }
    lab.node().conntrack().assert_no_pod_dns();
}
