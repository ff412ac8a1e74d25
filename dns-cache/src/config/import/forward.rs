//! `forward`: whom a zone's queries go to.

use super::super::defaults::{CA_FILE, RESOLV_CONF};
use super::super::value::address;
use super::convert::Notes;
use super::corefile::Directive;
use super::names::{CLUSTER_DNS, UPSTREAM_SERVERS};

/// Where a zone's queries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To the cluster's DNS, wherever it is.
    Cluster,
    /// To the servers of a file like `/etc/resolv.conf`.
    File(String),
    /// To these; each as in a configuration, with its distance.
    Servers(Vec<String>),
}

/// A zone's servers and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) target: Target,
    /// `tcp`, `udp` or `tls`.
    pub(super) transport: &'static str,
    pub(super) server_name: Option<String>,
    pub(super) ca_file: Option<String>,
}

/// What a `forward` says behind its zone; `None` if nothing of it can be asked.
pub(super) fn read(directive: &Directive, notes: &mut Notes) -> Option<Forward> {
    let mut forward = Forward {
        target: Target::Servers(Vec::new()),
        // CoreDNS asks as it was asked, which mostly is by UDP.
        transport: "udp",
        server_name: None,
        ca_file: None,
    };
    let mut sequential = false;
    for option in &directive.block {
        options(option, &mut forward, &mut sequential, notes);
    }
    let targets = directive.args.iter().skip(1);
    let is_tls = |to: &String| to.starts_with("tls://");
    let tls = targets.clone().any(is_tls);
    if tls {
        forward.transport = "tls";
        let trusted = match &forward.ca_file {
            Some(file) => format!(
                "servers are trusted by {file}, which the agent must be able to read there; else give tls.caFile"
            ),
            None => format!(
                "servers are trusted by {CA_FILE}, or without it by the public authorities that are compiled in; for others give tls.caFile"
            ),
        };
        notes.add(directive, trusted);
    }
    // A zone has servers, or a file with servers, or those of the cluster.
    let is_server = |to: &String| *to != UPSTREAM_SERVERS && !to.starts_with('/');
    let has_cluster = targets.clone().any(|to| to == CLUSTER_DNS);
    let has_servers = targets.clone().any(is_server);
    let mut servers = Vec::new();
    for to in targets {
        match &**to {
            CLUSTER_DNS => {
                forward.target = Target::Cluster;
                forward.transport = "tcp";
            }
            _ if has_cluster => {
                notes.add(
                    directive,
                    format!("{to} is left out: the cluster's DNS is asked"),
                );
            }
            _ if is_server(to) && tls && !is_tls(to) => {
                notes.add(
                    directive,
                    format!("{to} is asked without TLS and others with it; it is left out"),
                );
            }
            _ if is_server(to) => servers.extend(server(to, tls, directive, notes)),
            _ if has_servers => {
                notes.add(directive, format!("{to} is left out beside servers that are named; give those in it by address"));
            }
            UPSTREAM_SERVERS => forward.target = Target::File(RESOLV_CONF.to_owned()),
            file => forward.target = Target::File(file.to_owned()),
        }
    }
    if forward.target != Target::Servers(Vec::new()) {
        return Some(forward);
    }
    if servers.is_empty() {
        notes.add(
            directive,
            "none of its servers can be asked; its names go where others go",
        );
        return None;
    }
    if sequential {
        for (distance, server) in servers.iter_mut().enumerate().skip(1) {
            *server = format!("{server} distance={distance}");
        }
    }
    forward.target = Target::Servers(servers);
    Some(forward)
}

/// A server's address by the configuration's own rule.
fn server(to: &str, tls: bool, directive: &Directive, notes: &mut Notes) -> Option<String> {
    let plain = to
        .strip_prefix("dns://")
        .or_else(|| to.strip_prefix("tls://"));
    let mut text = plain.unwrap_or(to);
    // An address's zone (`fe80::1%eth0`) or a name for TLS (`1.1.1.1%name`).
    if let Some((address, zone)) = text.split_once('%') {
        notes.add(directive, format!("%{zone} of {to} is left out"));
        text = address;
    }
    let rule = if tls {
        address::tls_upstream
    } else {
        address::upstream
    };
    match rule(text) {
        Ok(upstream) => Some(upstream.address.to_string()),
        Err(error) => {
            notes.add(directive, error);
            None
        }
    }
}

fn options(option: &Directive, forward: &mut Forward, sequential: &mut bool, notes: &mut Notes) {
    let first = option.args.first().map(String::as_str);
    match (&*option.name, first) {
        ("force_tcp", _) => forward.transport = "tcp",
        ("prefer_udp", _) => forward.transport = "udp",
        ("policy", Some("sequential")) => *sequential = true,
        // What the others are meant for.
        ("policy", _) => notes.add(
            option,
            "the one with the fewest queries of two drawn at random is asked",
        ),
        ("tls_servername", Some(name)) => forward.server_name = Some(name.to_owned()),
        ("tls", _) => match &option.args[..] {
            [] => {}
            [ca] => forward.ca_file = Some(ca.clone()),
            [_, _, ca] => {
                forward.ca_file = Some(ca.clone());
                notes.add(
                    option,
                    "no certificate is shown to servers; the authorities' file is taken over",
                );
            }
            _ => notes.add(option, "no certificate is shown to servers"),
        },
        (
            "max_fails"
            | "expire"
            | "health_check"
            | "failfast_all_unhealthy_upstreams"
            | "failover",
            _,
        ) => {
            notes.add(option, "servers are judged by their answers: one that fails is left out and tried again beside others, another one is asked meanwhile");
        }
        ("max_concurrent", _) => {
            notes.add(
                option,
                "queries that wait for servers are bounded by queries.inFlight, 4096 for all zones",
            );
        }
        ("except", _) => {
            notes.add(
                option,
                "these names go to the same servers; give them zones of their own if they must not",
            );
        }
        ("next", _) => {
            notes.add(
                option,
                "an error is checked with another server of the zone, and then given",
            );
        }
        _ => notes.add(option, "unknown; ignored"),
    }
}
