//! `dns-cache status`

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use super::ask::Ask;
use super::table::Table;
use super::units::{bytes, duration};
use super::upstreams::upstreams;
use crate::control::{AttachedInterface, HostStatus, KubernetesStatus, Status};
use crate::resolver::Loop;

/// Show what the agent on this node does: interfaces, cache, servers, counters
///
/// Asks the running agent by its control socket; needs root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache status
  dns-cache status --output json | jq .resolver.counters
  dns-cache status --state-dir /run/other")]
pub(super) struct StatusCommand {
    #[command(flatten)]
    agent: Ask,
}

impl StatusCommand {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let status = self.agent.status()?;
        self.agent.print(&status, text)
    }
}

fn text(status: &Status) -> String {
    let tables = [
        glance(status),
        interfaces(status),
        upstreams(&status.resolver.upstreams),
        counters("RESOLVER COUNTER", &status.resolver.counters),
        counters("KERNEL COUNTER", &status.datapath.counters),
    ];
    let tables: Vec<_> = tables
        .into_iter()
        .filter(|table| !table.is_empty())
        .collect();
    tables.join("\n")
}

fn glance(status: &Status) -> String {
    let datapath = &status.datapath;
    let listen: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
    let attached = match datapath.mechanism {
        Some(mechanism) => format!("{mechanism}, {} interfaces", datapath.interfaces.len()),
        None => "nothing".to_owned(),
    };
    let mut table = Table::new(&["dns-cache", &status.version]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
    row(
        "running",
        format!(
            "pid {}, for {}",
            status.pid,
            duration(status.uptime_seconds)
        ),
    );
    row(
        "configuration",
        format!(
            "{}, read {} ago",
            path(status.config_path.as_deref(), "flags only"),
            duration(status.reload.loaded_seconds_ago)
        ),
    );
    for line in status.reload.error.iter().flat_map(|error| error.lines()) {
        row("refused", line.to_owned());
    }
    if !status.reload.needs_restart.is_empty() {
        row("needs restart", status.reload.needs_restart.join(", "));
    }
    for found in &status.resolver.loops {
        let Loop { zone, client } = found;
        row(
            "loop",
            format!("{client} asks this cache for the zone {zone}, and is asked for it"),
        );
    }
    if let Some(error) = &status.resolver.resolv_conf_error {
        row("no servers", error.clone());
    }
    row("state", path(Some(&status.state_dir), ""));
    row(
        "listening",
        match listen.is_empty() {
            true => "nowhere yet".to_owned(),
            false => listen.join(", "),
        },
    );
    if let Some(kubernetes) = &status.kubernetes {
        row("cluster DNS", cluster_dns(kubernetes));
        row("API server", api_server(kubernetes));
    }
    row("attached", attached);
    row("host processes", host(&datapath.host));
    row("kernel", datapath.kernel.clone());
    for lack in &datapath.lacks {
        row("kernel lacks", lack.to_string());
    }
    row(
        "namespace",
        path(datapath.resolver_netns.as_deref(), "none"),
    );
    row(
        "cache",
        format!(
            "{} of {} entries, {} of {} (with the kernel cache's)",
            status.resolver.cache_entries,
            status.resolver.cache_max_entries,
            bytes(status.resolver.cache_bytes),
            bytes(status.resolver.cache_max_bytes)
        ),
    );
    row(
        "kernel cache",
        datapath.cache.map_or_else(
            || "off".to_owned(),
            |cache| {
                format!(
                    "{} of {} entries, {} of {}, {} evicted",
                    cache.entries,
                    cache.max_entries,
                    bytes(cache.bytes),
                    bytes(cache.capacity),
                    cache.evicted
                )
            },
        ),
    );
    row(
        "maps",
        datapath
            .map_bytes
            .map_or_else(|| "of unknown size".to_owned(), bytes),
    );
    table.render()
}

fn host(HostStatus { routes, sockets }: &HostStatus) -> String {
    let routes: Vec<_> = routes.iter().map(ToString::to_string).collect();
    match (routes.is_empty(), sockets) {
        (true, _) => "take the ordinary path".to_owned(),
        (false, false) => format!("served at {}", routes.join(", ")),
        (false, true) => format!(
            "served at {}, and by their cgroup at all others",
            routes.join(", ")
        ),
    }
}

fn cluster_dns(kubernetes: &KubernetesStatus) -> String {
    let addresses: Vec<_> = kubernetes
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let addresses = match addresses.is_empty() {
        true => "of unknown address".to_owned(),
        false => format!("at {}", addresses.join(", ")),
    };
    let intercepted = match kubernetes.intercepts_endpoints {
        true => ", intercepted as well",
        false => "",
    };
    format!(
        "{} {addresses}, {} endpoints{intercepted}",
        kubernetes.service, kubernetes.endpoints
    )
}

fn api_server(kubernetes: &KubernetesStatus) -> String {
    let since = duration(kubernetes.api_since_seconds);
    match &kubernetes.api_error {
        None => format!("heard for {since}"),
        Some(error) => format!("not heard for {since}: {error}"),
    }
}

fn interfaces(status: &Status) -> String {
    let mut table = Table::new(&[
        "INTERFACE",
        ">IFINDEX",
        "ATTACHED",
        ">KERNEL HITS",
        ">MISSES",
        ">BYPASSES",
    ]);
    for interface in &status.datapath.interfaces {
        table.row(vec![
            interface.name.clone(),
            interface.ifindex.to_string(),
            attached(interface),
            interface.hits.to_string(),
            interface.misses.to_string(),
            interface.bypasses.to_string(),
        ]);
    }
    table.render()
}

fn attached(
    AttachedInterface {
        mechanism, behind, ..
    }: &AttachedInterface,
) -> String {
    match behind {
        Some(program) => format!("{mechanism}, behind program {program}"),
        None => mechanism.to_string(),
    }
}

fn counters(header: &str, counters: &BTreeMap<String, u64>) -> String {
    let mut table = Table::new(&[header, ">VALUE"]);
    for (name, value) in counters {
        table.row(vec![name.clone(), value.to_string()]);
    }
    table.render()
}

fn path(path: Option<&Path>, none: &str) -> String {
    path.map_or_else(|| none.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::{
        AttachedInterface, DatapathStatus, HostStatus, KubernetesStatus, Lack, Mechanism,
        ReloadStatus, ResolverStatus, UpstreamStatus,
    };
    use crate::kernel_cache;

    pub(in crate::cli) fn status() -> Status {
        let counter = |name: &str, value| (name.to_owned(), value);
        Status {
            version: "1.2.3".to_owned(),
            pid: 42,
            uptime_seconds: 3_725,
            config_path: Some("/etc/dns-cache.yaml".into()),
            reload: ReloadStatus {
                loaded_seconds_ago: 65,
                succeeded: 1,
                ..ReloadStatus::default()
            },
            state_dir: "/run/dns-cache".into(),
            listen: vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()],
            kubernetes: None,
            datapath: DatapathStatus {
                mechanism: Some(Mechanism::Tcx),
                kernel: "6.18.0".to_owned(),
                lacks: vec![Lack {
                    what: "that".to_owned(),
                    since: "6.19".to_owned(),
                    instead: "this".to_owned(),
                }],
                interfaces: vec![
                    AttachedInterface {
                        name: "veth0".to_owned(),
                        ifindex: 7,
                        mechanism: Mechanism::Tcx,
                        behind: None,
                        hits: 0,
                        misses: 0,
                        bypasses: 0,
                    },
                    AttachedInterface {
                        name: "veth0123456789a".to_owned(),
                        ifindex: 123,
                        mechanism: Mechanism::Clsact,
                        behind: Some(99),
                        hits: 0,
                        misses: 0,
                        bypasses: 0,
                    },
                ],
                host: HostStatus {
                    routes: vec!["169.254.20.10".parse().unwrap()],
                    sockets: true,
                },
                cache: Some(kernel_cache::Usage {
                    entries: 10,
                    max_entries: 10_000,
                    bytes: 2_048,
                    capacity: 4_096,
                    evicted: 3,
                }),
                map_bytes: Some(7 << 20),
                counters: [counter("steered_udp", 5)].into(),
                resolver_netns: Some("/proc/7/task/8/ns/net".into()),
            },
            resolver: ResolverStatus {
                cache_entries: 12,
                cache_bytes: 3_500,
                cache_max_entries: 10_000,
                cache_max_bytes: 64 << 20,
                counters: [counter("hits", 1_000), counter("misses", 12)].into(),
                upstreams: vec![UpstreamStatus {
                    zone: "cluster.local".to_owned(),
                    address: "[fd00::2]:53".parse().unwrap(),
                    distance: 0,
                    weight: 1,
                    connections: 1,
                    in_flight: 0,
                    queries: 12,
                    hedges: 0,
                    retries: 0,
                    failures: 0,
                    failures_by_kind: BTreeMap::new(),
                    unmatched: 0,
                    ejections: 0,
                    suspect: false,
                    ejected_seconds: None,
                    rtt_micros: Some(1_234),
                    rtt_p95_micros: Some(2_345),
                }],
                loops: vec![Loop {
                    zone: ".".to_owned(),
                    client: "10.244.0.9".parse().unwrap(),
                }],
                resolv_conf_error: Some("/etc/resolv.conf: a loop: no".to_owned()),
            },
        }
    }

    #[test]
    fn everything_at_a_glance() {
        let expected = "\
dns-cache       1.2.3
running         pid 42, for 1h 2m
configuration   /etc/dns-cache.yaml, read 1m 5s ago
loop            10.244.0.9 asks this cache for the zone ., and is asked for it
no servers      /etc/resolv.conf: a loop: no
state           /run/dns-cache
listening       10.96.0.10, fd00::a
attached        tcx, 2 interfaces
host processes  served at 169.254.20.10, and by their cgroup at all others
kernel          6.18.0
kernel lacks    that (Linux 6.19): this instead
namespace       /proc/7/task/8/ns/net
cache           12 of 10000 entries, 3.4 KiB of 64.0 MiB (with the kernel cache's)
kernel cache    10 of 10000 entries, 2.0 KiB of 4.0 KiB, 3 evicted
maps            7.0 MiB

INTERFACE        IFINDEX  ATTACHED                   KERNEL HITS  MISSES  BYPASSES
veth0                  7  tcx                                  0       0         0
veth0123456789a      123  clsact, behind program 99            0       0         0

ZONE           SERVER        STATE  DISTANCE  WEIGHT  CONNECTIONS  IN FLIGHT  QUERIES  HEDGES  FAILURES  ROUND TRIP      P95
cluster.local  [fd00::2]:53  well          0       1            1          0       12       0         0     1.23 ms  2.34 ms

RESOLVER COUNTER  VALUE
hits               1000
misses               12

KERNEL COUNTER  VALUE
steered_udp         5
";
        assert_eq!(text(&status()), expected);
    }

    #[test]
    fn a_refused_configuration_is_shown() {
        let mut status = status();
        status.reload.error = Some("f:1:1: one\nf:2:1: two".to_owned());
        status.reload.needs_restart = vec!["cache".to_owned(), "log".to_owned()];
        let text = text(&status);
        assert!(
            text.contains("\nrefused         f:1:1: one\nrefused         f:2:1: two\n"),
            "{text}"
        );
        assert!(text.contains("\nneeds restart   cache, log\n"), "{text}");
    }

    #[test]
    fn the_cluster_is_shown() {
        let mut status = status();
        let mut kubernetes = KubernetesStatus {
            service: "kube-system/kube-dns".to_owned(),
            addresses: vec!["10.96.0.10".parse().unwrap()],
            endpoints: 2,
            intercepts_endpoints: false,
            api_error: None,
            api_errors: 0,
            api_since_seconds: 65,
        };
        status.kubernetes = Some(kubernetes.clone());
        let shown = text(&status);
        assert!(
            shown.contains(
                "cluster DNS     kube-system/kube-dns at 10.96.0.10, 2 endpoints\n\
                 API server      heard for 1m 5s\n"
            ),
            "{shown}"
        );
        kubernetes.api_error = Some("gone".to_owned());
        kubernetes.intercepts_endpoints = true;
        kubernetes.addresses.clear();
        status.kubernetes = Some(kubernetes);
        let shown = text(&status);
        assert!(
            shown.contains("of unknown address, 2 endpoints, intercepted as well\n")
                && shown.contains("not heard for 1m 5s: gone\n"),
            "{shown}"
        );
    }

    #[test]
    fn tables_without_rows_are_left_out() {
        let mut status = status();
        status.datapath = DatapathStatus::default();
        status.resolver = ResolverStatus::default();
        status.config_path = None;
        let text = text(&status);
        assert!(text.contains("attached        nothing\n"), "{text}");
        assert!(text.contains("configuration   flags only, read "), "{text}");
        assert!(
            !text.contains("SERVER") && !text.contains("COUNTER"),
            "{text}"
        );
    }
}
