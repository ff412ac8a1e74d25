//! A configuration's text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::TtlCaps;
use super::super::defaults::{CACHE, CLUSTER_DOMAIN, CLUSTER_TTL, RESOLV_CONF, REVERSE_ZONES, TTL};
use super::super::tree::{Kind, Node};
use super::cache::Ttl;
use super::convert::{Imported, Zone};
use super::forward::{Forward, Target};
use super::names;

/// What is left out where it is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    LeftOut,
    /// What was said stands there, for something else may be laid over it.
    Kept,
}

/// All that was imported. The endpoints of the cluster's DNS are found by the API server.
pub(super) fn settings(imported: &mut Imported, defaults: Defaults) -> String {
    let mut text = String::new();
    if !imported.listen.is_empty() {
        let _ = writeln!(text, "listen: {}", list(&imported.listen));
    }
    text += "kubernetes: {}\n";
    text += &section("cluster", cluster(imported, defaults));
    text += &rest(imported, defaults);
    let zones = imported
        .zones
        .iter()
        .map(|(name, zone)| stub(name, zone, defaults));
    text += &section("zones", zones.collect());
    let host = |(name, addresses): (&String, &Vec<_>)| {
        format!(
            "  - {{name: {}, addresses: {}}}\n",
            quoted(name),
            list(addresses)
        )
    };
    text += &section("hosts", imported.hosts.iter().map(host).collect());
    let blocked = |zone: &String| format!("  - {{zone: {}, answer: nxdomain}}\n", quoted(zone));
    text += &section("blocked", imported.blocked.iter().map(blocked).collect());
    text + &section("cache", cache(imported, defaults))
}

impl Defaults {
    /// Whether a setting is told that is the default, or is not.
    fn are_told(self, is_default: bool) -> bool {
        self == Self::Kept || !is_default
    }
}

/// Nothing, if there are no lines in it.
fn section(key: &str, lines: String) -> String {
    match lines.is_empty() {
        true => lines,
        false => format!("{key}:\n{lines}"),
    }
}

/// The cluster's zones, which are taken out of the others.
fn cluster(imported: &mut Imported, defaults: Defaults) -> String {
    let domain = imported.domain().map(str::to_owned);
    let zone = domain
        .as_ref()
        .and_then(|domain| imported.zones.remove(domain));
    let target = zone.as_ref().map(|zone| zone.forward.target.clone());
    let made_there = imported.made_there.iter();
    let made_there = made_there.filter(|zone| Some(*zone) != domain.as_ref());
    let mut others: BTreeSet<String> = made_there.cloned().collect();
    imported.zones.retain(|name, zone| {
        if zone.forward.target == Target::Cluster || Some(&zone.forward.target) == target.as_ref() {
            others.insert(name.clone());
        }
        !others.contains(name)
    });
    let mut text = String::new();
    if let Some(domain) = domain.filter(|domain| defaults.are_told(domain == CLUSTER_DOMAIN)) {
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
        text += &ttl(zone.ttl, CLUSTER_TTL, "  ", defaults);
    }
    let reverse = others.iter().any(|zone| names::is_reverse(zone));
    if !reverse {
        let usual = REVERSE_ZONES.map(str::to_owned).into_iter();
        others.extend(usual.filter(|zone| !imported.zones.contains_key(zone)));
    }
    if !others.iter().eq(REVERSE_ZONES.iter()) {
        let others: Vec<_> = others.into_iter().collect();
        let _ = writeln!(text, "  reverseZones: {}", list(&others));
    }
    text
}

/// What no zone is for, if its servers stand in a file.
fn rest(imported: &mut Imported, defaults: Defaults) -> String {
    let mut text = String::new();
    let Some(zone) = imported.zones.get(".") else {
        return text;
    };
    let Target::File(file) = &zone.forward.target else {
        return text;
    };
    if file != RESOLV_CONF {
        let _ = writeln!(text, "resolvConf: {}", quoted(file));
    }
    if zone.forward.transport == "udp" {
        text += "transport: udp\n";
    }
    text += &ttl(zone.ttl, TTL, "", defaults);
    imported.zones.remove(".");
    text
}

/// A stub domain.
fn stub(name: &str, zone: &Zone, defaults: Defaults) -> String {
    let Target::Servers(servers) = &zone.forward.target else {
        // convert lets no others through.
        return String::new();
    };
    format!(
        "  - zone: {}\n    upstreams: {}\n{}{}",
        quoted(name),
        list(servers),
        asked(&zone.forward, "tcp", "    "),
        ttl(zone.ttl, TTL, "    ", defaults)
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

fn ttl(ttl: Option<Ttl>, usual: TtlCaps, indent: &str, defaults: Defaults) -> String {
    let is_usual = |ttl: &Ttl| {
        (ttl.positive, ttl.negative, ttl.minimum) == (usual.positive, usual.negative, usual.minimum)
    };
    let ttl = ttl.filter(|ttl| defaults.are_told(is_usual(ttl)));
    ttl.map_or_else(String::new, |ttl| {
        format!(
            "{indent}ttl: {{positive: {}, negative: {}, minimum: {}}}\n",
            ttl.positive, ttl.negative, ttl.minimum
        )
    })
}

fn cache(imported: &Imported, defaults: Defaults) -> String {
    let shared = &imported.shared;
    let mut text = String::new();
    if let Some(entries) = shared
        .entries
        .filter(|entries| defaults.are_told(*entries == CACHE.max_entries))
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
    text
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A value on one line.
pub(super) fn flow(value: &Kind) -> String {
    match value {
        Kind::Null | Kind::Refused => "null".to_owned(),
        Kind::Scalar(text) => quoted(text),
        Kind::List(items) => {
            let items: Vec<_> = items.iter().map(|item| flow(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Mapping(entries) => {
            let entry =
                |(key, value): &(Node, Node)| format!("{}: {}", flow(&key.kind), flow(&value.kind));
            let entries: Vec<_> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// As it is where YAML has no other meaning for it, else as in JSON.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    let has_meaning = text.is_empty() || text.starts_with('-') || text.eq_ignore_ascii_case("null");
    if text.chars().all(is_plain) && !has_meaning {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}
