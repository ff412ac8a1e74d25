//! What a cluster is made of: modes, and the addresses of everything in it.

use std::fmt;

/// The node's name, in the cluster and for its namespace and cgroups.
pub(super) const NODE: &str = "dns-cache-node";
/// The namespace beyond the node: a resolver that stands for the internet.
pub(super) const OUTSIDE: &str = "dns-cache-outside";

pub(super) const NODE_IP: Pair = Pair("192.168.77.2", "fd00:77::2");
pub(super) const OUTSIDE_IP: Pair = Pair("192.168.77.1", "fd00:77::1");
pub(super) const POD_CIDR: Pair = Pair("10.244.0.0/24", "fd00:10:244::/64");
pub(super) const SERVICE_CIDR: Pair = Pair("10.96.0.0/16", "fd00:10:96::/112");
/// The service of the API server: the first address of the services.
pub(super) const API_IP: &str = "10.96.0.1";
/// The service of the cluster's DNS.
pub(super) const DNS_IP: Pair = Pair("10.96.0.10", "fd00:10:96::a");
/// Where pods find the agent in link-local mode.
pub(super) const LINK_LOCAL_IP: &str = "169.254.20.10";

/// How kube-proxy does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Proxy {
    Iptables,
    Nftables,
}

/// How pods are wired to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cni {
    Ptp,
    Bridge,
}

/// Which addresses the node, pods and services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Family {
    Ipv4,
    Dual,
}

/// What can be chosen of a cluster.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Settings {
    /// kube-proxy's mode
    #[arg(long, value_name = "MODE", default_value = "nftables")]
    pub(super) proxy: Proxy,
    /// The CNI plugin that wires pods
    #[arg(long, value_name = "PLUGIN", default_value = "bridge")]
    pub(super) cni: Cni,
    /// IPv4, or IPv6 too
    #[arg(long, value_name = "FAMILY", default_value = "dual")]
    pub(super) family: Family,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, cni, family } = self;
        let text = format!("kube-proxy {proxy:?}, CNI {cni:?}, {family:?}");
        f.write_str(&text.to_lowercase().replace("cni", "CNI"))
    }
}

/// Something of IPv4 and its counterpart of IPv6.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair(pub(super) &'static str, pub(super) &'static str);

impl Pair {
    /// Those that clusters of this family have.
    pub(super) fn of(self, family: Family) -> impl Iterator<Item = &'static str> {
        let second = (family == Family::Dual).then_some(self.1);
        std::iter::once(self.0).chain(second)
    }

    /// The same, as the flags of Kubernetes want it.
    pub(super) fn list(self, family: Family) -> String {
        self.of(family).collect::<Vec<_>>().join(",")
    }
}
