//! The metrics endpoint: every metric, by its name, and what the kubelet asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use dns_cache::metrics::names::{self, Kind, Metric};
use dns_cache_tests::node_local::{self, NodeLocalDns};
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{AgentConfig, Family, Flavour, Lab, OrPanic, Query, Transport, addresses};

use crate::{WEB, WEB_A, assert_web, fresh, lab_with_agent, warm};

/// Status line and body of what the endpoint in the node's namespace says.
pub(crate) fn get(lab: &Lab, path: &str) -> (String, String) {
    exchange(
        lab,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}

fn connect(lab: &Lab) -> TcpStream {
    connect_to(lab, "127.0.0.1:9253")
}

fn connect_to(lab: &Lab, address: &str) -> TcpStream {
    let stream = lab.node().netns().run(|| TcpStream::connect(address));
    let stream = stream.or_panic("connecting to the metrics endpoint");
    let patience = Some(Duration::from_secs(20));
    stream
        .set_read_timeout(patience)
        .or_panic("setting a time-out");
    stream
}

fn exchange(lab: &Lab, request: &str) -> (String, String) {
    exchange_on(connect(lab), request)
}

fn exchange_on(mut stream: TcpStream, request: &str) -> (String, String) {
    stream
        .write_all(request.as_bytes())
        .or_panic("sending a request");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .or_panic("reading a response");
    let (head, body) = text.split_once("\r\n\r\n").or_panic("no response");
    let status = head.lines().next().unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

/// A scrape's samples, by name and labels as they are written.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub(crate) fn of(lab: &Lab) -> Self {
        let (status, text) = get(lab, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').or_panic(format_args!("{line:?}"));
            let value = value.parse().or_panic(format_args!("{line:?}"));
            // Prometheus takes one of them, or nothing at all.
            assert_eq!(samples.insert(name.to_owned(), value), None, "{line} twice");
        }
        Self(samples)
    }

    /// The sum of a metric's samples that have all these labels.
    pub(crate) fn sum(&self, metric: &Metric, labels: &[&str]) -> f64 {
        self.samples(metric.name)
            .filter(|(name, _)| labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(sample, value)| {
            let rest = sample.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((&**sample, *value))
        })
    }
}

#[test]
fn every_metric_is_in_a_scrape_under_its_name() {
    let lab = Lab::builder().start();
    let config = AgentConfig {
        extra: "\nmetrics: {perPod: true}\nkubernetes: {apiServer: \"http://127.0.0.1:9\"}\n"
            .to_owned(),
        ..AgentConfig::default()
    };
    let _agent = lab.agent(&config);
    assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
    let (_, text) = get(&lab, "/metrics");
    let scrape = Scrape::of(&lab);
    let mut described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for metric in names::ALL {
        let (kind, sample) = match metric.kind {
            Kind::Counter => ("counter", metric.name.to_owned()),
            Kind::Gauge => ("gauge", metric.name.to_owned()),
            Kind::Histogram => ("histogram", format!("{}_bucket", metric.name)),
        };
        // In the table's order, so that none is there twice, and none that the table does not have.
        assert_eq!(described.next(), Some(&*format!("{} {kind}", metric.name)));
        assert!(
            scrape.samples(&sample).next().is_some(),
            "{} has no sample",
            metric.name
        );
    }
    assert_eq!(described.next(), None);
}

/// What dashboards and alerts for CoreDNS and NodeLocalDNS ask for, as they write it: name, type, and labels.
const AS_COREDNS: [(&str, &str, &[&str]); 23] = [
    (
        "coredns_dns_requests_total",
        "counter",
        &["family", "proto", "server", "type", "view", "zone"],
    ),
    (
        "coredns_dns_responses_total",
        "counter",
        &["plugin", "rcode", "server", "view", "zone"],
    ),
    (
        "coredns_dns_request_duration_seconds",
        "histogram",
        &["server", "view", "zone"],
    ),
    (
        "coredns_dns_request_size_bytes",
        "histogram",
        &["proto", "server", "view", "zone"],
    ),
    (
        "coredns_dns_response_size_bytes",
        "histogram",
        &["proto", "server", "view", "zone"],
    ),
    (
        "coredns_dns_do_requests_total",
        "counter",
        &["server", "view", "zone"],
    ),
    ("coredns_panics_total", "counter", &[]),
    (
        "coredns_cache_entries",
        "gauge",
        &["server", "type", "view", "zones"],
    ),
    (
        "coredns_cache_requests_total",
        "counter",
        &["server", "view", "zones"],
    ),
    (
        "coredns_cache_hits_total",
        "counter",
        &["server", "type", "view", "zones"],
    ),
    (
        "coredns_cache_misses_total",
        "counter",
        &["server", "view", "zones"],
    ),
    (
        "coredns_cache_evictions_total",
        "counter",
        &["server", "type", "view", "zones"],
    ),
    (
        "coredns_cache_prefetch_total",
        "counter",
        &["server", "view", "zones"],
    ),
    (
        "coredns_cache_served_stale_total",
        "counter",
        &["server", "view", "zones"],
    ),
    (
        "coredns_cache_drops_total",
        "counter",
        &["server", "view", "zones"],
    ),
    (
        "coredns_forward_max_concurrent_rejects_total",
        "counter",
        &[],
    ),
    ("coredns_forward_healthcheck_broken_total", "counter", &[]),
    (
        "coredns_proxy_request_duration_seconds",
        "histogram",
        &["proxy_name", "rcode", "to"],
    ),
    (
        "coredns_proxy_healthcheck_failures_total",
        "counter",
        &["proxy_name", "to"],
    ),
    (
        "coredns_proxy_conn_cache_hits_total",
        "counter",
        &["proto", "proxy_name", "to"],
    ),
    (
        "coredns_proxy_conn_cache_misses_total",
        "counter",
        &["proto", "proxy_name", "to"],
    ),
    (
        "coredns_nodecache_setup_errors_total",
        "counter",
        &["errortype"],
    ),
    ("coredns_reload_failed_total", "counter", &[]),
];

/// Of these, CoreDNS has nothing before something has happened that this test does not make happen; NodeLocalDNS alone has
/// the last one.
const NOT_FROM_THE_START: [&str; 6] = [
    "coredns_cache_evictions_total",
    "coredns_cache_prefetch_total",
    "coredns_cache_served_stale_total",
    "coredns_cache_drops_total",
    "coredns_proxy_healthcheck_failures_total",
    "coredns_nodecache_setup_errors_total",
];

/// Type and labels of each metric of CoreDNS's in a scrape; those that no sample shows have none.
fn as_coredns(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').or_panic(line.to_owned());
        if name.starts_with("coredns_") {
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in text.lines().filter(|line| line.starts_with("coredns_")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let of = suffixes
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|name| found.contains_key(*name))
            .or_panic(format_args!("{line} has no type"));
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        // No value here has a quotation mark.
        let keys = labels.split('"').step_by(2).filter_map(|part| {
            let key = part.strip_suffix('=')?.trim_start_matches(',');
            (key != "le").then(|| key.to_owned())
        });
        found.entry(of.to_owned()).or_default().1.extend(keys);
    }
    found
}

/// Names, types and labels are those that dashboards for CoreDNS ask for, and real CoreDNS's.
#[test]
fn the_names_of_coredns_are_coredns_s() {
    let lab = Lab::builder().start();
    let endpoint = lab.dns().endpoints()[0].dns(Family::V4);
    node_local::prepare(lab.node(), &[node_local::IP.into()]);
    let cluster = endpoint.ip().to_string();
    let coredns = NodeLocalDns::start(lab.node(), &[node_local::IP.into()], &cluster, &cluster);
    let client = lab.pod(0).client(Family::V4);
    let client = client.server(node_local::ADDRESS.into());
    let end = Instant::now() + Duration::from_secs(20);
    while client
        .ask(Transport::Connected, &Query::new(WEB, rtype::A))
        .is_err()
    {
        assert!(Instant::now() < end, "no answer from NodeLocalDNS");
    }
    // A hit, misses over a connection that is there, TCP, and DO.
    assert_eq!(client.lookup(WEB, rtype::A).data(), [WEB_A]);
    for number in 0..5 {
        let query = Query::new(&fresh(number), rtype::A).dnssec_ok(1232);
        let reply = client.ask(Transport::Tcp, &query);
        reply.or_panic(fresh(number));
    }
    // Not HTTP/1.1, where it answers in chunks.
    let theirs = as_coredns(&exchange(&lab, "GET /metrics HTTP/1.0\r\n\r\n").1);
    drop(coredns);
    let _agent = lab.agent(&AgentConfig::default());
    assert_web(&lab.pod(0).client(Family::V4), Transport::Connected);
    let ours = as_coredns(&get(&lab, "/metrics").1);

    let table = AS_COREDNS.map(|(name, kind, labels)| {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        (name.to_owned(), (kind.to_owned(), labels))
    });
    let table: BTreeMap<_, (_, BTreeSet<_>)> = table.into();
    assert_eq!(ours, table);
    for (name, expected) in &table {
        match theirs.get(name) {
            Some(found) => assert_eq!(found, expected, "{name}"),
            None => assert!(
                NOT_FROM_THE_START.contains(&&**name),
                "CoreDNS has no {name}"
            ),
        }
    }
}

#[test]
fn lookups_are_counted_once() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let before = Scrape::of(&lab);
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        for transport in [Transport::Connected, Transport::Tcp] {
            for _ in 0..3 {
                assert_web(&client, transport);
            }
        }
        let _ = client.lookup("nothing.default.svc.cluster.local", rtype::AAAA);
    }
    let after = Scrape::of(&lab);
    let grown =
        |metric: &Metric, labels: &[&str]| after.sum(metric, labels) - before.sum(metric, labels);
    for (labels, count) in [
        (&["proto=\"tcp\"", "family=\"2\"", "type=\"A\""][..], 3.0),
        // Of which most are the kernel's.
        (&["proto=\"udp\"", "family=\"1\"", "type=\"A\""], 3.0),
        (&["proto=\"udp\"", "family=\"2\"", "type=\"A\""], 3.0),
        (&["proto=\"udp\"", "family=\"1\"", "type=\"AAAA\""], 1.0),
        (&["proto=\"udp\"", "family=\"2\"", "type=\"AAAA\""], 1.0),
        (&["proto=\"udp\""], 8.0),
        (&["server=\"dns://:53\"", "zone=\".\"", "view=\"\""], 14.0),
    ] {
        assert_eq!(grown(&names::DNS_REQUESTS, labels), count, "{labels:?}");
    }
    assert_eq!(grown(&names::DNS_RESPONSES, &["NOERROR"]), 12.0);
    assert_eq!(grown(&names::DNS_RESPONSES, &["NXDOMAIN"]), 2.0);
    assert_eq!(grown(&names::DNS_RESPONSES, &["plugin=\"forward\""]), 2.0);
    assert_eq!(grown(&names::CACHE_HITS, &["success"]), 11.0);
    assert_eq!(grown(&names::CACHE_HITS, &["denial"]), 1.0);
    assert_eq!(grown(&names::CACHE_MISSES, &[]), 2.0);
    let path = |path: &str| grown(&names::QUERIES, &[path]);
    assert_eq!(path("userspace") + path("kernel"), 14.0);
    assert_eq!(grown(&names::QUERIES, &["ordinary"]), 0.0);
    let timed = |scrape: &Scrape| -> f64 {
        let name = format!("{}_count", names::DNS_DURATION.name);
        scrape.samples(&name).map(|(_, value)| value).sum()
    };
    assert_eq!(timed(&after) - timed(&before), path("userspace"));
    assert_eq!(after.sum(&names::CACHE_ENTRIES, &["success"]), 1.0);
    assert_eq!(
        after.sum(&names::INTERFACES, &[]),
        agent.interfaces().len() as f64
    );
    assert_eq!(
        grown(&names::DATAPATH, &["\"to_resolver_udp\""]) + path("kernel"),
        8.0
    );
}

/// What the kernel did for each pod, as the pods know it, as `status` has it, and as a scrape has it.
#[test]
fn each_pods_queries_are_its_own() {
    let lab = Lab::builder().pods(2).start();
    let config = AgentConfig {
        extra: "\nmetrics: {perPod: true}\n".to_owned(),
        ..AgentConfig::default()
    };
    let agent = lab.agent(&config);
    let hit = || Query::new(WEB, rtype::A).dnssec_ok(1232);
    let client = lab.pod(0).client(Family::V4);
    let cold = agent.counters();
    while cold.answered(&agent.counters()) == 0 {
        let warm = client.ask(Transport::Connected, &hit());
        warm.or_panic("warming the cache");
    }
    const RESULTS: [&str; 3] = ["hits", "misses", "bypasses"];
    let in_status = |veth: &str| {
        let status = agent.status().or_panic("asking for the status");
        let interfaces = status["datapath"]["interfaces"].as_array();
        let interfaces = interfaces.or_panic("no interfaces");
        let own = interfaces.iter().find(|own| own["name"] == veth);
        let own = own.or_panic(veth.to_owned());
        RESULTS.map(|result| own[result].as_u64().or_panic("a count") as f64)
    };
    let in_scrape = |scrape: &Scrape, veth: &str| {
        ["hit", "miss", "bypass"].map(|result| {
            let labels = [
                format!("interface=\"{veth}\""),
                format!("result=\"{result}\""),
            ];
            scrape.sum(
                &names::POD_QUERIES,
                &labels.each_ref().map(|label| &**label),
            )
        })
    };
    let before = Scrape::of(&lab);
    let pods = [(lab.pod(0), [5, 3, 2]), (lab.pod(1), [2, 4, 7])];
    let first = pods.map(|(pod, _)| in_status(pod.veth()));
    let mut number = 0;
    for (pod, [hits, misses, bypasses]) in pods {
        let ask = |n: u16, query: Query| {
            let family = Family::BOTH[usize::from(n % 2)];
            let reply = pod.client(family).ask(Transport::Connected, &query);
            reply.or_panic(format_args!("asking {query:?}"));
        };
        (0..hits).for_each(|n| ask(n, hit()));
        for n in 0..misses {
            number += 1;
            ask(n, Query::new(&fresh(number), rtype::A));
        }
        // No recursion desired: not for the kernel.
        (0..bypasses).for_each(|n| ask(n, Query::new(WEB, rtype::A).flags(0)));
    }
    let after = Scrape::of(&lab);
    for ((pod, expected), first) in pods.into_iter().zip(first) {
        let expected = expected.map(f64::from);
        let difference = |later: [f64; 3], earlier: [f64; 3]| {
            let mut grown = later;
            grown.iter_mut().zip(earlier).for_each(|(n, n0)| *n -= n0);
            grown
        };
        let veth = pod.veth();
        let status = difference(in_status(veth), first);
        assert_eq!(status, expected, "{veth} in status, {RESULTS:?}");
        let scraped = difference(in_scrape(&after, veth), in_scrape(&before, veth));
        assert_eq!(scraped, expected, "{veth} in a scrape, {RESULTS:?}");
    }
    // The kernel's are counted with the resolver's.
    let with_do = |scrape: &Scrape| scrape.sum(&names::DNS_DO_REQUESTS, &[]);
    assert_eq!(with_do(&after) - with_do(&before), 7.0);
}

/// Each zone has its own counts, and keeps them when a reload changes it.
#[test]
fn zones_are_counted_apart() {
    let lab = Lab::builder().start();
    let server = lab.dns().endpoints()[0].dns(Family::V4);
    let config = |ttl: u32| AgentConfig {
        extra: format!(
            "\nzones:\n  - zone: example.com\n    upstreams: [\"{server}\"]\n    ttl: {{positive: {ttl}}}\n"
        ),
        ..AgentConfig::default()
    };
    let agent = lab.agent(&config(1));
    // Longer than the agent waits for its upstreams.
    let client = lab
        .pod(0)
        .client(Family::V4)
        .timeout(Duration::from_secs(8));
    let ask = |name: &str| {
        let reply = client.ask(Transport::Connected, &Query::new(name, rtype::A));
        reply.or_panic(name).message
    };
    let of = |metric: &Metric| {
        let scrape = Scrape::of(&lab);
        ["cluster.local", "example.com", "."]
            .map(|zone| scrape.sum(metric, &[&format!("zone=\"{zone}\"")]))
    };
    for number in 0..3 {
        assert_eq!(ask(&fresh(number)).answers.len(), 1);
    }
    assert_eq!(ask("www.example.com").data(), ["A 198.51.100.2"]);
    assert_eq!(of(&names::ZONE_ENTRIES), [3.0, 1.0, 0.0]);
    assert_eq!(of(&names::ZONE_MISSES), [3.0, 1.0, 0.0]);
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    // It takes longer than the stub domain's answer is fresh.
    assert_eq!(ask(&fresh(3)).rcode(), 2);
    assert_eq!(ask("www.example.com").data(), ["A 198.51.100.2"]);
    for ttl in [1, 2] {
        agent.reload(&config(ttl));
        assert_eq!(of(&names::ZONE_MISSES), [4.0, 2.0, 0.0]);
        assert_eq!(of(&names::ZONE_FAILURES), [1.0, 0.0, 0.0]);
        assert_eq!(of(&names::ZONE_STALE), [0.0, 1.0, 0.0]);
    }
    // The answer had another bound.
    assert_eq!(of(&names::ZONE_ENTRIES), [3.0, 0.0, 0.0]);
}

/// Without stale answers: ready once an upstream has answered, without a pod's question; it stays so when they fall
/// silent, and when others take their place.
#[test]
fn the_kubelet_is_told_the_truth() {
    let lab = Lab::builder().start();
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    lab.node().netns().ip("link set up0 down\n");
    let config = AgentConfig {
        extra: "cache: {serveStale: {enabled: false}}\n".to_owned(),
        ..AgentConfig::default()
    };
    let agent = lab.agent(&config);
    let (status, body) = get(&lab, "/ready");
    assert_eq!(
        (&*status, &*body),
        (
            "HTTP/1.1 503 Service Unavailable",
            "no upstream has answered yet\n"
        )
    );
    assert_eq!(get(&lab, "/health").1, "OK\n");
    assert_eq!(Scrape::of(&lab).sum(&names::READY, &[]), 0.0);
    agent.write_resolv_conf(&format!("nameserver {}\n", addresses::CLUSTER_IP.v4));
    let end = Instant::now() + Duration::from_secs(20);
    while !get(&lab, "/ready").1.contains("yet\n/") {
        assert!(Instant::now() < end, "{:?}", get(&lab, "/ready"));
    }
    let (status, body) = get(&lab, "/ready");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains(": a loop: it names no server but "), "{body}");
    lab.dns().replicas()[0].reachable();
    let end = Instant::now() + Duration::from_secs(20);
    while get(&lab, "/ready").1 != "OK\n" {
        assert!(Instant::now() < end, "not ready:\n{}", agent.log());
    }
    lab.dns().replicas()[0].black_hole();
    assert_eq!(get(&lab, "/ready").1, "OK\n");
    assert_eq!(Scrape::of(&lab).sum(&names::READY, &[]), 1.0);
    agent.reload(&AgentConfig {
        upstreams: vec!["192.0.2.9:53".parse().or_panic("an address")],
        ..config
    });
    assert_eq!(get(&lab, "/ready").1, "OK\n");
}

/// Where stale answers are allowed, dead upstreams are no reason to keep an agent back, whatever it has to give just now: it
/// may be the one that ends the outage.
#[test]
fn an_agent_that_may_serve_stale_is_ready_without_upstreams() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    warm(&agent, &client, WEB);
    agent.kill9();
    for replica in lab.dns().replicas() {
        replica.black_hole();
    }
    lab.node().netns().ip("link set up0 down\n");
    let agent = lab.agent(&AgentConfig::default());
    assert_eq!(get(&lab, "/ready").1, "OK\n");
    assert_web(&client, Transport::Connected);
    assert!(agent.command(&["cache", "flush"]).status.success());
    assert_eq!(get(&lab, "/ready").1, "OK\n");
    assert_eq!(Scrape::of(&lab).sum(&names::READY, &[]), 1.0);
}

/// A filter for another protocol stands where ours has to be, on one pod's interface.
#[test]
fn an_interface_without_a_program_is_not_ready() {
    let lab = Lab::builder().start();
    let (bare, served) = (lab.pod(0), lab.pod(1));
    let tc = |args: &[&str]| {
        let mut command = Command::new("tc");
        let _ = lab.node().netns().succeed(command.args(args));
    };
    tc(&["qdisc", "add", "dev", bare.veth(), "clsact"]);
    let place = ["dev", bare.veth(), "ingress", "prio", "1"];
    // One instruction: return TC_ACT_UNSPEC.
    let pass = [
        "protocol",
        "ip",
        "bpf",
        "da",
        "bytecode",
        "1,6 0 0 4294967295,",
    ];
    tc(&[&["filter", "add"], &place[..], &pass].concat());
    let config = AgentConfig {
        attach: "clsact".to_owned(),
        ..AgentConfig::default()
    };
    let agent = lab.agent_on(&config, &[served.veth()]);
    let not_ready = format!("no program is attached to {}\n", bare.veth());
    // It asks an upstream by itself.
    let end = Instant::now() + Duration::from_secs(20);
    while get(&lab, "/ready").1 != not_ready {
        assert!(Instant::now() < end, "{:?}", get(&lab, "/ready"));
    }
    let scrape = Scrape::of(&lab);
    assert_eq!(scrape.sum(&names::READY, &[]), 0.0);
    assert!(scrape.sum(&names::SETUP_ERRORS, &["interface_add"]) >= 1.0);
    for pod in [bare, served] {
        assert_web(&pod.client(Family::V4), Transport::Connected);
    }
    // It is tried again now and then.
    tc(&[&["filter", "del"], &place[..], &["protocol", "ip"]].concat());
    let end = Instant::now() + Duration::from_secs(60);
    while get(&lab, "/ready").1 != "OK\n" {
        assert!(Instant::now() < end, "not ready:\n{}", agent.log());
    }
}

#[test]
fn the_endpoint_is_not_to_be_worn_out() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    assert_eq!(get(&lab, "/x").0, "HTTP/1.1 404 Not Found");
    let post =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&lab, post).0, "HTTP/1.1 405 Method Not Allowed");
    let mut garbage = connect(&lab);
    garbage.write_all(&[0xff; 100]).or_panic("sending garbage");
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
        "{answer:?}"
    );
    // As many as may be connected, all silent: they are sent away, and others have their turn.
    let silent: Vec<_> = (0..32).map(|_| connect(&lab)).collect();
    let mut turned_away = connect(&lab);
    assert!(matches!(turned_away.read(&mut [0; 1]), Ok(0) | Err(_)));
    for mut stream in silent {
        // Which goes on after a signal, as one read does not.
        let end = stream.read_to_end(&mut Vec::new());
        end.or_panic("a silent client is not sent away");
    }
    assert_eq!(get(&lab, "/health").0, "HTTP/1.1 200 OK");
}

/// One pod asks for what is not cached, as fast as it can; another one is none the worse for it.
#[test]
fn misses_of_a_pod_are_limited() {
    let lab = Lab::builder().start();
    let config = AgentConfig {
        queries: "missesPerSecond: 1, missBurst: 20".to_owned(),
        ..AgentConfig::default()
    };
    let agent = lab.agent(&config);
    let client = lab.pod(0).client(Family::V4);
    let refused = (0..100)
        .filter(|number| client.lookup(&fresh(*number), rtype::A).rcode() == 5)
        .count();
    // One a second is added while they are asked.
    assert!(
        (60..=80).contains(&refused),
        "{refused} of 100 were refused"
    );
    assert_eq!(
        Scrape::of(&lab).sum(&names::RATE_LIMITED, &[]),
        refused as f64
    );
    let other = lab.pod(1).client(Family::V4);
    assert_eq!(other.lookup(&fresh(200), rtype::A).answers.len(), 1);
    assert_eq!(client.lookup(&fresh(0), rtype::A).answers.len(), 1);
    // A reload lifts the limit.
    agent.reload(&AgentConfig::default());
    for number in 300..350 {
        assert_eq!(client.lookup(&fresh(number), rtype::A).rcode(), 0);
    }
}

/// As the chart has it, for nodes of either family and of both; also when it takes over from an agent of IPv4's alone.
#[test]
fn both_families_are_listened_to_whatever_the_default() {
    const REQUEST: &str = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let lab = Lab::builder().start();
    lab.node().netns().sysctl("net/ipv6/bindv6only", "1");
    let at = |address: &str| AgentConfig {
        extra: format!("metrics: {{listen: {address:?}}}\n"),
        ..AgentConfig::default()
    };
    let asked = |address: &str| {
        let (status, _) = exchange_on(connect_to(&lab, address), REQUEST);
        assert_eq!(status, "HTTP/1.1 200 OK", "{address}");
    };
    let agent = lab.agent(&at("[::]:9253"));
    asked("127.0.0.1:9253");
    asked("[::1]:9253");
    agent.stop();
    let agent = lab.agent(&at("0.0.0.0:9253"));
    let successor = lab.agent(&at("[::]:9253"));
    agent.assert_ends();
    asked("127.0.0.1:9253");
    successor.stop();
}
