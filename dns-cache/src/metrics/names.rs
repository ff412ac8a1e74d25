//! Every metric, once. Names and labels are CoreDNS's where the meaning is, so that its dashboards and alerts
//! go on working; what CoreDNS does not have is called `dns_cache_…`.

/// A metric's name and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Its meaning, in one line.
    pub help: &'static str,
}

/// What a metric's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value of now.
    Gauge,
    /// Counts by size.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal $help:literal,)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };
        )+

        /// All of them, in the order in which a scrape has them.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    DNS_REQUESTS: Counter "coredns_dns_requests_total"
        "Queries answered, in userspace or in the kernel, by transport, family (1: IPv4, 2: IPv6) and type.",
    DNS_RESPONSES: Counter "coredns_dns_responses_total"
        "Responses by code; plugin is cache for those from a cache, the kernel's too, and forward for those from upstreams.",
    DNS_DURATION: Histogram "coredns_dns_request_duration_seconds"
        "From a query's arrival in userspace to its reply.",
    DNS_REQUEST_SIZE: Histogram "coredns_dns_request_size_bytes"
        "Bytes of queries that userspace answered.",
    DNS_RESPONSE_SIZE: Histogram "coredns_dns_response_size_bytes"
        "Bytes of responses that userspace gave.",
    DNS_DO_REQUESTS: Counter "coredns_dns_do_requests_total"
        "Queries with the DO bit, answered in userspace or in the kernel.",
    PANICS: Counter "coredns_panics_total"
        "Panics that were survived: none, for each ends the agent.",
    CACHE_ENTRIES: Gauge "coredns_cache_entries"
        "Answers in the cache: success with data, denial without.",
    CACHE_REQUESTS: Counter "coredns_cache_requests_total"
        "Questions put to the cache, in userspace or in the kernel.",
    CACHE_HITS: Counter "coredns_cache_hits_total"
        "Questions answered from the cache, in userspace or in the kernel.",
    CACHE_MISSES: Counter "coredns_cache_misses_total"
        "Questions that the cache had no answer for.",
    CACHE_EVICTIONS: Counter "coredns_cache_evictions_total"
        "Answers that had to make room in userspace: success with data, denial without.",
    CACHE_PREFETCH: Counter "coredns_cache_prefetch_total"
        "Answers in use that were refreshed before they expired.",
    CACHE_STALE: Counter "coredns_cache_served_stale_total"
        "Queries answered with an expired answer because the upstreams failed (RFC 8767).",
    CACHE_DROPS: Counter "coredns_cache_drops_total"
        "Responses that were not kept because they were malformed.",
    OVERLOAD: Counter "coredns_forward_max_concurrent_rejects_total"
        "Queries refused because too many waited for upstreams.",
    ALL_BROKEN: Counter "coredns_forward_healthcheck_broken_total"
        "Queries to upstreams that met ejected servers only.",
    PROXY_DURATION: Histogram "coredns_proxy_request_duration_seconds"
        "From a query's way to a server to its answer, by the answer's code.",
    PROXY_CHECKS_FAILED: Counter "coredns_proxy_healthcheck_failures_total"
        "Probes of an ejected server that it did not pass.",
    PROXY_CONN_HITS: Counter "coredns_proxy_conn_cache_hits_total"
        "Queries to a server that went over a connection that was there.",
    PROXY_CONN_MISSES: Counter "coredns_proxy_conn_cache_misses_total"
        "Queries to a server that needed a new connection; over UDP each has a new socket.",
    SETUP_ERRORS: Counter "coredns_nodecache_setup_errors_total"
        "Errors of setting up the node, by type: interface_add (a pod's interface), configmap (a reload).",
    RELOAD_FAILED: Counter "coredns_reload_failed_total"
        "Configurations that were refused while the old one stayed.",
    RELOADS: Counter "dns_cache_config_reloads_total"
        "Configurations that were taken over since the start.",
    RELOAD_SUCCESSFUL: Gauge "dns_cache_config_last_reload_successful"
        "0 if the file's configuration was refused and an older one is in force.",
    BUILD_INFO: Gauge "dns_cache_build_info"
        "Always 1; the version.",
    READY: Gauge "dns_cache_ready"
        "1 if /ready says so.",
    QUERIES: Counter "dns_cache_queries_total"
        "Pods' queries by the path they took: kernel, userspace, ordinary (left to kube-proxy's rules; packets).",
    RATE_LIMITED: Counter "dns_cache_rate_limited_total"
        "Misses turned away because their client asked too often (queries.missesPerSecond).",
    ACCESS_DENIED: Counter "dns_cache_access_denied_total"
        "Queries refused because their source is not in access.allow.",
    LOOPS: Gauge "dns_cache_loops"
        "Resolvers that ask this cache what it asks them; their queries are refused.",
    COALESCED: Counter "dns_cache_coalesced_total"
        "Misses that joined a question already on its way to an upstream.",
    CUTS: Counter "dns_cache_nxdomain_cuts_total"
        "Queries answered from the NXDOMAIN of a name above (RFC 8020), by path: kernel, userspace.",
    DATAPATH: Counter "dns_cache_datapath_events_total"
        "What else the kernel programs counted.",
    KERNEL_MISSES: Counter "dns_cache_kernel_misses_total"
        "Queries that the kernel looked up and left to userspace, by reason.",
    KERNEL_BYPASSES: Counter "dns_cache_kernel_bypasses_total"
        "Queries that are none for the kernel's cache, by reason; userspace answered them.",
    KERNEL_EVICTIONS: Counter "dns_cache_kernel_evictions_total"
        "Answers that had to make room in the kernel; userspace may have them still.",
    RESOLVER: Counter "dns_cache_resolver_events_total"
        "What the resolver counted.",
    INTERFACES: Gauge "dns_cache_interfaces"
        "Pods' interfaces that carry the program.",
    INTERFACES_BEHIND: Gauge "dns_cache_interfaces_behind"
        "Those on which another's TCX program has the packets before this one.",
    POD_QUERIES: Counter "dns_cache_pod_queries_total"
        "UDP queries of each pod's interface by what the kernel did: hit, miss, bypass; with the pod's name where the node knows it, else with an address that has asked. Only with metrics.perPod.",
    CACHE_BYTES: Gauge "dns_cache_cache_bytes"
        "Memory that the cache's answers take.",
    CACHE_MAX_ENTRIES: Gauge "dns_cache_cache_max_entries"
        "The cache's configured bound.",
    CACHE_MAX_BYTES: Gauge "dns_cache_cache_max_bytes"
        "The cache's configured bound.",
    ZONE_ENTRIES: Gauge "dns_cache_zone_entries"
        "Answers in the cache by the zone that they belong to; as in all of these, a zone is one with servers of its own, by its name in the configuration.",
    ZONE_MISSES: Counter "dns_cache_zone_misses_total"
        "Queries that the zone's servers had to be asked for.",
    ZONE_FAILURES: Counter "dns_cache_zone_failures_total"
        "Misses of the zone that got an error because its servers had no answer for them.",
    ZONE_STALE: Counter "dns_cache_zone_served_stale_total"
        "Queries answered with an expired answer because the zone's servers failed (RFC 8767).",
    UPSTREAM_QUERIES: Counter "dns_cache_upstream_queries_total"
        "Queries sent to a server.",
    UPSTREAM_HEDGES: Counter "dns_cache_upstream_hedges_total"
        "Queries that were sent to a server because another one took longer than nearly always; one in 20 at most.",
    UPSTREAM_RETRIES: Counter "dns_cache_upstream_retries_total"
        "Queries that were sent to a server because another one had not answered in time (500 ms, or more if it is slow but not silent).",
    UPSTREAM_EJECTIONS: Counter "dns_cache_upstream_ejections_total"
        "How often a server was left out because it failed.",
    UPSTREAM_UNMATCHED: Counter "dns_cache_upstream_unmatched_total"
        "Messages of a server that answered none of its queries.",
    UPSTREAM_IN_FLIGHT: Gauge "dns_cache_upstream_in_flight"
        "Queries that wait for a server.",
    UPSTREAM_CONNECTIONS: Gauge "dns_cache_upstream_connections"
        "Open connections to a server.",
    UPSTREAM_RTT: Gauge "dns_cache_upstream_rtt_seconds"
        "What half of a server's last answers took at most; none before its first answer.",
    UPSTREAM_UP: Gauge "dns_cache_upstream_up"
        "0 if a server did not answer lately and is asked last.",
    UPSTREAM_FAILURES: Counter "dns_cache_upstream_failures_total"
        "Attempts at a server that ended without an answer, or without one in time, by kind: unreachable, busy, closed, timeout, mismatched, malformed, error (where another server had an answer), edns (it is asked without), tcp (it takes none, and is asked over UDP).",
    KUBERNETES_UP: Gauge "dns_cache_kubernetes_api_up"
        "0 while the API server is not heard; the last known servers are asked. Only with kubernetes.",
    KUBERNETES_ERRORS: Counter "dns_cache_kubernetes_api_errors_total"
        "How often the API server could not be asked, or did not answer as it should. Only with kubernetes.",
    KUBERNETES_ENDPOINTS: Gauge "dns_cache_kubernetes_endpoints"
        "Endpoints of the DNS Service that take queries. Only with kubernetes.",
    PROCESS_CPU: Counter "process_cpu_seconds_total"
        "CPU time of the agent, user and system.",
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes"
        "Resident memory of the agent.",
    PROCESS_FDS: Gauge "process_open_fds"
        "Open file descriptors of the agent.",
    PROCESS_MAX_FDS: Gauge "process_max_fds"
        "The most file descriptors that the agent may have open.",
    PROCESS_START: Gauge "process_start_time_seconds"
        "When the agent started, in seconds since 1970.",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_prometheus_names_and_unique() {
        for (n, metric) in ALL.iter().enumerate() {
            let Metric { name, kind, help } = metric;
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(
                help.ends_with('.') && !help.contains(['\\', '\n']),
                "{name}"
            );
            assert!(ALL[..n].iter().all(|other| other.name != *name), "{name}");
        }
    }
    /// What the chart's alerts and dashboard ask for is there.
    #[test]
    fn what_is_asked_for_exists() {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/dns-cache/files");
        let known = |word: &str| {
            ALL.iter().any(|metric| match metric.kind {
                Kind::Counter | Kind::Gauge => word == metric.name,
                Kind::Histogram => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| word.strip_suffix(suffix) == Some(metric.name)),
            })
        };
        for (file, least) in [("alerts.yaml", 5), ("dashboard.json", 15)] {
            let text = fs::read_to_string(files.join(file)).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let prefixes = ["dns_cache_", "coredns_", "process_"];
            let asked: BTreeSet<_> = words
                .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
                .collect();
            let unknown: Vec<_> = asked.iter().filter(|word| !known(word)).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?}");
            assert!(asked.len() >= least, "{file}: {asked:?}");
        }
    }

    /// Labels differ by zone; as long as one zone's servers answer, those of another may all be down.
    #[test]
    fn a_zone_without_servers_is_no_less_dead_for_the_others() {
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy/helm/dns-cache/files/alerts.yaml");
        let alerts = fs::read_to_string(alerts).unwrap();
        let down = format!("max by (instance, zone) ({}) == 0", UPSTREAM_UP.name);
        assert!(alerts.contains(&down), "{alerts}");
    }
}
