use std::net::IpAddr;
use std::path::Path;

use super::super::{BlockedAnswer, Config, Transport, TtlCaps, parse};
use super::*;

fn imported(text: &str) -> (Config, String) {
    let import =
        import(text, KubeDns::default(), None).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let config = parse(&import.yaml, Path::new("f")).unwrap();
    let notes: Vec<_> = import.notes.iter().map(ToString::to_string).collect();
    (config, notes.join("\n"))
}

fn servers(config: &Config, zone: &str) -> Vec<String> {
    let zone = config.zones.iter().find(|found| found.zone == zone);
    let upstreams = &zone.unwrap_or_else(|| panic!("{zone:?}")).upstreams;
    upstreams
        .iter()
        .map(|upstream| format!("{} {}", upstream.address, upstream.distance))
        .collect()
}

const fn caps(positive: u32, negative: u32, minimum: u32) -> TtlCaps {
    TtlCaps {
        positive,
        negative,
        minimum,
    }
}

/// As the manifest of NodeLocalDNS has it, before its start-up fills the placeholders in.
const NODE_LOCAL_DNS: &str = "\
__PILLAR__DNS__DOMAIN__:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    health __PILLAR__LOCAL__DNS__:8080
    }
in-addr.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
ip6.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
.:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__
    prometheus :9253
    }
";

/// As kubeadm has it.
const COREDNS: &str = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

#[test]
fn node_local_dns_as_it_is_shipped() {
    let (config, notes) = imported(NODE_LOCAL_DNS);
    assert_eq!(config.listen, ["169.254.20.10".parse::<IpAddr>().unwrap()]);
    assert!(config.kubernetes.is_some() && config.cluster.upstreams.is_empty());
    assert_eq!(config.cluster.domain, "cluster.local");
    assert_eq!(config.cluster.reverse_zones, ["in-addr.arpa", "ip6.arpa"]);
    assert_eq!(config.cluster.ttl, caps(30, 5, 0));
    assert_eq!(config.cluster.transport, Transport::Tcp);
    assert_eq!(config.default_transport, Transport::Udp);
    assert_eq!(config.default_ttl, caps(30, 30, 0));
    assert_eq!(config.cache.max_entries, 19_968);
    assert!(config.zones.is_empty());
    assert_eq!(notes, "line 14: health: /health is at metrics.listen");
}

#[test]
fn node_local_dns_as_it_runs_on_a_node() {
    let filled = NODE_LOCAL_DNS
        .replace("__PILLAR__DNS__DOMAIN__", "k8s.example")
        .replace("__PILLAR__LOCAL__DNS__", "169.254.20.10")
        .replace("__PILLAR__DNS__SERVER__", "10.96.0.10")
        .replace("__PILLAR__CLUSTER__DNS__", "10.105.1.2")
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf");
    let stub = "corp.example:53 {\n cache 60\n bind 169.254.20.10\n forward . 192.0.2.53 192.0.2.54:5353 {\n  force_tcp\n  policy sequential\n }\n}\n";
    let (config, _) = imported(&format!("{filled}{stub}"));
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.cluster.domain, "k8s.example");
    assert_eq!(
        config.cluster.upstreams[0].address,
        "10.105.1.2:53".parse().unwrap()
    );
    assert_eq!(config.cluster.reverse_zones, ["in-addr.arpa", "ip6.arpa"]);
    assert_eq!(
        servers(&config, "corp.example"),
        ["192.0.2.53:53 0", "192.0.2.54:5353 1"]
    );
    assert_eq!(config.zones[0].ttl, caps(60, 60, 0));
    assert_eq!(config.zones[0].transport, Transport::Tcp);
}

#[test]
fn coredns_as_kubeadm_sets_it_up() {
    let (config, notes) = imported(COREDNS);
    assert!(config.listen.is_empty() && config.zones.is_empty());
    assert_eq!(config.cluster.domain, "cluster.local");
    assert_eq!(config.cluster.ttl, caps(30, 5, 0));
    assert_eq!(config.default_transport, Transport::Udp);
    let lines: Vec<_> = notes
        .lines()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "line 3 health",
            "line 12 prometheus",
            "line 14 max_concurrent",
            "line 17 disable",
            "line 18 disable"
        ],
        "{notes}"
    );
}

#[test]
fn what_coredns_makes_up_is_left_to_it() {
    let text = "\
cluster.local:53 {
    kubernetes
    rewrite name prefix dev- prod-
    rewrite ttl . 30
}
.:53 {
    rewrite name suffix .legacy.example .default.svc.cluster.local
    rewrite name regex (.*)\\.alias\\.example {1}.default.svc.cluster.local
    template IN A made-up.example {
        answer \"{{ .Name }} 60 IN A 192.0.2.1\"
    }
    template ANY ANY gone.example {
        rcode NXDOMAIN
    }
    template ANY AAAA {
        rcode NOERROR
    }
    file /etc/coredns/zone.db on.disk.example
    hosts /etc/hosts {
        192.0.2.10 registry.corp.example MIRROR.corp.example
        2001:db8::10 registry.corp.example
        ttl 60
        fallthrough
    }
    forward partner.example tls://192.0.2.5 tls://[2001:db8::5]:8853 {
        tls_servername dns.partner.example
        health_check 5s
    }
    forward . 192.0.2.1 192.0.2.2
    cache 300 {
        success 5000 600 10
        denial 2500 15
        prefetch 5 10m 20%
        serve_stale 2h
        servfail 5s
    }
    acl {
        block net 10.9.0.0/16
    }
    blahblah yes
}
";
    let (config, notes) = imported(text);
    assert_eq!(
        config.cluster.reverse_zones,
        [
            "alias.example",
            "in-addr.arpa",
            "ip6.arpa",
            "legacy.example",
            "made-up.example",
            "on.disk.example"
        ]
    );
    assert_eq!(config.blocked.len(), 1);
    assert_eq!(
        (&*config.blocked[0].zone, config.blocked[0].answer),
        ("gone.example", BlockedAnswer::NxDomain)
    );
    let hosts: Vec<_> = config
        .hosts
        .iter()
        .map(|host| (&*host.name, host.addresses.len()))
        .collect();
    assert_eq!(
        hosts,
        [("mirror.corp.example", 1), ("registry.corp.example", 2)]
    );
    assert_eq!(
        servers(&config, "partner.example"),
        ["192.0.2.5:853 0", "[2001:db8::5]:8853 0"]
    );
    let partner = config
        .zones
        .iter()
        .find(|zone| zone.zone == "partner.example")
        .unwrap();
    let Transport::Tls(tls) = &partner.transport else {
        panic!("{partner:?}");
    };
    assert_eq!(tls.server_name.as_deref(), Some("dns.partner.example"));
    assert_eq!(servers(&config, "."), ["192.0.2.1:53 0", "192.0.2.2:53 0"]);
    assert_eq!(partner.ttl, caps(600, 15, 10));
    assert_eq!(config.cache.max_entries, 7_500);
    assert_eq!((config.prefetch.min_hits, config.prefetch.percent), (5, 20));
    assert_eq!(config.serve_stale.max_seconds, 7_200);
    for words in [
        "line 3: rewrite: names in cluster.local go",
        "line 4: rewrite: names in cluster.local go",
        "line 7: rewrite: names in legacy.example go to the cluster's DNS",
        "line 8: rewrite: names in alias.example go",
        "line 9: template: names in made-up.example go",
        "line 15: template: not done here",
        "line 18: file: names in on.disk.example go",
        "line 19: hosts: /etc/hosts is not read",
        "line 22: ttl: hosts have a TTL of 30 s",
        "line 25: forward: servers are trusted by /etc/ssl/certs/ca-certificates.crt, or without it by the public",
        "line 27: health_check: servers are judged by their answers",
        "line 35: servfail: ",
        "line 37: acl: who may ask",
        "line 40: blahblah: unknown; ignored",
    ] {
        assert!(notes.contains(words), "{words:?} not in\n{notes}");
    }
    assert!(
        !notes.contains("line 12") && !notes.contains("force_tcp"),
        "{notes}"
    );
}

#[test]
fn blocks_that_pods_cannot_reach_and_zones_that_are_not_cached() {
    let text = "tls://.:853 {\n forward . 192.0.2.1\n}\n.:5353 {\n forward . 192.0.2.2\n}\n\
                fresh.example {\n forward . 192.0.2.3\n}\nlocal.example {\n forward . /etc/other.conf\n cache\n}\n";
    let (config, notes) = imported(text);
    assert_eq!(config.zones.len(), 1);
    assert_eq!(config.zones[0].ttl, caps(0, 0, 0));
    for words in [
        "line 1: tls://.:853: pods are answered over UDP and TCP",
        "line 4: .:5353: pods ask at port 53",
        "line 8: forward: fresh.example is not cached there",
        "line 11: forward: names in local.example go where",
    ] {
        assert!(notes.contains(words), "{words:?} not in\n{notes}");
    }
}

/// All names go to the cluster's DNS, which knows the stub domains.
#[test]
fn a_root_that_goes_to_the_cluster() {
    let text = NODE_LOCAL_DNS.replace("__PILLAR__UPSTREAM__SERVERS__", "__PILLAR__CLUSTER__DNS__");
    let (config, _) = imported(&text);
    assert_eq!(
        config.cluster.reverse_zones,
        [".", "in-addr.arpa", "ip6.arpa"]
    );
    assert!(config.zones.is_empty());
}

#[test]
fn a_config_map_with_a_corefile() {
    let indented: String = COREDNS
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    let map = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: coredns\n---\napiVersion: v1\ndata:\n  Corefile: |\n{indented}kind: ConfigMap\nmetadata:\n  name: coredns\n"
    );
    let (config, notes) = imported(&map);
    assert_eq!(config.cluster.domain, "cluster.local");
    let health = map
        .lines()
        .position(|line| line.contains("health"))
        .unwrap()
        + 1;
    assert!(
        notes.starts_with(&format!("line {health}: health: ")),
        "{notes}"
    );
}

#[test]
fn kube_dns_s_config_map() {
    let map = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: kube-dns
  namespace: kube-system
data:
  stubDomains: |
    {\"acme.local\": [\"1.2.3.4\", \"1.2.3.5:5353\"], \"named.example\": [\"dns.example\"]}
  upstreamNameservers: |
    [\"8.8.8.8\", \"8.8.4.4\"]
";
    let (config, notes) = imported(map);
    assert_eq!(
        servers(&config, "acme.local"),
        ["1.2.3.4:53 0", "1.2.3.5:5353 0"]
    );
    assert_eq!(servers(&config, "."), ["8.8.8.8:53 0", "8.8.4.4:53 0"]);
    assert_eq!(config.zones.len(), 2);
    assert!(config.kubernetes.is_some());
    assert!(
        notes.starts_with("line 8: forward: \"dns.example\" is a name"),
        "{notes}"
    );
}

#[test]
fn what_cannot_be_imported() {
    for (text, over, words) in [
        ("", None, "it has no server block"),
        (
            ". {\n errors\n",
            None,
            "neither a Corefile nor a ConfigMap: line 1: the block that begins here has no }",
        ),
        (
            "kind: ConfigMap\ndata:\n  x: y\n",
            None,
            "no ConfigMap with a Corefile",
        ),
        (
            "kind: ConfigMap\ndata:\n  stubDomains: '[1]'\n",
            None,
            "line 3: stubDomains is no JSON as kube-dns wants it",
        ),
        ("kind: ConfigMap\ndata: [\n", None, "not valid YAML"),
        (
            ".:53 {\n}\n",
            Some("listn: [10.0.0.1]\n"),
            "did you mean listen?",
        ),
        (
            ".:53 {\n}\n",
            Some("listen: ["),
            "the configuration over it",
        ),
    ] {
        let error = import(text, KubeDns::default(), over)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// NodeLocalDNS's Corefile with the addresses that its start-up, or whoever installs it, puts in.
fn filled(domain: &str, local: &str) -> String {
    NODE_LOCAL_DNS
        .replace("__PILLAR__DNS__DOMAIN__", domain)
        .replace("__PILLAR__LOCAL__DNS__", local)
        .replace("__PILLAR__DNS__SERVER__", "10.96.0.10")
        .replace("__PILLAR__CLUSTER__DNS__", "10.105.1.2")
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf")
}

fn laid_over(text: &str, over: &str) -> (Config, String) {
    let import = import(text, KubeDns::default(), Some(over));
    let import = import.unwrap_or_else(|error| panic!("{error}:\n{over}"));
    let config = parse(&import.yaml, Path::new("f")).unwrap();
    let notes: Vec<_> = import.notes.iter().map(ToString::to_string).collect();
    (config, notes.join("\n"))
}

fn listens(config: &Config) -> Vec<String> {
    config.listen.iter().map(ToString::to_string).collect()
}

/// Whoever asks at NodeLocalDNS's address has nobody else, whatever the chart's own is.
#[test]
fn addresses_over_the_import() {
    let corefile = filled("cluster.local", "169.254.25.10");
    let both = "kubernetes: {interceptService: true}\nlisten: [169.254.20.10]\n";
    let (config, notes) = laid_over(&corefile, both);
    assert_eq!(
        listens(&config),
        ["169.254.20.10", "169.254.25.10", "10.96.0.10"]
    );
    let told = "listen: 169.254.25.10: answered at as well";
    assert!(notes.contains(told), "{notes}");
    let (config, notes) = laid_over(&corefile, "kubernetes: {interceptService: true}\n");
    assert_eq!(listens(&config), ["169.254.25.10", "10.96.0.10"]);
    assert!(notes.contains(told), "{notes}");
    let (config, _) = laid_over(&corefile, "listen: 169.254.20.10\n");
    assert_eq!(listens(&config).len(), 3);
    // In the chart's mode link-local the Service stays kube-proxy's.
    let link_local = "kubernetes: {interceptService: false}\nlisten: [169.254.25.10]\n";
    let (config, notes) = laid_over(&corefile, link_local);
    assert_eq!(listens(&config), ["169.254.25.10"]);
    assert!(notes.contains("listen: 10.96.0.10: left out"), "{notes}");
    assert!(!notes.contains(told), "{notes}");
}

#[test]
fn each_setting_stands_by_itself_over_the_import() {
    let corefile = filled("k8s.example", "169.254.20.10").replace(
        "denial 9984 5",
        "denial 9984 5\nprefetch 5\nserve_stale 24h",
    ) + "corp.example {\n cache 60\n forward . 192.0.2.53\n}\n\
         made.example {\n template IN A {\n  answer \"a\"\n }\n}\n";
    let over = "\
cluster: {ttl: {positive: 60}}
cache: {maxEntries: 10000}
zones:
  - {zone: Corp.Example., upstreams: [192.0.2.99]}
  - {zone: made.example, upstreams: [192.0.2.98]}
metrics: {listen: '0.0.0.0:9453'}
log: {level: \"info,dns_cache=debug\"}
";
    let (config, notes) = laid_over(&corefile, over);
    assert_eq!(config.cluster.domain, "k8s.example");
    assert_eq!(config.cluster.ttl, caps(60, 5, 0));
    assert_eq!(config.cluster.reverse_zones, ["in-addr.arpa", "ip6.arpa"]);
    assert_eq!(config.prefetch.min_hits, 5);
    assert_eq!(config.serve_stale.max_seconds, 86_400);
    assert_eq!(config.cache.max_entries, 10_000);
    assert_eq!(servers(&config, "corp.example"), ["192.0.2.99:53 0"]);
    assert_eq!(config.zones[0].ttl, caps(60, 60, 0));
    assert_eq!(servers(&config, "made.example"), ["192.0.2.98:53 0"]);
    for words in [
        "cluster.ttl.positive: 30 is left out: the settings over the import say 60",
        "cache.maxEntries: 19968 is left out: the settings over the import say 10000",
        "zones[corp.example].upstreams: [\"192.0.2.53:53\"] is left out",
        "cluster.reverseZones: made.example: left out",
    ] {
        assert!(notes.contains(words), "{words:?} not in\n{notes}");
    }
    let tls =
        "p.example {\n forward . tls://192.0.2.5 {\n  tls_servername dns.example\n }\n cache\n}\n";
    let (config, notes) = laid_over(tls, "zones: [{zone: p.example, transport: tcp}]\n");
    assert_eq!(config.zones[0].transport, Transport::Tcp);
    assert_eq!(servers(&config, "p.example"), ["192.0.2.5:853 0"]);
    assert!(notes.contains("zones[p.example].tls: left out"), "{notes}");
    let (config, notes) = laid_over(COREDNS, "cluster: {domain: k8s.example}\n");
    assert_eq!(config.cluster.domain, "k8s.example");
    let told =
        "cluster.domain: cluster.local is left out: the settings over the import say k8s.example";
    assert!(notes.contains(told), "{notes}");
    let (config, _) = laid_over(&corefile, "");
    assert_eq!(config.cache.max_entries, 19_968);
    let (config, notes) = laid_over(&corefile, "cluster: {reverseZones: [corp.example]}\n");
    assert!(config.zones.is_empty());
    assert!(notes.contains("zones: corp.example: left out"), "{notes}");
}

/// What a block makes up does not change whom it asks.
#[test]
fn what_node_local_dns_makes_up_itself() {
    let template = " template ANY AAAA {\n  rcode NOERROR\n }\n";
    let stub = format!("corp.example {{\n{template} cache 60\n forward . 10.1.1.1\n}}\n");
    for domain in ["cluster.local", "k8s.example", "zone.example"] {
        let corefile = filled(domain, "169.254.20.10");
        let rewrites =
            "errors\n rewrite name prefix old- new-\n rewrite name exact a.example b.example";
        let (config, notes) = imported(&(corefile.replacen("errors", rewrites, 1) + &stub));
        assert_eq!(config.cluster.domain, domain);
        assert_eq!(config.cluster.ttl, caps(30, 5, 0));
        let cluster: Vec<_> = config
            .cluster
            .upstreams
            .iter()
            .map(|server| server.address.to_string())
            .collect();
        assert_eq!(cluster, ["10.105.1.2:53"]);
        assert_eq!(config.cluster.reverse_zones, ["in-addr.arpa", "ip6.arpa"]);
        assert_eq!(servers(&config, "corp.example"), ["10.1.1.1:53 0"]);
        assert!(notes.contains("line 3: rewrite: not done here"), "{notes}");
        assert!(notes.contains("template: not done here"), "{notes}");
        // Such names come to the block of the root.
        assert!(
            notes.contains("line 4: rewrite: names in a.example come to the block of ., not here"),
            "{notes}"
        );
    }
    // Nobody but the cluster's DNS can be meant to answer.
    let alone = format!("made.example {{\n{template}}}\n");
    let placeholders = NODE_LOCAL_DNS.replace("__PILLAR__DNS__DOMAIN__", "zone.example");
    let (config, _) = imported(&(alone + &placeholders));
    assert_eq!(config.cluster.domain, "zone.example");
    assert_eq!(
        config.cluster.reverse_zones,
        ["in-addr.arpa", "ip6.arpa", "made.example"]
    );
}

/// Whoever has them all go elsewhere.
#[test]
fn reverse_names_with_servers_of_their_own() {
    let reverse = "in-addr.arpa ip6.arpa {\n forward . 10.1.1.1\n cache\n}\n";
    let (config, _) = imported(&format!(
        "cluster.local {{\n forward . 10.2.2.2\n cache\n}}\n{reverse}"
    ));
    assert!(config.cluster.reverse_zones.is_empty());
    assert_eq!(servers(&config, "in-addr.arpa"), ["10.1.1.1:53 0"]);
    assert_eq!(servers(&config, "ip6.arpa"), ["10.1.1.1:53 0"]);
}

#[test]
fn a_zone_s_file_is_no_zone() {
    let file = "example.org {\n file db.example.org\n}\n";
    let route53 = "aws.example {\n route53 aws.example.:Z1Z2 {\n  fallthrough\n }\n}\n";
    let azure = "azure.example {\n azure group:azure.example\n}\n";
    let root = ". {\n forward . 8.8.8.8\n cache\n}\n";
    let (config, notes) = imported(&[file, route53, azure, root].concat());
    assert_eq!(config.cluster.domain, "cluster.local");
    assert_eq!(
        config.cluster.reverse_zones,
        [
            "aws.example",
            "azure.example",
            "example.org",
            "in-addr.arpa",
            "ip6.arpa"
        ]
    );
    assert!(
        notes.contains("line 2: file: names in example.org go"),
        "{notes}"
    );
}

/// The block with the longest zone answers, and in it the first forward.
#[test]
fn whose_servers_are_asked() {
    let text = "\
. {
    forward corp.example 10.0.0.1
    forward a.example 10.0.0.3
    forward . 8.8.8.8 /etc/resolv.conf
    forward b.example 10.0.0.4
    cache
}
corp.example {
    forward . 10.0.0.2
    forward elsewhere.example 10.0.0.5
    cache
}
sub.corp.example {
    forward . /etc/resolv.conf
    cache
}
";
    let (config, notes) = imported(text);
    assert_eq!(servers(&config, "corp.example"), ["10.0.0.2:53 0"]);
    assert_eq!(servers(&config, "a.example"), ["10.0.0.3:53 0"]);
    assert_eq!(servers(&config, "."), ["8.8.8.8:53 0"]);
    assert_eq!(config.zones.len(), 3);
    for words in [
        "line 2: forward: names in corp.example come to the block of corp.example, not here",
        "line 4: forward: /etc/resolv.conf is left out",
        "line 5: forward: names in b.example go where this block sends those in .",
        "line 10: forward: names in elsewhere.example come to the block of .",
        "line 14: forward: names in sub.corp.example go where names of the zone above go",
    ] {
        assert!(notes.contains(words), "{words:?} not in\n{notes}");
    }
}

/// As k3s's.
#[test]
fn files_that_are_imported_between_blocks() {
    let text = format!(
        "import /etc/a/*.server\ncorp.example {{\n forward . 10.1.1.1\n}}\n{COREDNS}import /etc/coredns/custom/*.server\n"
    );
    let (config, notes) = imported(&text);
    assert_eq!(config.zones.len(), 1);
    assert_eq!(config.zones[0].zone, "corp.example");
    assert!(
        notes.contains("line 1: import: the file is not read"),
        "{notes}"
    );
    assert!(
        notes.contains("line 28: import: the file is not read"),
        "{notes}"
    );
}

fn object(name: &str, data: &[(&str, &str)]) -> serde_json::Value {
    let data: serde_json::Map<_, _> = data
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).into()))
        .collect();
    serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[test]
fn config_maps_as_kubectl_prints_them() {
    let stubs = [
        ("stubDomains", "{\"acme.local\": [\"1.2.3.4\"]}"),
        ("upstreamNameservers", "[\"8.8.8.8\"]"),
    ];
    let corefile = object("node-local-dns", &[("Corefile", NODE_LOCAL_DNS)]);
    let kube_dns = object("kube-dns", &stubs);
    let (config, notes) = imported(&format!("{corefile:#}\n"));
    assert_eq!(config.cluster.ttl, caps(30, 5, 0));
    // Its lines are the Corefile's own.
    assert_eq!(notes, "line 14: health: /health is at metrics.listen");
    let (config, _) = imported(&format!("{kube_dns:#}"));
    assert_eq!(servers(&config, "."), ["8.8.8.8:53 0"]);

    let other = serde_json::json!({"kind": "Secret", "data": {"Corefile": ". {"}});
    let list = serde_json::json!({"apiVersion": "v1", "items": [other, corefile, kube_dns], "kind": "List"});
    let (config, _) = imported(&format!("{list:#}"));
    assert_eq!(config.cluster.ttl, caps(30, 5, 0));
    assert_eq!(servers(&config, "acme.local"), ["1.2.3.4:53 0"]);
    assert_eq!(servers(&config, "."), ["8.8.8.8:53 0"]);

    let yaml = format!("apiVersion: v1\nitems:\n- {kube_dns}\n- {corefile}\nkind: List\n");
    assert_eq!(imported(&yaml).0, config);
}

/// What was silent once: nothing of it has a counterpart.
#[test]
fn what_is_not_taken_over_is_told() {
    let corefile = ".:53 {\n  ready :8281\n  ready\n  loadbalance\n  loadbalance round_robin\n  \
                    loadbalance weighted /etc/weights {\n    reload 10s\n  }\n  forward . 192.0.2.1 192.0.2.2 {\n    \
                    policy round_robin\n  }\n  cache\n  rewrite stop {\n    name regex (.*)\\.corp\\.example \
                    {1}.default.svc.cluster.local\n    answer name (.*)\\.svc {1}.corp.example\n  }\n}\n";
    let (config, notes) = imported(corefile);
    assert_eq!(
        config.cluster.reverse_zones,
        ["corp.example", "in-addr.arpa", "ip6.arpa"]
    );
    let mut lines = notes.lines();
    for words in [
        "line 2: ready: /ready is at metrics.listen",
        "line 6: loadbalance: addresses take turns",
        "line 10: policy: the one with the fewest queries",
        "line 13: rewrite: names in corp.example go to the cluster's DNS",
    ] {
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with(words), "{words:?} not in\n{notes}");
    }
    assert_eq!(lines.next(), None);

    let map = |name: &str, data: &str| {
        format!("kind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n{data}")
    };
    let text = [
        map(
            "coredns",
            "  Corefile: |\n    . {\n      cache\n      forward . 192.0.2.1\n    }\n",
        ),
        map(
            "kube-dns",
            "  federations: |\n    {\"myfed\": \"fed.example\"}\n",
        ),
        map(
            "other",
            "  Corefile: |\n    . {\n      forward . 192.0.2.9\n    }\n  federations: ''\n",
        ),
    ]
    .join("---\n");
    let (config, notes) = imported(&text);
    assert_eq!(servers(&config, "."), ["192.0.2.1:53 0"]);
    assert_eq!(
        notes,
        "line 16: federations: names of federated services are asked for as any others\n\
         line 23: Corefile: left out: a ConfigMap before this one has it"
    );
}

/// As node-cache: stub domains beside the Corefile's zones, servers where it has a place for them.
#[test]
fn kube_dns_s_settings_beside_a_corefile() {
    let settings = KubeDns {
        stub_domains: Some("{\"acme.local\": [\"1.2.3.4:5353\"]}".to_owned()),
        upstream_nameservers: Some("[\"8.8.8.8\"]".to_owned()),
    };
    let read = |text: &str, settings: &KubeDns| {
        let import = import(text, settings.clone(), None).unwrap();
        (parse(&import.yaml, Path::new("f")).unwrap(), import.notes)
    };
    let tcp = "__PILLAR__UPSTREAM__SERVERS__ {\n force_tcp\n }";
    let tcp = NODE_LOCAL_DNS.replace("__PILLAR__UPSTREAM__SERVERS__", tcp);
    for text in [NODE_LOCAL_DNS, &tcp] {
        let (config, notes) = read(text, &settings);
        assert_eq!(servers(&config, "acme.local"), ["1.2.3.4:5353 0"]);
        assert_eq!(servers(&config, "."), ["8.8.8.8:53 0"]);
        assert!(
            config
                .zones
                .iter()
                .all(|zone| zone.transport == Transport::Udp)
        );
        assert_eq!(notes.len(), 1, "{notes:?}");
    }
    let (config, notes) = read(&filled("cluster.local", "169.254.20.10"), &settings);
    assert_eq!(config.zones.len(), 1);
    let told = "upstreamNameservers: the Corefile names other servers, which are asked";
    assert!(
        notes.iter().any(|note| note.to_string() == told),
        "{notes:?}"
    );
    let empty = KubeDns {
        stub_domains: Some(String::new()),
        upstream_nameservers: None,
    };
    assert!(read(NODE_LOCAL_DNS, &empty).0.zones.is_empty());
}
