//! The keys of the file, what each may hold, and what holds between them.

mod cache;
mod fallback;
mod host;
mod kubernetes;
mod local;

use std::net::IpAddr;
use std::path::PathBuf;

use super::errors::Report;
use super::model::is_link_local;
use super::overrides::{Flag, Overrides};
use super::section::{Placed, Section};
use super::setting::Setting;
use super::tree::Node;
use super::value::choice::TransportName;
use super::value::{self, address, choice, filter, interface, name, number, path, quoted};
use super::{
    AfterHandOver, AttachMode, Cluster, Config, InterfacePattern, Kubernetes, Log, LogFormat,
    Metrics, Queries, Tls, Transport, TtlCaps, Upstream, Zone, defaults,
};

const TOP_KEYS: [&str; 23] = [
    "listen",
    "fallback",
    "host",
    "interfaces",
    "exclude",
    "cniResults",
    "cluster",
    "kubernetes",
    "zones",
    "hosts",
    "blocked",
    "access",
    "resolvConf",
    "transport",
    "ttl",
    "cache",
    "queries",
    "attach",
    "afterHandOver",
    "stateDir",
    "bpffs",
    "metrics",
    "log",
];
const CLUSTER_KEYS: [&str; 7] = [
    "domain",
    "upstreams",
    "transport",
    "tls",
    "reverseZones",
    "ttl",
    "nxdomainCut",
];
const ZONE_KEYS: [&str; 5] = ["zone", "upstreams", "transport", "tls", "ttl"];
const TLS_KEYS: [&str; 2] = ["serverName", "caFile"];
const TTL_KEYS: [&str; 3] = ["positive", "negative", "minimum"];
const QUERIES_KEYS: [&str; 5] = [
    "inFlight",
    "inFlightPerClient",
    "missesPerSecond",
    "missBurst",
    "wedgedAfterMillis",
];
const METRICS_KEYS: [&str; 2] = ["listen", "perPod"];
const LOG_KEYS: [&str; 2] = ["format", "level"];

/// Every section and its keys, for the tests that each is documented and known to the chart. A list's path is that of its
/// elements.
#[cfg(test)]
pub(super) const SECTIONS: [(&str, &[&str]); 20] = [
    ("", &TOP_KEYS),
    ("fallback", &fallback::KEYS),
    ("host", &host::KEYS),
    ("cluster", &CLUSTER_KEYS),
    ("cluster.tls", &TLS_KEYS),
    ("cluster.ttl", &TTL_KEYS),
    ("kubernetes", &kubernetes::KEYS),
    ("zones", &ZONE_KEYS),
    ("zones.tls", &TLS_KEYS),
    ("zones.ttl", &TTL_KEYS),
    ("hosts", &local::HOST_KEYS),
    ("blocked", &local::BLOCKED_KEYS),
    ("access", &local::ACCESS_KEYS),
    ("ttl", &TTL_KEYS),
    ("cache", &cache::KEYS),
    ("cache.prefetch", &cache::PREFETCH_KEYS),
    ("cache.serveStale", &cache::STALE_KEYS),
    ("queries", &QUERIES_KEYS),
    ("metrics", &METRICS_KEYS),
    ("log", &LOG_KEYS),
];

/// Reads the file's root with the overrides laid over it. Where something is wrong a default
/// stands in, so that reading goes on: the result counts only if nothing was reported.
pub(super) fn config(root: Option<&Node>, overrides: &Overrides, report: &mut Report) -> Config {
    let top = Section::root(root, &TOP_KEYS, report);
    let kubernetes = kubernetes::read(&top, overrides.node_name(), report);
    let listen = listen(&top, overrides.listen(), kubernetes.as_ref(), report);
    let fallbacks = fallback::read(&top, &listen, report);
    let host = host::read(&top, &listen, kubernetes.as_ref(), &fallbacks, report);
    let interfaces = interfaces(&top, overrides.interfaces(), report);
    let mut taken = Vec::new();
    let is_discovered = kubernetes.is_some();
    let own = own(&listen, host.enabled);
    let cluster = cluster(&top, overrides, &own, is_discovered, &mut taken, report);
    let zones = zones(&top, &own, &mut taken, report);
    let flag = Some(overrides.resolv_conf());
    let resolv_conf = Setting::scalar(&top, "resolvConf", flag, path::file, report);
    let flag = Some(overrides.attach());
    let attach = Setting::scalar(&top, "attach", flag, choice::attach, report);
    let choice = choice::after_hand_over;
    let after_hand_over = Setting::scalar(&top, "afterHandOver", None, choice, report);
    let (state_dir, bpffs) = directories(&top, overrides, report);
    let cache = cache::read(&top, report);
    let exclude = Setting::list(&top, "exclude", None, value::kubernetes::pods, report);
    let cni_results = Setting::scalar(&top, "cniResults", None, path::file, report);
    Config {
        listen,
        fallbacks,
        host,
        interfaces,
        exclude: exclude.values().unwrap_or_default(),
        cni_results: cni_results
            .valid()
            .unwrap_or_else(|| defaults::CNI_RESULTS.into()),
        cluster,
        kubernetes,
        zones,
        hosts: local::hosts(&top, report),
        blocked: local::blocked(&top, report),
        access: local::access(&top, report),
        resolv_conf: resolv_conf
            .valid()
            .unwrap_or_else(|| defaults::RESOLV_CONF.into()),
        default_transport: plain_transport(&top, report),
        default_ttl: ttl(&top, defaults::TTL, report),
        cache: cache.limits,
        prefetch: cache.prefetch,
        serve_stale: cache.serve_stale,
        queries: queries(&top, report),
        attach: attach.valid().unwrap_or(AttachMode::Auto),
        after_hand_over: after_hand_over.valid().unwrap_or(AfterHandOver::Exit),
        state_dir,
        bpffs,
        metrics: metrics(&top, overrides, report),
        log: log(&top, overrides, report),
    }
}

fn listen(
    top: &Section<'_>,
    flag: Flag<'_>,
    kubernetes: Option<&Kubernetes>,
    report: &mut Report,
) -> Vec<IpAddr> {
    let listen = Setting::list(top, "listen", Some(flag), address::listen, report);
    let is_discovered = kubernetes.is_some_and(|kubernetes| kubernetes.intercept_service);
    if listen.is_missing() && !is_discovered {
        let advice =
            "give the addresses that pods send their queries to, as in [10.96.0.10, 169.254.20.10]";
        missing(top, "listen", Some(flag), advice, report);
    }
    listen.values().unwrap_or_default()
}

fn interfaces(top: &Section<'_>, flag: Flag<'_>, report: &mut Report) -> Vec<InterfacePattern> {
    let found = Setting::list(top, "interfaces", Some(flag), interface::pattern, report);
    if let Setting::Valid(patterns) = &found
        && patterns.value.iter().all(|pattern| pattern.value.exclude)
    {
        let message = "only exclusions, so no interface is left; give a pattern without ! as well";
        patterns.blame(message, report);
    }
    found.values().unwrap_or_else(|| {
        let pattern = |glob: &str| InterfacePattern {
            exclude: false,
            glob: glob.to_owned(),
        };
        defaults::INTERFACES.map(pattern).into()
    })
}

fn cluster(
    top: &Section<'_>,
    overrides: &Overrides,
    own: &[IpAddr],
    is_discovered: bool,
    taken: &mut Vec<Taken>,
    report: &mut Report,
) -> Cluster {
    let section = top.section("cluster", &CLUSTER_KEYS, report);
    let flag = Some(overrides.cluster_domain());
    let domain = Setting::scalar(&section, "domain", flag, name::domain, report)
        .or_default(defaults::CLUSTER_DOMAIN.to_owned());
    if let Some(name) = domain.clone() {
        taken.push(Taken {
            name,
            by: "the cluster's domain",
        });
    }
    let reverse_zones = reverse_zones(&section, taken, report);
    let transport = transport(&section, report);
    let flag = overrides.cluster_upstreams();
    let upstreams = upstreams(&section, Some(flag), &transport, own, report);
    if upstreams.is_missing() && !is_discovered {
        let advice =
            "give the addresses of the cluster's DNS servers, as in [10.244.0.2, 10.244.0.3]";
        missing(&section, "upstreams", Some(flag), advice, report);
    }
    Cluster {
        domain: domain.unwrap_or_default(),
        reverse_zones,
        upstreams: upstreams.values().unwrap_or_default(),
        transport,
        ttl: ttl(&section, defaults::CLUSTER_TTL, report),
        nxdomain_cut: Setting::scalar(&section, "nxdomainCut", None, choice::switch, report)
            .valid()
            .unwrap_or(true),
    }
}

fn reverse_zones(
    cluster: &Section<'_>,
    taken: &mut Vec<Taken>,
    report: &mut Report,
) -> Vec<String> {
    let given = cluster
        .has("reverseZones")
        .then(|| cluster.list("reverseZones", report));
    if given.flatten().is_some_and(|given| given.value.is_empty()) {
        // Here, no value is one, too: each of the usual zones may have servers of its own.
        return Vec::new();
    }
    let found = Setting::list(cluster, "reverseZones", None, name::zone, report);
    let zones = match found {
        // Whatever was meant, it was not the default: nothing to compare zones with.
        Setting::Wrong => return Vec::new(),
        Setting::Missing => defaults::REVERSE_ZONES.map(str::to_owned).into(),
        Setting::Valid(zones) => {
            for zone in &zones.value {
                refuse_taken(zone, taken, report);
            }
            zones
                .value
                .into_iter()
                .map(|zone| zone.value)
                .collect::<Vec<_>>()
        }
    };
    taken.extend(zones.iter().map(|zone| Taken {
        name: zone.clone(),
        by: "one of cluster.reverseZones",
    }));
    zones
}

fn zones(
    top: &Section<'_>,
    own: &[IpAddr],
    taken: &mut Vec<Taken>,
    report: &mut Report,
) -> Vec<Zone> {
    let sections = top.sections("zones", &ZONE_KEYS, report);
    sections
        .iter()
        .map(|section| zone(section, own, taken, report))
        .collect()
}

fn zone(
    section: &Section<'_>,
    own: &[IpAddr],
    taken: &mut Vec<Taken>,
    report: &mut Report,
) -> Zone {
    let name = Setting::scalar(section, "zone", None, name::zone, report);
    match &name {
        Setting::Missing => {
            missing(
                section,
                "zone",
                None,
                "give the zone's name, as in corp.example",
                report,
            );
        }
        Setting::Wrong => {}
        Setting::Valid(name) => {
            refuse_taken(name, taken, report);
            taken.push(Taken {
                name: name.value.clone(),
                by: "given as a zone",
            });
        }
    }
    let transport = transport(section, report);
    let upstreams = upstreams(section, None, &transport, own, report);
    if upstreams.is_missing() {
        let advice = "give the addresses of the zone's DNS servers, as in [192.0.2.53]";
        missing(section, "upstreams", None, advice, report);
    }
    Zone {
        zone: name.valid().unwrap_or_default(),
        upstreams: upstreams.values().unwrap_or_default(),
        transport,
        ttl: ttl(section, defaults::TTL, report),
    }
}

/// The servers; none twice, whatever is said of its place.
fn upstreams(
    section: &Section<'_>,
    flag: Option<Flag<'_>>,
    transport: &Transport,
    own: &[IpAddr],
    report: &mut Report,
) -> Setting<Vec<Placed<Upstream>>> {
    let rule = match transport {
        Transport::Tls(_) => address::tls_upstream,
        Transport::Tcp | Transport::Udp => address::upstream,
    };
    let found = Setting::list(section, "upstreams", flag, rule, report);
    if let Setting::Valid(list) = &found {
        for (n, server) in list.value.iter().enumerate() {
            let address = server.value.address;
            if list.value[..n]
                .iter()
                .any(|other| other.value.address == address)
            {
                let message = format!("{address} is in the list already; remove it");
                server.blame(message, report);
            }
            if own.contains(&address.ip()) {
                let what = match is_link_local(address.ip()) {
                    true => "a link-local address that this cache answers at",
                    false => {
                        "answered by this cache for all of the node's processes (host.enabled)"
                    }
                };
                let message = format!(
                    "{address} is {what}, so it would ask itself; give the servers' own addresses"
                );
                server.blame(message, report);
            }
        }
    }
    found
}

/// The addresses at which the agent would reach itself. A ClusterIP is none: its own queries take kube-proxy's way to the
/// servers behind it, unless the node's processes are served there. Behind a link-local address there is nobody else.
fn own(listen: &[IpAddr], for_host: bool) -> Vec<IpAddr> {
    let own = |address: &IpAddr| for_host || is_link_local(*address);
    listen.iter().copied().filter(own).collect()
}

fn transport(section: &Section<'_>, report: &mut Report) -> Transport {
    let found = Setting::scalar(section, "transport", None, choice::transport, report);
    let tls = tls(section, report);
    match found {
        Setting::Valid(name) if name.value == TransportName::Tls => Transport::Tls(tls),
        Setting::Valid(name) if name.value == TransportName::Udp => Transport::Udp,
        found => {
            if section.has("tls")
                && !matches!(found, Setting::Wrong)
                && let Some(at) = section.at()
            {
                let message = "given without transport: tls, so nothing is encrypted; add that, or remove tls";
                report.add_at(at, &section.path_of("tls"), message);
            }
            Transport::Tcp
        }
    }
}

fn plain_transport(top: &Section<'_>, report: &mut Report) -> Transport {
    let found = Setting::scalar(top, "transport", None, choice::plain_transport, report);
    match found.valid() {
        Some(TransportName::Udp) => Transport::Udp,
        _ => Transport::Tcp,
    }
}

fn tls(section: &Section<'_>, report: &mut Report) -> Tls {
    let section = section.section("tls", &TLS_KEYS, report);
    Tls {
        server_name: Setting::scalar(&section, "serverName", None, name::server, report).valid(),
        ca_file: Setting::scalar(&section, "caFile", None, path::file, report)
            .valid()
            .unwrap_or_else(|| defaults::CA_FILE.into()),
    }
}

/// A zone's name that is spoken for.
struct Taken {
    name: String,
    by: &'static str,
}

fn refuse_taken(zone: &Placed<String>, taken: &[Taken], report: &mut Report) {
    if let Some(other) = taken.iter().find(|other| other.name == zone.value) {
        let name = quoted(&zone.value);
        zone.blame(
            format!("{name} is {} already; give each zone once", other.by),
            report,
        );
    }
}

fn ttl(section: &Section<'_>, default: TtlCaps, report: &mut Report) -> TtlCaps {
    let section = section.section("ttl", &TTL_KEYS, report);
    let mut cap = |key, default| {
        Setting::scalar(&section, key, None, number::seconds, report)
            .valid()
            .unwrap_or(default)
    };
    let (positive, negative) = (
        cap("positive", default.positive),
        cap("negative", default.negative),
    );
    let minimum = Setting::scalar(&section, "minimum", None, number::seconds, report);
    if let Setting::Valid(minimum) = &minimum
        && minimum.value > positive
    {
        let message = format!("more than positive, which is {positive}; give at most that");
        minimum.blame(message, report);
    }
    TtlCaps {
        positive,
        negative,
        minimum: minimum.valid().unwrap_or(default.minimum),
    }
}

fn queries(top: &Section<'_>, report: &mut Report) -> Queries {
    let section = top.section("queries", &QUERIES_KEYS, report);
    let mut limit = |key, default| {
        Setting::scalar(&section, key, None, number::queries, report)
            .valid()
            .unwrap_or(default)
    };
    let default = defaults::QUERIES;
    Queries {
        in_flight: limit("inFlight", default.in_flight),
        in_flight_per_client: limit("inFlightPerClient", default.in_flight_per_client),
        misses_per_second: Setting::scalar(&section, "missesPerSecond", None, number::rate, report)
            .valid()
            .unwrap_or(default.misses_per_second),
        miss_burst: Setting::scalar(&section, "missBurst", None, number::burst, report)
            .valid()
            .unwrap_or(default.miss_burst),
        wedged_after_millis: Setting::scalar(
            &section,
            "wedgedAfterMillis",
            None,
            number::wedged_millis,
            report,
        )
        .valid()
        .unwrap_or(default.wedged_after_millis),
    }
}

fn metrics(top: &Section<'_>, overrides: &Overrides, report: &mut Report) -> Metrics {
    let section = top.section("metrics", &METRICS_KEYS, report);
    let flag = Some(overrides.metrics_listen());
    let listen = Setting::scalar(&section, "listen", flag, address::endpoint, report);
    Metrics {
        listen: listen.valid().unwrap_or(Some(defaults::METRICS_LISTEN)),
        per_pod: Setting::scalar(&section, "perPod", None, choice::switch, report)
            .valid()
            .unwrap_or(false),
    }
}

fn log(top: &Section<'_>, overrides: &Overrides, report: &mut Report) -> Log {
    let section = top.section("log", &LOG_KEYS, report);
    let flag = Some(overrides.log_format());
    let format = Setting::scalar(&section, "format", flag, choice::log_format, report);
    let flag = Some(overrides.log_level());
    let level = Setting::scalar(&section, "level", flag, filter::log_level, report);
    Log {
        format: format.valid().unwrap_or(LogFormat::Text),
        level: level
            .valid()
            .unwrap_or_else(|| defaults::LOG_LEVEL.to_owned()),
    }
}

/// The state directory and the one for pins.
fn directories(
    top: &Section<'_>,
    overrides: &Overrides,
    report: &mut Report,
) -> (PathBuf, PathBuf) {
    let flag = Some(overrides.state_dir());
    let state_dir = Setting::scalar(top, "stateDir", flag, path::state_dir, report)
        .valid()
        .unwrap_or_else(|| defaults::STATE_DIR.into());
    let flag = Some(overrides.bpffs());
    let bpffs = Setting::scalar(top, "bpffs", flag, path::directory, report);
    if let Setting::Valid(bpffs) = &bpffs
        && bpffs.value == state_dir
    {
        let message = format!(
            "{state_dir:?} is stateDir as well; give a directory of its own on a BPF file system"
        );
        bpffs.blame(message, report);
    }
    (
        state_dir,
        bpffs.valid().unwrap_or_else(|| defaults::BPFFS.into()),
    )
}

/// A required setting that neither file nor flag gives.
fn missing(
    section: &Section<'_>,
    key: &str,
    flag: Option<Flag<'_>>,
    advice: &str,
    report: &mut Report,
) {
    match (section.at(), flag) {
        (Some(at), Some(flag)) => {
            let message = format!("missing; {advice}, here or by {}", flag.name);
            report.add_at(at, &section.path_of(key), message);
        }
        (Some(at), None) => {
            report.add_at(at, &section.path_of(key), format!("missing; {advice}"));
        }
        (None, Some(flag)) => {
            let message = format!("missing; {advice}, or name a file by --config");
            report.add(flag.place(), message);
        }
        // A setting without a flag stands in a list, and a list in a file.
        (None, None) => {}
    }
}
