//! What holds where neither file nor flag says otherwise.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{CacheLimits, Prefetch, Queries, ServeStale, TtlCaps};

/// The host sides of pods' interfaces as the usual network plugins name them, and what looks like one under any name.
pub(super) const INTERFACES: [&str; 7] = [
    "veth*",
    "cali*",
    "lxc*",
    "eni*",
    "azv*",
    "gke*",
    super::InterfacePattern::AUTO,
];
pub(super) const CLUSTER_DOMAIN: &str = "cluster.local";
pub(super) const REVERSE_ZONES: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];
/// NodeLocalDNS's caps: a negative answer for a service that is about to come must not last.
pub(super) const CLUSTER_TTL: TtlCaps = TtlCaps {
    positive: 30,
    negative: 5,
    minimum: 0,
};
pub(super) const TTL: TtlCaps = TtlCaps {
    positive: 30,
    negative: 30,
    minimum: 0,
};
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
pub(super) const CACHE: CacheLimits = CacheLimits {
    max_entries: 10_000,
    max_bytes: 64 * 1024 * 1024,
    kernel: true,
};
pub(super) const PREFETCH: Prefetch = Prefetch {
    percent: 10,
    min_seconds: 1,
    min_hits: 1,
};
/// Below the first retry of the usual clients, which comes after 2 s or more.
pub(super) const SERVE_STALE: ServeStale = ServeStale {
    enabled: true,
    after_millis: 1_800,
    max_seconds: 3_600,
    ttl: 5,
};
pub(super) const QUERIES: Queries = Queries {
    in_flight: 4_096,
    in_flight_per_client: 1_024,
    misses_per_second: 0,
    miss_burst: 200,
    wedged_after_millis: 500,
};
/// Where systemd and container runtimes have the unified hierarchy.
pub(super) const CGROUP: &str = "/sys/fs/cgroup";
pub(super) const STATE_DIR: &str = "/run/dns-cache";
pub(super) const BPFFS: &str = "/sys/fs/bpf/dns-cache";
/// NodeLocalDNS's port: what scrapes it goes on to find it.
pub(super) const METRICS_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9253);
/// Where libcni keeps them unless told otherwise, for containerd and CRI-O alike.
pub(super) const CNI_RESULTS: &str = "/var/lib/cni/results";
pub(super) const LOG_LEVEL: &str = "info";

/// The trusted authorities' certificates, where Debian and Alpine have them. Where it does not exist, the public ones that
/// are compiled in are trusted.
pub(crate) const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What kubeadm and most others call the cluster's DNS, whatever software it is.
pub(super) const SERVICE: &str = "kube-dns";
pub(super) const SERVICE_NAMESPACE: &str = "kube-system";
/// Where the kubelet mounts a service account.
pub(super) const API_CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
pub(super) const API_TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
