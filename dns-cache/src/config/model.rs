//! The checked form of the configuration: what the rest of the agent reads.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Network;

pub(super) const DNS_PORT: u16 = 53;
/// RFC 7858 §3.1.
pub(super) const DOT_PORT: u16 = 853;

/// A configuration without mistakes; made by [`crate::config::parse`] and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses that pods send their queries to (ClusterIP, link-local, v4 and v6); empty only if Kubernetes is to
    /// say.
    pub listen: Vec<IpAddr>,
    /// Who is asked in the place of an address that has no ordinary path, while the agent is away.
    pub fallbacks: Vec<Fallback>,
    /// The node's own processes.
    pub host: HostProcesses,
    /// Which of the node's interfaces lead to pods.
    pub interfaces: Vec<InterfacePattern>,
    /// Pods that are left alone, whatever their interfaces are called.
    pub exclude: Vec<Excluded>,
    /// Where the container runtime keeps its CNI plugins' results, which tell the pods' names.
    pub cni_results: PathBuf,
    /// The cluster's own zones and servers.
    pub cluster: Cluster,
    /// Where the cluster says what its DNS servers are; `None`: the configuration alone does.
    pub kubernetes: Option<Kubernetes>,
    /// Stub domains; the longest matching zone wins, the cluster's zones among them.
    pub zones: Vec<Zone>,
    /// Names with addresses of their own, whatever the servers say.
    pub hosts: Vec<Host>,
    /// Zones that are not answered.
    pub blocked: Vec<Blocked>,
    /// Networks whose addresses may ask; empty: every pod on this node, and the node.
    pub access: Vec<Network>,
    /// Where the servers for everything else stand.
    pub resolv_conf: PathBuf,
    /// How they are asked.
    pub default_transport: Transport,
    /// Caps on the time that answers for everything else are kept.
    pub default_ttl: TtlCaps,
    /// Bounds of the cache.
    pub cache: CacheLimits,
    /// When answers in use are refreshed.
    pub prefetch: Prefetch,
    /// Answers after their time, where there are no others.
    pub serve_stale: ServeStale,
    /// Bounds of the queries that wait for upstreams.
    pub queries: Queries,
    /// How the programs are attached.
    pub attach: AttachMode,
    /// What the agent does when another one has taken over.
    pub after_hand_over: AfterHandOver,
    /// Runtime state: the control socket and locks; one directory an instance.
    pub state_dir: PathBuf,
    /// A directory on a BPF file system for pinned maps and links; one directory an instance.
    pub bpffs: PathBuf,
    /// The metrics endpoint.
    pub metrics: Metrics,
    /// Log output.
    pub log: Log,
}

impl Config {
    /// The addresses to answer at, each with its fallback: what is said, and for a link-local address the first of its
    /// family that is neither link-local nor has a fallback itself.
    #[must_use]
    pub fn destinations(&self) -> Vec<Destination> {
        let said = |ip| self.fallbacks.iter().find(|said| said.address == ip);
        let has_path = |ip: &IpAddr| !is_link_local(*ip) && said(*ip).is_none();
        let destination = |&address: &IpAddr| Destination {
            address,
            fallback: match said(address) {
                Some(fallback) => Some(fallback.to),
                None if is_link_local(address) => {
                    let mut others = self.listen.iter().copied().filter(has_path);
                    others.find(|other| other.is_ipv4() == address.is_ipv4())
                }
                None => None,
            },
        };
        self.listen.iter().map(destination).collect()
    }

    /// The addresses that nobody else answers at, but where they are diverted.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let own = self.destinations().into_iter().filter(Destination::is_own);
        own.map(|to| to.address).collect()
    }

    /// The addresses at which nobody answers while the agent is away, but for what the kernel has.
    #[must_use]
    pub fn without_fallback(&self) -> Vec<IpAddr> {
        let destinations = self.destinations().into_iter();
        let lost = destinations.filter(|to| to.fallback.is_none() && is_link_local(to.address));
        lost.map(|to| to.address).collect()
    }

    /// A number that is another when cached answers would be. It may differ between versions of dns-cache.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let what = (
            &self.cluster,
            &self.zones,
            &self.hosts,
            &self.blocked,
            &self.resolv_conf,
            &self.default_transport,
            &self.default_ttl,
        );
        // Their text says all that is in them, and will do so for what is added.
        format!("{what:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// This configuration with all of `new` that can be changed while the agent runs, and the keys of what cannot
    /// and differs.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> (Self, Vec<&'static str>) {
        let new = new.clone();
        let kept = [
            ("host", self.host != new.host),
            ("kubernetes", self.kubernetes != new.kubernetes),
            ("cache", self.cache != new.cache),
            ("prefetch", self.prefetch != new.prefetch),
            ("serveStale", self.serve_stale != new.serve_stale),
            (
                "queries.wedgedAfterMillis",
                self.queries.wedged_after_millis != new.queries.wedged_after_millis,
            ),
            ("attach", self.attach != new.attach),
            ("afterHandOver", self.after_hand_over != new.after_hand_over),
            ("stateDir", self.state_dir != new.state_dir),
            ("bpffs", self.bpffs != new.bpffs),
            ("metrics.listen", self.metrics.listen != new.metrics.listen),
            ("log", self.log != new.log),
        ];
        let kept = kept.into_iter().filter(|(_, differs)| *differs);
        let reloaded = Self {
            listen: new.listen,
            fallbacks: new.fallbacks,
            interfaces: new.interfaces,
            exclude: new.exclude,
            cni_results: new.cni_results,
            cluster: new.cluster,
            zones: new.zones,
            hosts: new.hosts,
            blocked: new.blocked,
            access: new.access,
            resolv_conf: new.resolv_conf,
            default_ttl: new.default_ttl,
            default_transport: new.default_transport,
            queries: Queries {
                wedged_after_millis: self.queries.wedged_after_millis,
                ..new.queries
            },
            metrics: Metrics {
                listen: self.metrics.listen,
                ..new.metrics
            },
            ..self.clone()
        };
        (reloaded, kept.map(|(key, _)| key).collect())
    }
}

/// An address to answer at, and who is asked in its place while the agent is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Where pods send their queries to.
    pub address: IpAddr,
    /// An address of the same family that the ordinary path knows; `None`: that path knows the address itself.
    pub fallback: Option<IpAddr>,
}

impl Destination {
    /// Whether nobody else answers at this address.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.fallback.is_some() || is_link_local(self.address)
    }
}

/// The node's own processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProcesses {
    /// Whether they are served at all intercepted addresses, not only at those to which they have a route.
    pub enabled: bool,
    /// A directory of a cgroup2 file system that they are in.
    pub cgroup: PathBuf,
}

/// Who is asked in the place of an address that has no ordinary path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// That address.
    pub address: IpAddr,
    /// One of the same family that has one: the ClusterIP.
    pub to: IpAddr,
}

/// The cluster's own zones and the servers that know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster domain, lower case, without the trailing dot (`cluster.local`).
    pub domain: String,
    /// Zones of reverse names that go to the cluster's servers (`in-addr.arpa`, `ip6.arpa`), and others; `.` is the root.
    pub reverse_zones: Vec<String>,
    /// The cluster's servers; empty only if Kubernetes is to say.
    pub upstreams: Vec<Upstream>,
    /// How they are asked.
    pub transport: Transport,
    /// Caps on the time that its answers are kept.
    pub ttl: TtlCaps,
    /// Whether "no such name" for a namespace or a service answers for all names below it (RFC 8020).
    pub nxdomain_cut: bool,
}

/// The Service whose endpoints are the cluster's DNS servers, and how the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The Service's name.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// The Node's name; without it, no server is nearer than another.
    pub node_name: Option<String>,
    /// Whether the Service's own addresses are intercepted.
    pub intercept_service: bool,
    /// Whether its endpoints' addresses are.
    pub intercept_endpoints: InterceptEndpoints,
    /// Whether an agent that ends leaves nothing on the node if the API server refuses by then what it has allowed before.
    pub detach_when_refused: bool,
    /// The API server's URL; without it, as the kubelet tells a pod (`KUBERNETES_SERVICE_HOST`).
    pub api_server: Option<ApiServer>,
    /// The PEM file of the authorities that vouch for it.
    pub ca_file: PathBuf,
    /// The file with the service account's token.
    pub token_file: PathBuf,
}

/// When the addresses of the Service's endpoints are intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterceptEndpoints {
    /// If the node rewrites the Service's addresses at the socket, so that pods' packets carry the endpoints'.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// Where an API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// By TLS, or in the clear to this machine.
    pub tls: bool,
    /// A name or an address; without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A zone with servers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name, lower case, without the trailing dot; `.` is the root.
    pub zone: String,
    /// Its servers; never empty.
    pub upstreams: Vec<Upstream>,
    /// How they are asked.
    pub transport: Transport,
    /// Caps on the time that its answers are kept.
    pub ttl: TtlCaps,
}

/// A server of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// How far it is; the nearest servers that answer are asked. The same node 0, the same zone 1, any other 2, say.
    pub distance: u32,
    /// Its share of the queries among the servers of the same distance, from 1 on.
    pub weight: u32,
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            distance: 0,
            weight: 1,
        }
    }
}

/// Whether an address is each link's own, so that there is nobody behind it but this agent.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What is wrong with an address that has no ordinary path and no fallback.
pub(crate) fn no_fallback(address: IpAddr) -> String {
    format!(
        "{address} is answered by nobody while the agent is away; add the DNS service's ClusterIP of its family to listen, or give it under fallback"
    )
}

/// How servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP connections that are kept.
    Tcp,
    /// By UDP, from a random port each; what is truncated, by TCP.
    Udp,
    /// Over TLS connections that are kept (DoT, RFC 7858).
    Tls(Tls),
}

impl Transport {
    /// The servers' port unless something else is said.
    #[must_use]
    pub fn default_port(&self) -> u16 {
        match self {
            Self::Tcp | Self::Udp => DNS_PORT,
            Self::Tls(_) => DOT_PORT,
        }
    }
}

/// Whom a TLS connection must lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The name in the servers' certificate; without it, each one's address must be there.
    pub server_name: Option<String>,
    /// The certificates of trusted authorities, a PEM file; the default one need not exist.
    pub ca_file: PathBuf,
}

/// A name with addresses of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name, lower case, without the trailing dot.
    pub name: String,
    /// Its addresses; never empty. Their reverse names lead back to it.
    pub addresses: Vec<IpAddr>,
}

/// A zone that is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The zone's name, lower case, without the trailing dot.
    pub zone: String,
    /// What is said instead.
    pub answer: BlockedAnswer,
}

/// What is said of names in a blocked zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedAnswer {
    /// That they do not exist.
    NxDomain,
    /// That they are not answered.
    Refused,
}

/// Bounds of TTLs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlCaps {
    /// For answers with data.
    pub positive: u32,
    /// For NXDOMAIN and NODATA (RFC 2308).
    pub negative: u32,
    /// Shorter TTLs are raised to this, up to the caps; answers with TTL 0 are not kept all the same.
    pub minimum: u32,
}

/// Bounds of the cache; whichever is reached first holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Entries.
    pub max_entries: u64,
    /// Bytes of stored answers and keys, the kernel's and the agent's together.
    pub max_bytes: u64,
    /// Whether answers are given in the kernel.
    pub kernel: bool,
}

/// When an answer in use is refreshed before it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// The last part of its TTL, in percent, in which a hit refreshes it; 0: none does.
    pub percent: u32,
    /// The least length of that part in seconds, but never more than a fifth of the TTL.
    pub min_seconds: u32,
    /// Hits since it was stored, this one included, below which it is left to expire.
    pub min_hits: u32,
}

/// Answers whose TTL is over, for when the upstreams of their zone fail (RFC 8767).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeStale {
    /// Whether they are given at all.
    pub enabled: bool,
    /// Milliseconds that the upstreams have before a stale answer is given instead of theirs.
    pub after_millis: u32,
    /// Seconds after its TTL for which an answer may be given.
    pub max_seconds: u32,
    /// The TTL that it shows then.
    pub ttl: u32,
}

/// Bounds of the queries that wait for upstreams; beyond them queries get a stale answer or REFUSED at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queries {
    /// In all.
    pub in_flight: usize,
    /// From one address.
    pub in_flight_per_client: usize,
    /// Queries a second that one address may ask beyond what is cached; 0: as many as it likes.
    pub misses_per_second: u32,
    /// How many of them may come at once.
    pub miss_burst: u32,
    /// Milliseconds without progress of what reads them, after which they take the ordinary path.
    pub wedged_after_millis: u32,
}

/// What an agent does when another one has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterHandOver {
    /// It ends.
    Exit,
    /// It ends when the other one has: for a supervisor that starts it again at once, and would make it take over in
    /// turn.
    StandBy,
}

/// How the programs are attached to interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX where the kernel has it (6.6), clsact elsewhere.
    Auto,
    /// TCX only.
    Tcx,
    /// A clsact filter only.
    Clsact,
}

/// The metrics endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where it listens, in the node's network namespace; `None` if it is off.
    pub listen: Option<SocketAddr>,
    /// Whether there is a sample for each pod's interface.
    pub per_pod: bool,
}

/// Log output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// One line of text or one JSON object an event.
    pub format: LogFormat,
    /// A `tracing` filter (`info`, `dns_cache=debug,info`).
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object a line.
    Json,
}

/// A shell-like pattern for interface names: `*` stands for any run of characters, a leading `!` excludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern {
    /// Whether a match takes the interface out.
    pub exclude: bool,
    /// The pattern without its `!`.
    pub glob: String,
}

/// Pods that are left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excluded {
    /// A namespace's, or one of them.
    Named(ExcludedPods),
    /// Whoever has an address in a network.
    At(Network),
}

/// A namespace's pods, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludedPods {
    /// The namespace.
    pub namespace: String,
    /// The pod's name; `None` for all of them.
    pub name: Option<String>,
}

impl InterfacePattern {
    /// In the place of a glob: whatever looks as if it leads to a pod.
    pub const AUTO: &str = "auto";

    /// Whether the interface of this name is meant: some pattern includes it and none excludes it. `looks_like_pod` is for
    /// [`AUTO`](Self::AUTO).
    pub fn any_matches(patterns: &[Self], name: &str, looks_like_pod: bool) -> bool {
        let hit = |exclude| {
            let mut of_kind = patterns.iter().filter(|pattern| pattern.exclude == exclude);
            of_kind.any(|pattern| match &*pattern.glob {
                Self::AUTO => looks_like_pod,
                _ => pattern.matches(name),
            })
        };
        hit(false) && !hit(true)
    }

    /// Whether the glob alone matches.
    fn matches(&self, name: &str) -> bool {
        let mut parts = self.glob.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut last = None;
        for part in parts {
            if let Some(middle) = last.replace(part) {
                match rest.find(middle) {
                    Some(at) => rest = &rest[at + middle.len()..],
                    None => return false,
                }
            }
        }
        last.map_or(rest.is_empty(), |last| rest.ends_with(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(globs: &[&str]) -> Vec<InterfacePattern> {
        globs
            .iter()
            .map(|glob| InterfacePattern {
                exclude: glob.starts_with('!'),
                glob: glob.trim_start_matches('!').to_owned(),
            })
            .collect()
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        for (glob, name, matches) in [
            ("veth*", "veth12ab", true),
            ("veth*", "veth", true),
            ("veth*", "xveth", false),
            ("*", "eth0", true),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*0", "eth0", true),
        ] {
            assert_eq!(
                InterfacePattern::any_matches(&patterns(&[glob]), name, false),
                matches,
                "{glob} on {name}"
            );
        }
    }

    #[test]
    fn an_exclusion_wins_whatever_the_order() {
        for globs in [["!veth0", "veth*"], ["veth*", "!veth0"]] {
            assert!(!InterfacePattern::any_matches(
                &patterns(&globs),
                "veth0",
                true
            ));
            assert!(InterfacePattern::any_matches(
                &patterns(&globs),
                "veth1",
                true
            ));
        }
    }

    #[test]
    fn whatever_looks_like_a_pod() {
        let given = patterns(&["auto", "cali*", "!veth0"]);
        let matches = |name, looks| InterfacePattern::any_matches(&given, name, looks);
        assert!(matches("x0", true) && matches("cali1", false));
        assert!(!matches("x0", false) && !matches("veth0", true) && !matches("auto", false));
    }
}
