//! `dns-cache check-config`

use std::iter;
use std::path::PathBuf;

use clap::Args;

use super::print;
use super::table::Table;
use crate::config::{self, Config, Destination, Kubernetes, Overrides, Transport, no_fallback};
use crate::resolver::resolv_conf_warnings;

/// Check a configuration file and report every mistake in it
///
/// The file is read as `run` would read it with the same flags and variables; nothing on the node
/// is touched. Exits with 0 if there is no mistake, with 1 if there is.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  dns-cache check-config config.yaml && kubectl create configmap dns-cache --from-file=config.yaml")]
pub(super) struct CheckConfig {
    /// The configuration file (YAML)
    file: PathBuf,

    #[command(flatten)]
    overrides: Overrides,
}

impl CheckConfig {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let config = config::load(Some(&self.file), &self.overrides)?;
        print(&format!(
            "{}: ok: listens on {}, for {}\n{}{}{}",
            self.file.display(),
            listen(&config),
            match &config.access[..] {
                [] => "every pod on this node".to_owned(),
                networks => joined(networks),
            },
            fallbacks(&config),
            servers(&config),
            resolv_conf(&config)
        ))?;
        Ok(())
    }
}

fn listen(config: &Config) -> String {
    let given = joined(&config.listen);
    match &config.kubernetes {
        Some(kubernetes) if kubernetes.intercept_service => {
            let and = if given.is_empty() { "" } else { " and " };
            format!("{given}{and}the addresses of {}", service(kubernetes))
        }
        _ => given,
    }
}

/// What becomes of the addresses that have no ordinary path while the agent is away.
fn fallbacks(config: &Config) -> String {
    let mut text = String::new();
    for Destination { address, fallback } in config.destinations() {
        if let Some(to) = fallback {
            text += &format!("while the agent is away, {to} is asked in the place of {address}\n");
        }
    }
    if config.host.enabled {
        let own = joined(&config.own_addresses());
        let cgroup = config.host.cgroup.display();
        text += &format!(
            "the node's own processes in {cgroup} ask {own} in the place of the other addresses\n"
        );
    }
    for address in config.without_fallback() {
        text += &match &config.kubernetes {
            Some(kubernetes) => format!(
                "while the agent is away, {} is asked in the place of {address}, if it has an address of that family\n",
                service(kubernetes)
            ),
            None => format!("warning: {}\n", no_fallback(address)),
        };
    }
    text
}

fn service(kubernetes: &Kubernetes) -> String {
    format!("Service {}/{}", kubernetes.namespace, kubernetes.service)
}

/// Whom each zone's queries go to, and how.
fn servers(config: &Config) -> String {
    let mut table = Table::new(&["ZONE", "SERVER", "TRANSPORT", ">DISTANCE", ">WEIGHT"]);
    let cluster = &config.cluster;
    let zones = config.zones.iter();
    let zones = zones.map(|zone| (&zone.zone, &zone.transport, &zone.upstreams));
    for (zone, transport, upstreams) in
        iter::once((&cluster.domain, &cluster.transport, &cluster.upstreams)).chain(zones)
    {
        for upstream in upstreams {
            table.row(vec![
                zone.clone(),
                upstream.address.to_string(),
                transport_text(transport),
                upstream.distance.to_string(),
                upstream.weight.to_string(),
            ]);
        }
    }
    if let Some(kubernetes) = &config.kubernetes {
        let found = match cluster.upstreams.is_empty() {
            true => format!("the endpoints of {}", service(kubernetes)),
            // The servers above are asked until then.
            false => format!("the endpoints of {}, once known", service(kubernetes)),
        };
        let transport = transport_text(&cluster.transport);
        let place = match kubernetes.node_name {
            Some(_) => "by place",
            None => "-",
        };
        table.row(vec![
            cluster.domain.clone(),
            found,
            transport,
            place.to_owned(),
            "1".to_owned(),
        ]);
    }
    if asks_resolv_conf(config) {
        table.row(vec![
            ".".to_owned(),
            config.resolv_conf.display().to_string(),
            transport_text(&config.default_transport),
            "-".to_owned(),
            "-".to_owned(),
        ]);
    }
    table.render()
}

/// What this machine's resolv.conf would make of it, if that is the node's.
fn resolv_conf(config: &Config) -> String {
    if !asks_resolv_conf(config) {
        return String::new();
    }
    let warnings = resolv_conf_warnings(&config.resolv_conf, &config.listen);
    let lines = warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    lines.collect()
}

/// Whether no zone is everything.
fn asks_resolv_conf(config: &Config) -> bool {
    let others = config.zones.iter().map(|zone| &zone.zone);
    let mut zones = others.chain(&config.cluster.reverse_zones);
    zones.all(|zone| zone != ".")
}

fn transport_text(transport: &Transport) -> String {
    match transport {
        Transport::Tcp => "tcp".to_owned(),
        Transport::Udp => "udp".to_owned(),
        Transport::Tls(tls) => match &tls.server_name {
            Some(name) => format!("tls to {name}"),
            None => "tls".to_owned(),
        },
    }
}

fn joined(items: &[impl ToString]) -> String {
    let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
