//! What the metrics endpoint says of the agent.

use dns_cache_common::hits::{Code, Hit, TYPES};
use dns_cache_common::question::Transport;
use dns_cache_common::types::rcode;

use super::Agent;
use crate::cni;
use crate::config::Config;
use crate::datapath::{Attached, Datapath};
use crate::metrics::names::Metric;
use crate::metrics::{Exposition, Source, names, process};
use crate::presentation::{rcode_text, rtype_text};
use crate::resolver::{self, Resolver, UpstreamStatus, ZoneStatus};
use crate::serve::tally::{Manner, Totals};
use crate::upstream::{Carried, RCODES};

/// CoreDNS has these for each of its server blocks. Here is one, for all zones.
const SERVER: [(&str, &str); 3] = [("server", "dns://:53"), ("zone", "."), ("view", "")];
/// The same for its cache.
const CACHE: [(&str, &str); 3] = [("server", "dns://:53"), ("zones", "."), ("view", "")];
const NANOSECONDS: f64 = 1e-9;
const BYTES: f64 = 1.0;

/// What the kernel programs counted, by the beginnings of the counters' names.
#[derive(Debug, Default)]
struct Kernel {
    interfaces: Vec<Attached>,
    failed_interfaces: u64,
    counters: Vec<(&'static str, u64)>,
    hits: Vec<(Hit, u64)>,
}

impl Kernel {
    /// The counters whose names begin so, with the rest of the name.
    fn of(&self, prefix: &str) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters
            .iter()
            .filter_map(move |(name, count)| Some((name.strip_prefix(prefix)?, *count)))
    }

    fn sum(&self, prefix: &str) -> u64 {
        self.of(prefix).map(|(_, count)| count).sum()
    }

    /// The queries that they answered, of some kind.
    fn answered(&self, is_meant: impl Fn(Hit) -> bool) -> u64 {
        let meant = self.hits.iter().filter(|(hit, _)| is_meant(*hit));
        meant.map(|(_, count)| count).sum()
    }
}

const HITS: &str = "cache_hits_";
const CUTS: &str = "cache_cuts";
const MISSES: &str = "cache_misses_";
const BYPASSES: &str = "cache_bypasses_";
const ORDINARY: &str = "ordinary_";

impl Source for Agent {
    fn scrape(&self, out: &mut Exposition) {
        let resolver = self.resolver.status();
        let kernel = self.datapath.status().map_or_else(
            |_| Kernel::default(),
            |status| Kernel {
                interfaces: status.interfaces,
                failed_interfaces: status.failed_interfaces,
                counters: status.counters,
                hits: status.hits,
            },
        );
        let config = self.config();
        let totals = self.tally.totals();
        queries(out, &totals, &kernel);
        out.single(&names::PANICS, 0);
        cache(out, &resolver, &kernel);
        proxies(out, &self.resolver);
        self.errors(out, &kernel);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.metric(&names::BUILD_INFO).sample(&version, 1);
        out.single(&names::READY, u8::from(self.not_ready().is_empty()));
        paths(out, &totals, &kernel);
        fetches(out, &resolver, &kernel, self.resolver.loops().len());
        events(out, &resolver, &kernel);
        out.single(&names::INTERFACES, kernel.interfaces.len());
        let behind = kernel.interfaces.iter().filter(|i| i.behind.is_some());
        out.single(&names::INTERFACES_BEHIND, behind.count());
        pods(out, &kernel, &config, &self.datapath);
        out.single(&names::CACHE_BYTES, resolver.cache.bytes);
        out.single(&names::CACHE_MAX_ENTRIES, config.cache.max_entries);
        out.single(&names::CACHE_MAX_BYTES, config.cache.max_bytes);
        zones(out, &resolver.zones);
        upstreams(out, &resolver.upstreams);
        self.cluster(out);
        process(out, self.started);
    }

    fn not_ready(&self) -> Vec<String> {
        // That the sockets are open is certain: without them there is no agent.
        let mut reasons = Vec::new();
        if self.is_ending() {
            reasons.push("the agent is about to end".to_owned());
        }
        match self.datapath.status() {
            Ok(status) if status.missing.is_empty() => {}
            Ok(status) => {
                let missing = status.missing.join(", ");
                reasons.push(format!("no program is attached to {missing}"));
            }
            Err(error) => reasons.push(format!("the programs cannot be asked: {error}")),
        }
        // Upstreams that fail later are no reason, nor are those that fail now: stale answers are for that.
        if !self.resolver.is_ready() {
            reasons.push("no upstream has answered yet".to_owned());
            reasons.extend(self.resolver.resolv_conf_error());
        }
        reasons
    }
}

impl Agent {
    fn cluster(&self, out: &mut Exposition) {
        if let Some(cluster) = self.discovery.status() {
            let is_up = u8::from(cluster.api_error.is_none());
            out.single(&names::KUBERNETES_UP, is_up);
            out.single(&names::KUBERNETES_ERRORS, cluster.api_errors);
            out.single(&names::KUBERNETES_ENDPOINTS, cluster.endpoints);
        }
    }

    fn errors(&self, out: &mut Exposition, kernel: &Kernel) {
        let reloads = self.reloads().status();
        out.metric(&names::SETUP_ERRORS)
            .sample(&[("errortype", "interface_add")], kernel.failed_interfaces)
            .sample(&[("errortype", "configmap")], reloads.failed);
        out.single(&names::RELOAD_FAILED, reloads.failed);
        out.single(&names::RELOADS, reloads.succeeded);
        out.single(&names::RELOAD_SUCCESSFUL, u8::from(reloads.error.is_none()));
    }
}

fn queries(out: &mut Exposition, totals: &Totals, kernel: &Kernel) {
    let mut requests = out.metric(&names::DNS_REQUESTS);
    // Forwarded or not is no label of theirs.
    let (cached, forwarded) = Manner::ALL.split_at(Manner::ALL.len() / 2);
    for (n, manner) in cached.iter().enumerate() {
        let also = n + forwarded.len();
        for (kind, rtype) in TYPES.iter().map(Some).chain([None]).enumerate() {
            let in_kernel = kernel.answered(|hit| {
                manner.transport == Transport::Udp
                    && manner.is_ipv6 == hit.is_ipv6
                    && kind == hit.kind
            });
            let count = totals.requests[n][kind] + totals.requests[also][kind] + in_kernel;
            let name = rtype.map_or_else(|| "other".to_owned(), |rtype| rtype_text(*rtype));
            let labels = [
                ("proto", proto(manner.transport)),
                ("family", if manner.is_ipv6 { "2" } else { "1" }),
                ("type", name.as_str()),
            ];
            // A or AAAA are there from the start, the others once they are asked for.
            if count > 0 || kind < 2 {
                requests.sample(&with(SERVER, labels), count);
            }
        }
    }
    let with_code = |code| kernel.answered(|hit| hit.outcome.code == code);
    let mut responses = out.metric(&names::DNS_RESPONSES);
    for forwarded in [false, true] {
        for code in 0..totals.responses[0].len() {
            let manners = Manner::ALL.iter().zip(&totals.responses);
            let count: u64 = manners
                .filter(|(manner, _)| manner.forwarded == forwarded)
                .map(|(_, counts)| counts[code])
                .sum();
            let code = code as u16;
            let in_kernel = match (forwarded, code) {
                (false, rcode::NOERROR) => with_code(Code::NoError),
                (false, rcode::NXDOMAIN) => with_code(Code::NxDomain),
                _ => 0,
            };
            let count = count + in_kernel;
            let plugin = match (forwarded, code) {
                (true, _) => "forward",
                (false, rcode::NOERROR | rcode::NXDOMAIN | rcode::SERVFAIL) => "cache",
                // Not a question to anybody.
                (false, _) => "",
            };
            if count > 0 || code == rcode::NOERROR {
                let labels = [("rcode", rcode_text(code)), ("plugin", plugin.to_owned())];
                let labels = labels.each_ref().map(|(name, text)| (*name, text.as_str()));
                responses.sample(&with(SERVER, labels), count);
            }
        }
    }
    let other = [("rcode", "other"), ("plugin", "cache")];
    responses.sample(&with(SERVER, other), with_code(Code::Other));
    out.metric(&names::DNS_DURATION)
        .histogram(&SERVER, &totals.duration, NANOSECONDS);
    for (metric, sizes) in [
        (&names::DNS_REQUEST_SIZE, &totals.query_size),
        (&names::DNS_RESPONSE_SIZE, &totals.reply_size),
    ] {
        let mut samples = out.metric(metric);
        for (transport, sizes) in [Transport::Udp, Transport::Tcp].into_iter().zip(sizes) {
            let labels = with(SERVER, [("proto", proto(transport))]);
            samples.histogram(&labels, sizes, BYTES);
        }
    }
    let with_do = totals.dnssec_ok + kernel.answered(|hit| hit.dnssec_ok);
    out.metric(&names::DNS_DO_REQUESTS).sample(&SERVER, with_do);
}

fn cache(out: &mut Exposition, resolver: &resolver::Status, kernel: &Kernel) {
    let usage = resolver.cache;
    let count = |name: &str| count(&resolver.counters, name);
    // A cut is a denial's entry that answers for another name. The kernel's misses come to userspace and count
    // there, one way or the other.
    let cuts = count("cuts");
    let hits = count("hits") + cuts + kernel.sum(HITS);
    let denied = kernel.answered(|hit| hit.outcome.is_denial);
    let denials = count("denial_hits") + cuts + denied;
    let misses = count("misses");
    let of_type = |kind| with(CACHE, [("type", kind)]);
    out.metric(&names::CACHE_ENTRIES)
        .sample(&of_type("success"), usage.entries - usage.denials)
        .sample(&of_type("denial"), usage.denials);
    out.metric(&names::CACHE_REQUESTS)
        .sample(&CACHE, hits + misses);
    out.metric(&names::CACHE_HITS)
        .sample(&of_type("success"), hits.saturating_sub(denials))
        .sample(&of_type("denial"), denials);
    out.metric(&names::CACHE_MISSES).sample(&CACHE, misses);
    out.metric(&names::CACHE_EVICTIONS)
        .sample(&of_type("success"), usage.evicted - usage.evicted_denials)
        .sample(&of_type("denial"), usage.evicted_denials);
    for (metric, counter) in [
        (&names::CACHE_PREFETCH, "prefetches"),
        (&names::CACHE_STALE, "stale"),
        (&names::CACHE_DROPS, "malformed_responses"),
    ] {
        out.metric(metric).sample(&CACHE, count(counter));
    }
    out.single(&names::OVERLOAD, count("overload"));
}

/// What CoreDNS has of its proxies: here, of each server, for all zones.
fn proxies(out: &mut Exposition, resolver: &Resolver) {
    out.single(&names::ALL_BROKEN, resolver.broken());
    let servers = resolver.exchanged();
    let mut durations = out.metric(&names::PROXY_DURATION);
    for server in &servers {
        let to = server.address.to_string();
        for (code, seen) in RCODES.iter().zip(&server.by_rcode) {
            // NOERROR is there from the start, the others once they came.
            if seen.count() > 0 || *code == Some(rcode::NOERROR) {
                let code = code.map_or_else(|| "other".to_owned(), rcode_text);
                let labels = [("proxy_name", "forward"), ("to", &to), ("rcode", &code)];
                durations.histogram(&labels, seen, NANOSECONDS);
            }
        }
    }
    type Count = fn(&Carried) -> u64;
    let counts: [(&Metric, Count); 2] = [
        (&names::PROXY_CONN_HITS, |carried| carried.reused),
        (&names::PROXY_CONN_MISSES, |carried| carried.opened),
    ];
    let mut failed = out.metric(&names::PROXY_CHECKS_FAILED);
    for server in &servers {
        let to = server.address.to_string();
        failed.sample(
            &[("proxy_name", "forward"), ("to", &to)],
            server.failed_probes,
        );
    }
    for (metric, count) in counts {
        let mut samples = out.metric(metric);
        for server in &servers {
            let to = server.address.to_string();
            for (proto, carried) in &server.carried {
                let labels = [("proxy_name", "forward"), ("to", &to), ("proto", proto)];
                samples.sample(&labels, count(carried));
            }
        }
    }
}

fn paths(out: &mut Exposition, totals: &Totals, kernel: &Kernel) {
    let userspace: u64 = totals.requests.iter().flatten().sum();
    out.metric(&names::QUERIES)
        .sample(&[("path", "kernel")], kernel.sum(HITS))
        .sample(&[("path", "userspace")], userspace)
        .sample(&[("path", "ordinary")], kernel.sum(ORDINARY));
}

fn fetches(out: &mut Exposition, resolver: &resolver::Status, kernel: &Kernel, loops: usize) {
    let limited = count(&resolver.counters, "rate_limited");
    out.single(&names::RATE_LIMITED, limited);
    out.single(
        &names::ACCESS_DENIED,
        count(&resolver.counters, "access_denied"),
    );
    out.single(&names::LOOPS, loops);
    out.single(&names::COALESCED, count(&resolver.counters, "coalesced"));
    out.metric(&names::CUTS)
        .sample(&[("path", "kernel")], kernel.sum(CUTS))
        .sample(&[("path", "userspace")], count(&resolver.counters, "cuts"));
}

fn events(out: &mut Exposition, resolver: &resolver::Status, kernel: &Kernel) {
    let mut samples = out.metric(&names::DATAPATH);
    let elsewhere = [HITS, CUTS, MISSES, BYPASSES];
    for (name, count) in kernel.of("") {
        if !elsewhere.iter().any(|prefix| name.starts_with(prefix)) {
            samples.sample(&[("event", name)], count);
        }
    }
    for (metric, prefix) in [
        (&names::KERNEL_MISSES, MISSES),
        (&names::KERNEL_BYPASSES, BYPASSES),
    ] {
        let mut samples = out.metric(metric);
        for (reason, count) in kernel.of(prefix) {
            samples.sample(&[("reason", reason)], count);
        }
    }
    let kernel_cache = resolver.kernel.unwrap_or_default();
    out.single(&names::KERNEL_EVICTIONS, kernel_cache.evicted);
    let mut samples = out.metric(&names::RESOLVER);
    for (name, count) in &resolver.counters {
        samples.sample(&[("event", *name)], count);
    }
}

fn pods(out: &mut Exposition, kernel: &Kernel, config: &Config, datapath: &Datapath) {
    let mut samples = out.metric(&names::POD_QUERIES);
    if !config.metrics.per_pod {
        return;
    }
    let named = cni::pods(&config.cni_results);
    let senders = datapath.senders().unwrap_or_default();
    for pod in &kernel.interfaces {
        let known = named.get(&pod.name);
        // An empty label is as none.
        let (namespace, name) = known.map_or(("", ""), |pod| (&pod.namespace, &pod.name));
        let address = match known {
            Some(_) => None,
            None => senders.get(&pod.name).map(ToString::to_string),
        };
        for (result, count) in [
            ("hit", pod.hits),
            ("miss", pod.misses),
            ("bypass", pod.bypasses),
        ] {
            let labels = [
                ("interface", &*pod.name),
                ("namespace", namespace),
                ("pod", name),
                ("address", address.as_deref().unwrap_or_default()),
                ("result", result),
            ];
            samples.sample(&labels, count);
        }
    }
}

fn zones(out: &mut Exposition, zones: &[ZoneStatus]) {
    type Value = fn(&ZoneStatus) -> u64;
    let columns: [(&Metric, Value); 4] = [
        (&names::ZONE_ENTRIES, |zone| zone.entries),
        (&names::ZONE_MISSES, |zone| zone.misses),
        (&names::ZONE_FAILURES, |zone| zone.failures),
        (&names::ZONE_STALE, |zone| zone.stale),
    ];
    for (metric, value) in columns {
        let mut samples = out.metric(metric);
        for zone in zones {
            samples.sample(&[("zone", &*zone.name)], value(zone));
        }
    }
}

fn upstreams(out: &mut Exposition, upstreams: &[UpstreamStatus]) {
    type Value = fn(&UpstreamStatus) -> Option<f64>;
    let columns: [(&Metric, Value); 9] = [
        (&names::UPSTREAM_QUERIES, |server| {
            Some(server.queries as f64)
        }),
        (&names::UPSTREAM_HEDGES, |server| Some(server.hedges as f64)),
        (&names::UPSTREAM_RETRIES, |server| {
            Some(server.retries as f64)
        }),
        (&names::UPSTREAM_EJECTIONS, |server| {
            Some(server.ejections as f64)
        }),
        (&names::UPSTREAM_UNMATCHED, |server| {
            Some(server.unmatched as f64)
        }),
        (&names::UPSTREAM_IN_FLIGHT, |server| {
            Some(server.in_flight as f64)
        }),
        (&names::UPSTREAM_CONNECTIONS, |server| {
            Some(server.connections as f64)
        }),
        (&names::UPSTREAM_RTT, |server| {
            Some(server.rtt_micros? as f64 / 1e6)
        }),
        (&names::UPSTREAM_UP, |server| {
            Some(f64::from(u8::from(!server.suspect)))
        }),
    ];
    for (metric, value) in columns {
        let mut samples = out.metric(metric);
        for server in upstreams {
            if let Some(value) = value(server) {
                let to = server.address.to_string();
                samples.sample(&[("zone", &server.zone), ("to", &to)], value);
            }
        }
    }
    let mut failures = out.metric(&names::UPSTREAM_FAILURES);
    for server in upstreams {
        let to = server.address.to_string();
        for (kind, count) in &server.failures_by_kind {
            let labels = [("zone", &*server.zone), ("to", &to), ("kind", kind)];
            failures.sample(&labels, count);
        }
    }
}

fn proto(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

fn count(counters: &[(&'static str, u64)], name: &str) -> u64 {
    let found = counters.iter().find(|(known, _)| *known == name);
    found.map_or(0, |(_, count)| *count)
}

type Label<'a> = (&'a str, &'a str);

fn with<'a, const N: usize>(common: [Label<'a>; 3], more: [Label<'a>; N]) -> Vec<Label<'a>> {
    [&common[..], &more].concat()
}
