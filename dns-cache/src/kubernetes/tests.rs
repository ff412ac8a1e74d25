//! What is made of what a cluster says.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::*;
use crate::config::{ApiServer, parse};

mod endpoints;
mod stream;

/// A slice as the API server writes it.
fn slice(name: &str, version: u64, endpoints: &[Value]) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "kube-system", "resourceVersion": version.to_string()},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "metrics", "port": 9153, "protocol": "TCP"},
        ],
    })
}

fn ready(address: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
    })
}

fn config(text: &str) -> Config {
    parse(text, "f".as_ref()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn servers(texts: &[&str]) -> Vec<Upstream> {
    let server = |text: &&str| Upstream::from(text.parse::<SocketAddr>().unwrap());
    texts.iter().map(server).collect()
}

fn found(discovery: &Discovery, servers_found: &[&str], service: &[&str]) {
    discovery.found.send_modify(|found| {
        found.servers = servers(servers_found);
        found.addresses = addresses(service);
    });
}

#[test]
fn the_service_stands_in_for_its_endpoints() {
    let (discovery, _) = Discovery::new(config("kubernetes: {}"));
    let nothing = discovery.current();
    assert!(nothing.listen.is_empty() && nothing.cluster.upstreams.is_empty());
    found(&discovery, &[], &["10.96.0.10", "fd00::a"]);
    let known = discovery.current();
    assert_eq!(known.listen, addresses(&["10.96.0.10", "fd00::a"]));
    assert_eq!(
        known.cluster.upstreams,
        servers(&["10.96.0.10:53", "[fd00::a]:53"])
    );
    found(&discovery, &["10.244.0.2:53"], &["10.96.0.10"]);
    let known = discovery.current();
    assert_eq!(known.listen, addresses(&["10.96.0.10"]));
    assert_eq!(known.cluster.upstreams, servers(&["10.244.0.2:53"]));
}

#[test]
fn what_the_configuration_says_stays() {
    let text = "listen: [169.254.20.10, 10.96.0.10]\n\
                kubernetes: {interceptService: false}\n\
                cluster: {upstreams: [192.0.2.1]}";
    let (discovery, _) = Discovery::new(config(text));
    assert_eq!(discovery.current(), config(text));
    found(&discovery, &["10.244.0.2:53"], &["10.96.0.11"]);
    let known = discovery.current();
    assert_eq!(known.listen, addresses(&["169.254.20.10", "10.96.0.10"]));
    assert_eq!(known.cluster.upstreams, servers(&["10.244.0.2:53"]));
    discovery.rebase(config(
        "listen: [169.254.20.10]\nkubernetes: {interceptService: false}",
    ));
    let known = discovery.current();
    assert_eq!(known.listen, addresses(&["169.254.20.10"]));
    assert_eq!(
        known.destinations()[0].fallback,
        Some(addresses(&["10.96.0.11"])[0]),
        "the Service answers in its place"
    );
}

/// A link-local address of ours has nobody behind it; the ClusterIP has.
#[test]
fn without_endpoints_a_listed_service_is_asked() {
    let text = "listen: [169.254.20.10, 10.96.0.10]\nkubernetes: {}";
    let (discovery, _) = Discovery::new(config(text));
    assert_eq!(
        discovery.current().cluster.upstreams,
        servers(&["10.96.0.10:53"])
    );
}

#[test]
fn endpoints_are_intercepted_when_pods_see_them() {
    let case = |setting: &str, rewritten: bool| {
        let text = format!("kubernetes: {{interceptEndpoints: {setting}}}");
        let (discovery, _) = Discovery::new(config(&text));
        // What is not port 53 is never taken.
        found(
            &discovery,
            &["10.244.0.2:53", "10.244.0.3:5353"],
            &["10.96.0.10"],
        );
        discovery
            .found
            .send_modify(|found| found.rewritten = rewritten);
        discovery.current().listen
    };
    let (service, both) = (
        addresses(&["10.96.0.10"]),
        addresses(&["10.96.0.10", "10.244.0.2"]),
    );
    assert_eq!(case("auto", false), service);
    assert_eq!(case("auto", true), both);
    assert_eq!(case("true", false), both);
    assert_eq!(case("false", true), service);
}

#[test]
fn the_service_is_known_by_its_answers() {
    let (discovery, mut changes) = Discovery::new(config("kubernetes: {}"));
    let known = || discovery.found.borrow().addresses.clone();
    let mut changed = || {
        let changed = changes.0.has_changed().unwrap();
        changes.0.mark_unchanged();
        changed
    };
    discovery.service(addresses(&["127.0.0.1"]));
    assert!(known().is_empty() && !changed());
    discovery.service(addresses(&["fd00::a", "127.0.0.1", "10.96.0.10"]));
    assert_eq!(known(), addresses(&["10.96.0.10", "fd00::a"]));
    assert!(changed());
    // No answer, or the same one.
    discovery.service(Vec::new());
    discovery.service(addresses(&["10.96.0.10", "fd00::a"]));
    assert!(!changed());
    // A headless Service's name leads to its endpoints.
    discovery
        .found
        .send_modify(|found| found.servers = servers(&["10.244.0.2:53"]));
    discovery.service(addresses(&["10.244.0.2"]));
    assert_eq!(known(), addresses(&["10.96.0.10", "fd00::a"]));
    // Made anew.
    discovery.service(addresses(&["10.96.0.77"]));
    assert_eq!(known(), addresses(&["10.96.0.77"]));
}

/// Whatever range it is of: nobody but the agent answers at an address that is not the Service's.
#[test]
fn addresses_of_the_agents_own_fall_back_to_the_service() {
    let fallbacks = |text: &str, service: &[&str]| {
        let (discovery, _) = Discovery::new(config(text));
        found(&discovery, &[], service);
        let config = discovery.current();
        let of = |address: &IpAddr| {
            let mut all = config.destinations().into_iter();
            all.find(|to| to.address == *address).unwrap().fallback
        };
        let base = discovery.base().listen.clone();
        let found: Vec<_> = base.iter().map(of).collect();
        (found, discovery.without_fallback(&config))
    };
    let both = ["10.96.0.10", "fd00:10:96::a"];
    let [v4, v6] = [0, 1].map(|n| Some(addresses(&both)[n]));
    for intercept in [true, false] {
        let text = |listen: &str| {
            format!("listen: [{listen}]\nkubernetes: {{interceptService: {intercept}}}")
        };
        let own = text("169.254.20.10, \"fd00:20::a\"");
        assert_eq!(fallbacks(&own, &both), (vec![v4, v6], vec![]));
        // What is not known, or not there.
        let neither = (vec![None, None], addresses(&["169.254.20.10"]));
        assert_eq!(fallbacks(&own, &[]), neither);
        let lost = (vec![v4, None], addresses(&["fd00:20::a"]));
        assert_eq!(fallbacks(&own, &both[..1]), lost);
        // The Service's own have an ordinary path.
        let listed = text("10.96.0.10, \"fd00:10:96::a\"");
        assert_eq!(fallbacks(&listed, &both), (vec![None, None], vec![]));
    }
    let said = "listen: [\"fd00:20::a\", \"fd00:10:96::b\"]\nkubernetes: {}\n\
                fallback: [{address: \"fd00:20::a\", to: \"fd00:10:96::b\"}]";
    let to = Some(addresses(&["fd00:10:96::b"])[0]);
    assert_eq!(fallbacks(said, &both), (vec![to, None], vec![]));
}

/// The ports of one transport are not those of another.
#[test]
fn another_transport_has_other_ports() {
    let with = |transport: &str| {
        config(&format!(
            "kubernetes: {{}}\ncluster: {{transport: {transport}}}"
        ))
    };
    let mut slice = slice("a", 1, &[ready("10.244.0.2")]);
    slice["ports"] = json!([
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "dns-tls", "port": 8853, "protocol": "TCP"},
    ]);
    let slice: slice::EndpointSlice = serde_json::from_value(slice).unwrap();
    let slices = Slices::from([("a".to_owned(), slice)]);
    let (discovery, mut changes) = Discovery::new(with("tcp"));
    discovery.endpoints(&slices, &Place::default());
    let at = |port: u16| {
        let mut server = servers(&["10.244.0.2:53"]).remove(0);
        server.address.set_port(port);
        server.distance = 2;
        vec![server]
    };
    assert_eq!(discovery.current().cluster.upstreams, at(53));
    changes.0.mark_unchanged();
    let new = with("tls");
    // At once, and to all who are told.
    assert_eq!(discovery.complete(&new).cluster.upstreams, at(8853));
    assert_eq!(discovery.current().cluster.upstreams, at(53));
    discovery.rebase(new);
    assert_eq!(discovery.current().cluster.upstreams, at(8853));
    assert!(changes.0.has_changed().unwrap());
    // A slice that comes later.
    discovery.endpoints(&slices, &Place::default());
    assert_eq!(discovery.current().cluster.upstreams, at(8853));
}

/// A successor serves what its predecessor did until the DNS tells better.
#[test]
fn what_was_served_before_is_presumed() {
    let known = addresses(&["10.96.0.10", "fd00::a"]);
    let (discovery, mut changes) = Discovery::new(config("kubernetes: {}"));
    discovery.presume(known.clone());
    assert!(!changes.0.has_changed().unwrap(), "nobody has to be told");
    let presumed = discovery.current();
    assert_eq!(presumed.listen, known);
    assert_eq!(
        presumed.cluster.upstreams,
        servers(&["10.96.0.10:53", "[fd00::a]:53"])
    );
    discovery.service(Vec::new());
    assert_eq!(discovery.current(), presumed);
    // A family without an answer, whatever the other one's is.
    let hear = |answers: [Option<Vec<IpAddr>>; 2]| {
        let all = discovery.with_known(answers);
        discovery.service(all);
        discovery.current().listen
    };
    assert_eq!(hear([Some(Vec::new()), None]), known);
    assert!(discovery.found.borrow().addresses.is_empty());
    assert_eq!(hear([Some(addresses(&["10.96.0.10"])), None]), known);
    assert_eq!(hear([None, Some(addresses(&["fd00::a"]))]), known);
    let both = [addresses(&["10.96.0.77"]), Vec::new()].map(Some);
    assert_eq!(hear(both), addresses(&["10.96.0.77"]));
    changes.0.mark_unchanged();
    // A headless Service has none; what was served before it is served no more.
    let (headless, _) = Discovery::new(config("kubernetes: {}"));
    headless.presume(known);
    found(&headless, &["10.244.0.2:53"], &[]);
    headless.service(addresses(&["10.244.0.2"]));
    assert!(headless.current().listen.is_empty());
}

/// With others that stay, the Service is nobody's stand-in but theirs.
#[test]
fn a_predecessors_service_stands_in() {
    let text = "listen: [169.254.20.10]\nkubernetes: {interceptService: false}";
    let (discovery, _) = Discovery::new(config(text));
    discovery.presume(addresses(&["10.96.0.10"]));
    let known = discovery.current();
    assert_eq!(known.listen, addresses(&["169.254.20.10"]));
    assert_eq!(
        known.destinations()[0].fallback,
        Some(addresses(&["10.96.0.10"])[0])
    );
}

/// The API server at `address`, by TLS with the test's certificates, and our own Node.
fn settings(address: SocketAddr, token_file: &std::path::Path) -> Kubernetes {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upstream/tests");
    let mut settings = config("kubernetes: {nodeName: n1}").kubernetes.unwrap();
    settings.api_server = Some(ApiServer {
        tls: true,
        host: address.ip().to_string(),
        port: address.port(),
    });
    settings.ca_file = folder.join("ca.pem");
    settings.token_file = token_file.to_owned();
    settings
}
