//! Whole files: what they mean, and what is said of their mistakes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::*;

mod arbitrary;
mod chart;
mod files;
mod mistakes;
mod overrides;

const MINIMAL: &str = "listen: [10.96.0.10]\ncluster: {upstreams: [10.244.0.2]}\n";

fn parsed(text: &str) -> Config {
    parse(text, Path::new("f")).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// What is said, a line a mistake.
fn mistakes(text: &str) -> Vec<String> {
    let errors = parse(text, Path::new("f")).expect_err("no mistake found");
    errors.to_string().lines().map(str::to_owned).collect()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn servers(texts: &[&str]) -> Vec<Upstream> {
    let server = |text: &&str| Upstream::from(text.parse::<SocketAddr>().unwrap());
    texts.iter().map(server).collect()
}

fn pattern(exclude: bool, glob: &str) -> InterfacePattern {
    InterfacePattern {
        exclude,
        glob: glob.to_owned(),
    }
}

fn minimal() -> Config {
    let globs = ["veth*", "cali*", "lxc*", "eni*", "azv*", "gke*", "auto"];
    Config {
        listen: addresses(&["10.96.0.10"]),
        fallbacks: vec![],
        host: HostProcesses {
            enabled: false,
            cgroup: "/sys/fs/cgroup".into(),
        },
        interfaces: globs.map(|glob| pattern(false, glob)).into(),
        exclude: vec![],
        cni_results: "/var/lib/cni/results".into(),
        cluster: Cluster {
            domain: "cluster.local".to_owned(),
            reverse_zones: vec!["in-addr.arpa".to_owned(), "ip6.arpa".to_owned()],
            upstreams: servers(&["10.244.0.2:53"]),
            transport: Transport::Tcp,
            ttl: TtlCaps {
                positive: 30,
                negative: 5,
                minimum: 0,
            },
            nxdomain_cut: true,
        },
        kubernetes: None,
        zones: Vec::new(),
        hosts: vec![],
        blocked: vec![],
        access: vec![],
        resolv_conf: "/etc/resolv.conf".into(),
        default_transport: Transport::Tcp,
        default_ttl: TtlCaps {
            positive: 30,
            negative: 30,
            minimum: 0,
        },
        cache: CacheLimits {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            kernel: true,
        },
        prefetch: Prefetch {
            percent: 10,
            min_seconds: 1,
            min_hits: 1,
        },
        serve_stale: ServeStale {
            enabled: true,
            after_millis: 1_800,
            max_seconds: 3_600,
            ttl: 5,
        },
        queries: Queries {
            in_flight: 4_096,
            in_flight_per_client: 1_024,
            misses_per_second: 0,
            miss_burst: 200,
            wedged_after_millis: 500,
        },
        attach: AttachMode::Auto,
        after_hand_over: AfterHandOver::Exit,
        state_dir: "/run/dns-cache".into(),
        bpffs: "/sys/fs/bpf/dns-cache".into(),
        metrics: Metrics {
            listen: Some("0.0.0.0:9253".parse().unwrap()),
            per_pod: false,
        },
        log: Log {
            format: LogFormat::Text,
            level: "info".to_owned(),
        },
    }
}

#[test]
fn a_minimal_file_means_the_defaults() {
    assert_eq!(parsed(MINIMAL), minimal());
}

#[test]
fn a_full_file_means_what_it_says() {
    let text = r#"
listen: [10.96.0.10, fd00:10:96::a, 169.254.20.10]
fallback: [{address: "fd00:10:96::a", to: "fd00:10:96::b"}]
host: {enabled: true, cgroup: /sys/fs/cgroup/node/}
interfaces: ["veth*", "!veth-infra*", eth1]
exclude: [db, web/front-0, 10.244.7.0/24, "fd00::7"]
cniResults: /cni
cluster:
  domain: K8s.Example.
  upstreams: [10.244.0.2, "10.244.0.3:5353", "[fd00::2]:53", fd00::3, "[fd00::4]"]
  reverseZones: [10.in-addr.arpa.]
  ttl: {positive: 60, negative: 0, minimum: 2}
  nxdomainCut: false
kubernetes:
  service: coredns
  namespace: dns
  nodeName: node-1.example
  interceptService: false
  interceptEndpoints: false
  detachWhenRefused: true
  apiServer: "https://[fd00::1]:6443/"
  caFile: /ca
  tokenFile: /token
zones:
  - zone: _tcp.Corp.example
    upstreams: [192.0.2.53, 192.0.2.54:53]
    ttl: {positive: 86400}
  - {zone: ., upstreams: 192.0.2.1}
hosts: [{name: DB.corp.example., addresses: [192.0.2.1, "fd00::1"]}]
blocked: [{zone: ads.example}, {zone: x.example, answer: refused}]
access: {allow: [10.244.0.0/16, "fd00::1"]}
resolvConf: /run/resolv.conf
ttl: {negative: 10}
cache: {maxEntries: 1e+06, maxBytes: 1Gi, prefetch: {percent: 20, minHits: 3}, serveStale: {enabled: false, ttl: 30}}
queries: {inFlightPerClient: 99, missesPerSecond: 50, missBurst: 10, wedgedAfterMillis: 700}
attach: clsact
afterHandOver: standBy
stateDir: /run//a/
bpffs: /sys/fs/bpf/a
metrics: {listen: "[::1]:9000", perPod: true}
log: {format: json, level: "warn,dns_cache=debug"}
"#;
    let expected = Config {
        listen: addresses(&["10.96.0.10", "fd00:10:96::a", "169.254.20.10"]),
        fallbacks: vec![Fallback {
            address: "fd00:10:96::a".parse().unwrap(),
            to: "fd00:10:96::b".parse().unwrap(),
        }],
        host: HostProcesses {
            enabled: true,
            cgroup: "/sys/fs/cgroup/node".into(),
        },
        interfaces: vec![
            pattern(false, "veth*"),
            pattern(true, "veth-infra*"),
            pattern(false, "eth1"),
        ],
        exclude: vec![
            Excluded::Named(ExcludedPods {
                namespace: "db".to_owned(),
                name: None,
            }),
            Excluded::Named(ExcludedPods {
                namespace: "web".to_owned(),
                name: Some("front-0".to_owned()),
            }),
            Excluded::At(Network::new("10.244.7.0".parse().unwrap(), 24)),
            Excluded::At(Network::new("fd00::7".parse().unwrap(), 128)),
        ],
        cni_results: "/cni".into(),
        cluster: Cluster {
            domain: "k8s.example".to_owned(),
            reverse_zones: vec!["10.in-addr.arpa".to_owned()],
            upstreams: servers(&[
                "10.244.0.2:53",
                "10.244.0.3:5353",
                "[fd00::2]:53",
                "[fd00::3]:53",
                "[fd00::4]:53",
            ]),
            transport: Transport::Tcp,
            ttl: TtlCaps {
                positive: 60,
                negative: 0,
                minimum: 2,
            },
            nxdomain_cut: false,
        },
        kubernetes: Some(Kubernetes {
            service: "coredns".to_owned(),
            namespace: "dns".to_owned(),
            node_name: Some("node-1.example".to_owned()),
            intercept_service: false,
            intercept_endpoints: InterceptEndpoints::Never,
            detach_when_refused: true,
            api_server: Some(ApiServer {
                tls: true,
                host: "fd00::1".to_owned(),
                port: 6443,
            }),
            ca_file: "/ca".into(),
            token_file: "/token".into(),
        }),
        zones: vec![
            Zone {
                zone: "_tcp.corp.example".to_owned(),
                upstreams: servers(&["192.0.2.53:53", "192.0.2.54:53"]),
                transport: Transport::Tcp,
                ttl: TtlCaps {
                    positive: 86_400,
                    negative: 30,
                    minimum: 0,
                },
            },
            Zone {
                zone: ".".to_owned(),
                upstreams: servers(&["192.0.2.1:53"]),
                transport: Transport::Tcp,
                ttl: TtlCaps {
                    positive: 30,
                    negative: 30,
                    minimum: 0,
                },
            },
        ],
        hosts: vec![Host {
            name: "db.corp.example".to_owned(),
            addresses: addresses(&["192.0.2.1", "fd00::1"]),
        }],
        blocked: [
            ("ads.example", BlockedAnswer::NxDomain),
            ("x.example", BlockedAnswer::Refused),
        ]
        .map(|(zone, answer)| Blocked {
            zone: zone.to_owned(),
            answer,
        })
        .into(),
        access: vec![
            Network::new("10.244.0.0".parse().unwrap(), 16),
            Network::new("fd00::1".parse().unwrap(), 128),
        ],
        resolv_conf: "/run/resolv.conf".into(),
        default_transport: Transport::Tcp,
        default_ttl: TtlCaps {
            positive: 30,
            negative: 10,
            minimum: 0,
        },
        cache: CacheLimits {
            max_entries: 1_000_000,
            max_bytes: 1 << 30,
            kernel: true,
        },
        prefetch: Prefetch {
            percent: 20,
            min_seconds: 1,
            min_hits: 3,
        },
        serve_stale: ServeStale {
            enabled: false,
            after_millis: 1_800,
            max_seconds: 3_600,
            ttl: 30,
        },
        queries: Queries {
            in_flight: 4_096,
            in_flight_per_client: 99,
            misses_per_second: 50,
            miss_burst: 10,
            wedged_after_millis: 700,
        },
        attach: AttachMode::Clsact,
        after_hand_over: AfterHandOver::StandBy,
        state_dir: "/run/a".into(),
        bpffs: "/sys/fs/bpf/a".into(),
        metrics: Metrics {
            listen: Some("[::1]:9000".parse().unwrap()),
            per_pod: true,
        },
        log: Log {
            format: LogFormat::Json,
            level: "warn,dns_cache=debug".to_owned(),
        },
    };
    assert_eq!(parsed(text), expected);
    assert_eq!(parsed(&text.replace('\n', "\r\n")), expected, "with CRLF");
    assert_eq!(
        parsed(&format!("\u{feff}{text}")),
        expected,
        "with a byte order mark"
    );
    // JSON is YAML, and Helm's toJson is used as often as toYaml.
    assert_eq!(
        parsed(r#"{"listen":["10.96.0.10"],"cluster":{"upstreams":["10.244.0.2"]}}"#),
        minimal()
    );
}

#[test]
fn addresses_without_an_ordinary_path_have_a_fallback() {
    let fallbacks = |more: &str| {
        let config = parsed(&format!("{more}\ncluster: {{upstreams: [10.244.0.2]}}"));
        let found = config.destinations().into_iter();
        let found = found.map(|to| to.fallback.map(|ip| ip.to_string()).unwrap_or_default());
        (
            found.collect::<Vec<_>>().join(" "),
            config.without_fallback().len(),
        )
    };
    let cases = [
        ("listen: [10.96.0.10, fd00::a]", " ", 0),
        (
            "listen: [169.254.20.10, fd00::a, 10.96.0.10, 10.96.0.11]",
            "10.96.0.10   ",
            0,
        ),
        ("listen: [169.254.20.10, fd00::a]", " ", 1),
        (
            "listen: [169.254.20.10]\nfallback: [{address: 169.254.20.10, to: 10.96.0.10}]",
            "10.96.0.10",
            0,
        ),
        // One that has a fallback is nobody's.
        (
            "listen: [169.254.20.10, 10.0.0.1, 10.96.0.10]\nfallback: [{address: 10.0.0.1, to: 10.96.0.10}]",
            "10.96.0.10 10.96.0.10 ",
            0,
        ),
    ];
    for (text, expected, lost) in cases {
        assert_eq!(fallbacks(text), (expected.to_owned(), lost), "{text}");
    }
}

#[test]
fn the_example_states_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config.example.yaml");
    let example = load(Some(&path), &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(example.zones.len(), 1);
    assert_eq!(example.zones[0].ttl, minimal().default_ttl);
    let mut expected = minimal();
    // These have no default.
    expected.listen.clone_from(&example.listen);
    expected.fallbacks.clone_from(&example.fallbacks);
    expected
        .cluster
        .upstreams
        .clone_from(&example.cluster.upstreams);
    expected.zones.clone_from(&example.zones);
    expected.hosts.clone_from(&example.hosts);
    expected.blocked.clone_from(&example.blocked);
    assert_eq!(example, expected);

    // Each key of the schema is explained there.
    let text = fs::read_to_string(path).unwrap();
    for key in schema::SECTIONS.iter().flat_map(|(_, keys)| *keys) {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}
