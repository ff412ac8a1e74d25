//! A configuration's text.

use std::fmt::Write as _;

use super::super::defaults;
use super::cache::Ttl;
use super::convert::{Imported, Zone};
use super::forward::{Forward, Target};
use super::names;

/// The settings at the top: their keys, and their lines.
pub(super) type Settings = Vec<(&'static str, String)>;

/// All that was imported. The endpoints of the cluster's DNS are found by the API server.
pub(super) fn settings(imported: &mut Imported) -> Settings {
    let mut settings: Settings = Vec::new();
    if !imported.listen.is_empty() {
        settings.push(("listen", format!("listen: {}\n", list(&imported.listen))));
    }
    settings.push(("kubernetes", "kubernetes: {}\n".to_owned()));
    if let Some(text) = cluster(imported) {
        settings.push(("cluster", text));
    }
    rest(imported, &mut settings);
    let zones: String = imported
        .zones
        .iter()
        .map(|(name, zone)| stub(name, zone))
        .collect();
    if !zones.is_empty() {
        settings.push(("zones", format!("zones:\n{zones}")));
    }
    let host = |(name, addresses): (&String, &Vec<_>)| {
        format!(
            "  - {{name: {}, addresses: {}}}\n",
            quoted(name),
            list(addresses)
        )
    };
    let hosts: String = imported.hosts.iter().map(host).collect();
    if !hosts.is_empty() {
        settings.push(("hosts", format!("hosts:\n{hosts}")));
    }
    let blocked = |zone: &String| format!("  - {{zone: {}, answer: nxdomain}}\n", quoted(zone));
    let blocked: String = imported.blocked.iter().map(blocked).collect();
    if !blocked.is_empty() {
        settings.push(("blocked", format!("blocked:\n{blocked}")));
    }
    if let Some(text) = cache(imported) {
        settings.push(("cache", text));
    }
    settings
}

/// The cluster's zones, which are taken out of the others.
fn cluster(imported: &mut Imported) -> Option<String> {
    let domain = imported.domain().map(str::to_owned);
    let zone = domain
        .as_ref()
        .and_then(|domain| imported.zones.remove(domain));
    let target = zone.as_ref().map(|zone| zone.forward.target.clone());
    let mut others = Vec::new();
    imported.zones.retain(|name, zone| {
        let is_cluster =
            zone.forward.target == Target::Cluster || Some(&zone.forward.target) == target.as_ref();
        if is_cluster {
            others.push(name.clone());
        }
        !is_cluster
    });
    let mut text = String::new();
    if let Some(domain) = domain.filter(|domain| domain != defaults::CLUSTER_DOMAIN) {
        let _ = writeln!(text, "  domain: {}", quoted(&domain));
    }
    if let Some(zone) = zone {
        match &zone.forward.target {
            Target::Servers(servers) => {
                let _ = writeln!(
                    text,
                    "  # Until the endpoints are known.\n  upstreams: {}",
                    list(servers)
                );
            }
            Target::Cluster | Target::File(_) => {}
        }
        text += &asked(&zone.forward, "tcp", "  ");
        let default = defaults::CLUSTER_TTL;
        text += &ttl(zone.ttl, (default.positive, default.negative), "  ");
    }
    let reverse = others.iter().any(|zone| names::is_reverse(zone));
    if !reverse {
        others.extend(defaults::REVERSE_ZONES.map(str::to_owned));
    }
    others.sort();
    if others != defaults::REVERSE_ZONES {
        let _ = writeln!(text, "  reverseZones: {}", list(&others));
    }
    (!text.is_empty()).then(|| format!("cluster:\n{text}"))
}

/// What no zone is for, if its servers stand in a file.
fn rest(imported: &mut Imported, settings: &mut Settings) {
    let Some(zone) = imported.zones.get(".") else {
        return;
    };
    let Target::File(file) = &zone.forward.target else {
        return;
    };
    if file != defaults::RESOLV_CONF {
        settings.push(("resolvConf", format!("resolvConf: {}\n", quoted(file))));
    }
    if zone.forward.transport == "udp" {
        settings.push(("transport", "transport: udp\n".to_owned()));
    }
    let ttl = ttl(
        zone.ttl,
        (defaults::TTL.positive, defaults::TTL.negative),
        "",
    );
    if !ttl.is_empty() {
        settings.push(("ttl", ttl));
    }
    imported.zones.remove(".");
}

/// A stub domain.
fn stub(name: &str, zone: &Zone) -> String {
    let Target::Servers(servers) = &zone.forward.target else {
        // convert lets no others through.
        return String::new();
    };
    let default = (defaults::TTL.positive, defaults::TTL.negative);
    format!(
        "  - zone: {}\n    upstreams: {}\n{}{}",
        quoted(name),
        list(servers),
        asked(&zone.forward, "tcp", "    "),
        ttl(zone.ttl, default, "    ")
    )
}

fn asked(forward: &Forward, default: &str, indent: &str) -> String {
    let mut text = String::new();
    if forward.transport != default {
        let _ = writeln!(text, "{indent}transport: {}", forward.transport);
    }
    if forward.transport == "tls" {
        let name = forward
            .server_name
            .iter()
            .map(|name| format!("serverName: {}", quoted(name)));
        let file = forward
            .ca_file
            .iter()
            .map(|file| format!("caFile: {}", quoted(file)));
        let keys: Vec<_> = name.chain(file).collect();
        if !keys.is_empty() {
            let _ = writeln!(text, "{indent}tls: {{{}}}", keys.join(", "));
        }
    }
    text
}

fn ttl(ttl: Option<Ttl>, default: (u32, u32), indent: &str) -> String {
    match ttl {
        Some(ttl) if (ttl.positive, ttl.negative, ttl.minimum) != (default.0, default.1, 0) => {
            format!(
                "{indent}ttl: {{positive: {}, negative: {}, minimum: {}}}\n",
                ttl.positive, ttl.negative, ttl.minimum
            )
        }
        _ => String::new(),
    }
}

fn cache(imported: &Imported) -> Option<String> {
    let shared = &imported.shared;
    let mut text = String::new();
    if let Some(entries) = shared
        .entries
        .filter(|entries| *entries != defaults::CACHE.max_entries)
    {
        let _ = writeln!(text, "  maxEntries: {entries}");
    }
    if let Some(prefetch) = shared.prefetch {
        let _ = writeln!(
            text,
            "  prefetch: {{percent: {}, minHits: {}}}",
            prefetch.percent, prefetch.min_hits
        );
    }
    if let Some(seconds) = shared.serve_stale {
        let _ = writeln!(text, "  serveStale: {{maxSeconds: {seconds}}}");
    }
    (!text.is_empty()).then(|| format!("cache:\n{text}"))
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// As it is where YAML has no other meaning for it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if text.chars().all(is_plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("{text:?}")
}
