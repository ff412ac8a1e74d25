//! Flags and environment variables that stand over the file.

use clap::Args;

use super::errors::Place;
use super::section::{Given, GivenList, Placed};

/// Settings from flags and `DNS_CACHE_*` variables; they are checked together with the file.
///
/// No variable may be called `DNS_CACHE_PORT…` or `DNS_CACHE_SERVICE…`: Kubernetes sets those for
/// pods next to a Service named `dns-cache`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings that override the file")]
pub struct Overrides {
    /// Addresses that pods send their queries to, separated by commas [file: listen]
    #[arg(
        long,
        env = "DNS_CACHE_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESSES"
    )]
    pub listen: Option<String>,

    /// Interfaces that lead to pods: patterns with `*`, a leading `!` excludes, separated by
    /// commas [file: interfaces] [default: veth*,cali*,lxc*,eni*,azv*,gke*,auto]
    #[arg(
        long,
        env = "DNS_CACHE_INTERFACES",
        hide_env_values = true,
        value_name = "PATTERNS"
    )]
    pub interfaces: Option<String>,

    /// The cluster's domain [file: cluster.domain] [default: cluster.local]
    #[arg(
        long,
        env = "DNS_CACHE_CLUSTER_DOMAIN",
        hide_env_values = true,
        value_name = "DOMAIN"
    )]
    pub cluster_domain: Option<String>,

    /// Addresses of the cluster's DNS servers (CoreDNS), separated by commas
    /// [file: cluster.upstreams] [default port: 53]
    #[arg(
        long,
        env = "DNS_CACHE_CLUSTER_UPSTREAMS",
        hide_env_values = true,
        value_name = "ADDRESSES"
    )]
    pub cluster_upstreams: Option<String>,

    /// The name of this Node, by which near DNS servers are found
    /// [file: kubernetes.nodeName]
    #[arg(
        long,
        env = "DNS_CACHE_NODE_NAME",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub node_name: Option<String>,

    /// The file that names the servers for everything outside the cluster
    /// [file: resolvConf] [default: /etc/resolv.conf]
    #[arg(
        long,
        env = "DNS_CACHE_RESOLV_CONF",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub resolv_conf: Option<String>,

    /// How programs are attached: auto, tcx (kernel 6.6 or later) or clsact
    /// [file: attach] [default: auto]
    #[arg(
        long,
        env = "DNS_CACHE_ATTACH",
        hide_env_values = true,
        value_name = "MODE"
    )]
    pub attach: Option<String>,

    /// Directory of the control socket and the resolver's namespace, one an agent
    /// [file: stateDir] [default: /run/dns-cache]
    #[arg(
        long,
        env = "DNS_CACHE_STATE_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub state_dir: Option<String>,

    /// Directory on a BPF file system for pinned maps and links, one an agent
    /// [file: bpffs] [default: /sys/fs/bpf/dns-cache]
    #[arg(
        long,
        env = "DNS_CACHE_BPFFS",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub bpffs: Option<String>,

    /// Where /metrics, /health and /ready are, IP:PORT or off
    /// [file: metrics.listen] [default: 0.0.0.0:9253]
    #[arg(
        long,
        env = "DNS_CACHE_METRICS_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    pub metrics_listen: Option<String>,

    /// Form of the log on standard error: text or json [file: log.format] [default: text]
    #[arg(
        long,
        env = "DNS_CACHE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<String>,

    /// What is logged: off, error, warn, info, debug, trace, or by module as in
    /// `info,dns_cache=debug` [file: log.level] [default: info]
    #[arg(
        long,
        env = "DNS_CACHE_LOG_LEVEL",
        hide_env_values = true,
        value_name = "FILTER"
    )]
    pub log_level: Option<String>,
}

/// A flag and what it was given, if anything.
#[derive(Clone, Copy)]
pub(super) struct Flag<'a> {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) text: Option<&'a str>,
}

impl Overrides {
    pub(super) fn listen(&self) -> Flag<'_> {
        Flag::new("--listen", "DNS_CACHE_LISTEN", &self.listen)
    }

    pub(super) fn interfaces(&self) -> Flag<'_> {
        Flag::new("--interfaces", "DNS_CACHE_INTERFACES", &self.interfaces)
    }

    pub(super) fn cluster_domain(&self) -> Flag<'_> {
        Flag::new(
            "--cluster-domain",
            "DNS_CACHE_CLUSTER_DOMAIN",
            &self.cluster_domain,
        )
    }

    pub(super) fn cluster_upstreams(&self) -> Flag<'_> {
        Flag::new(
            "--cluster-upstreams",
            "DNS_CACHE_CLUSTER_UPSTREAMS",
            &self.cluster_upstreams,
        )
    }

    pub(super) fn node_name(&self) -> Flag<'_> {
        Flag::new("--node-name", "DNS_CACHE_NODE_NAME", &self.node_name)
    }

    pub(super) fn resolv_conf(&self) -> Flag<'_> {
        Flag::new("--resolv-conf", "DNS_CACHE_RESOLV_CONF", &self.resolv_conf)
    }

    pub(super) fn attach(&self) -> Flag<'_> {
        Flag::new("--attach", "DNS_CACHE_ATTACH", &self.attach)
    }

    pub(super) fn state_dir(&self) -> Flag<'_> {
        Flag::new("--state-dir", "DNS_CACHE_STATE_DIR", &self.state_dir)
    }

    pub(super) fn bpffs(&self) -> Flag<'_> {
        Flag::new("--bpffs", "DNS_CACHE_BPFFS", &self.bpffs)
    }

    pub(super) fn metrics_listen(&self) -> Flag<'_> {
        Flag::new(
            "--metrics-listen",
            "DNS_CACHE_METRICS_LISTEN",
            &self.metrics_listen,
        )
    }

    pub(super) fn log_format(&self) -> Flag<'_> {
        Flag::new("--log-format", "DNS_CACHE_LOG_FORMAT", &self.log_format)
    }

    pub(super) fn log_level(&self) -> Flag<'_> {
        Flag::new("--log-level", "DNS_CACHE_LOG_LEVEL", &self.log_level)
    }
}

impl<'a> Flag<'a> {
    fn new(name: &'static str, variable: &'static str, text: &'a Option<String>) -> Self {
        Self {
            name,
            variable,
            text: text.as_deref(),
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::Flag {
            name: self.name,
            variable: self.variable,
        }
    }

    /// The flag's value as one scalar.
    pub(super) fn scalar(&self) -> Option<Given<'a>> {
        Some(self.placed(self.text?.trim()))
    }

    /// The flag's value as a list, separated by commas.
    pub(super) fn list(&self) -> Option<GivenList<'a>> {
        let text = self.text?.trim();
        let items = match text {
            "" => Vec::new(),
            text => text
                .split(',')
                .map(|item| self.placed(item.trim()))
                .collect(),
        };
        Some(self.placed(items))
    }

    fn placed<T>(&self, value: T) -> Placed<T> {
        Placed {
            place: self.place(),
            key: String::new(),
            value,
        }
    }
}
