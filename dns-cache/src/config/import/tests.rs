use std::net::IpAddr;
use std::path::Path;

use super::super::{BlockedAnswer, Config, Transport, TtlCaps, parse};
use super::*;

fn imported(text: &str) -> (Config, String) {
    let import = import(text, None).unwrap_or_else(|error| panic!("{error}:\n{text}"));
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
    rewrite name suffix .legacy.example .default.svc.cluster.local
    rewrite name regex (.*)\\.alias\\.example {1}.default.svc.cluster.local
    rewrite name prefix dev- prod-
    rewrite ttl . 30
}
.:53 {
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
        "line 3: rewrite: names in legacy.example go to the cluster's DNS",
        "line 4: rewrite: names in alias.example go",
        "line 5: rewrite: names in cluster.local go",
        "line 6: rewrite: names in cluster.local go",
        "line 9: template: names in made-up.example go",
        "line 15: template: not done here",
        "line 18: file: names in on.disk.example go",
        "line 19: hosts: /etc/hosts is not read",
        "line 22: ttl: hosts have a TTL of 30 s",
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
fn settings_over_the_import() {
    let over = "# mine\nlisten: [169.254.20.11]\nlog: {format: json}\n";
    let import = import(NODE_LOCAL_DNS, Some(over)).unwrap();
    let config = parse(&import.yaml, Path::new("f")).unwrap();
    assert_eq!(config.listen, ["169.254.20.11".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.cache.max_entries, 19_968);
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
        let error = import(text, over).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
