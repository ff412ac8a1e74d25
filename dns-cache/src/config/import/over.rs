//! A configuration laid over an import, setting by setting.
//!
//! Mappings are merged in depth, and lists whose items have names item by item. Of what both say, the upper one stands;
//! what of the import goes by that is told.

use std::net::IpAddr;
use std::path::Path;
use std::slice;

use super::super::errors::Report;
use super::super::model::is_link_local;
use super::super::tree::{self, Kind, Node};
use super::super::{Config, Errors, parse};
use super::{Note, names, yaml};

type Entries = Vec<(Node, Node)>;

/// Lays `over` over the settings of an import; both are YAML, and so is what comes out.
pub(super) fn lay(over: &str, import: &str, notes: &mut Vec<Note>) -> Result<String, Errors> {
    let over = entries(over, "the configuration over it")?;
    let mut import = entries(import, "the import")?;
    give_way(&mut import, &over, notes);
    listen(&mut import, &over, notes);
    Ok(text(&mapping("", import, over, notes)))
}

fn entries(text: &str, what: &str) -> Result<Entries, Errors> {
    let file = Path::new(what);
    let mut report = Report::of_file(file);
    let root = tree::parse(text, &mut report).and_then(|document| document.root);
    report.finish(())?;
    match root.map(|root| root.kind) {
        Some(Kind::Mapping(entries)) => Ok(entries),
        Some(Kind::Null) | None => Ok(Entries::new()),
        // What is wrong with it is said where settings are read.
        Some(_) => parse(text, file).map(|_: Config| Entries::new()),
    }
}

/// A zone is the cluster's or has servers. What is said of it above holds, wherever the import has it.
fn give_way(import: &mut Entries, over: &Entries, notes: &mut Vec<Note>) {
    let given = |keys: &[&str]| -> Vec<String> {
        let key = keys.last().copied().unwrap_or_default();
        let items = at(over, keys).map(items).unwrap_or_default();
        items.iter().filter_map(|item| name(key, item)).collect()
    };
    let domain = given(&["cluster", "domain"]);
    let zones = [given(&["zones"]), domain.clone()].concat();
    let cluster = [given(&["cluster", "reverseZones"]), domain].concat();
    for (keys, taken) in [
        (&["zones"][..], cluster),
        (&["cluster", "reverseZones"], zones),
    ] {
        let key = keys.last().copied().unwrap_or_default();
        retain(import, keys, &mut |item| {
            let lost = name(key, item).filter(|name| taken.contains(name));
            let instead = "left out: the settings over the import say whose this zone is";
            notes.extend(
                lost.iter()
                    .map(|zone| note(&format!("{}: {zone}", keys.join(".")), instead)),
            );
            lost.is_none()
        });
    }
}

/// Addresses that only a cache on the node answers at are answered at, whatever else is. Those of a Service are left to
/// kube-proxy if the agent is told to leave it alone.
fn listen(import: &mut Entries, over: &Entries, notes: &mut Vec<Note>) {
    let intercepts = at(over, &["kubernetes", "interceptService"]).and_then(scalar);
    let given = at(over, &["listen"]).map(items).unwrap_or_default();
    let given: Vec<_> = given
        .iter()
        .filter_map(|item| name("listen", item))
        .collect();
    retain(import, &["listen"], &mut |item| {
        let Some(address) = name("listen", item).filter(|address| !given.contains(address)) else {
            return true;
        };
        let is_own = address.parse().is_ok_and(is_link_local);
        let what = format!("listen: {address}");
        if is_own {
            notes.push(note(&what, "answered at as well, since pods may ask there"));
        } else if intercepts == Some("false") {
            notes.push(note(
                &what,
                "left out: kubernetes.interceptService is false",
            ));
            return false;
        }
        true
    });
}

/// Takes items out of a list, and the list with its last one.
fn retain(entries: &mut Entries, keys: &[&str], stays: &mut dyn FnMut(&Node) -> bool) {
    let Some((first, rest)) = keys.split_first() else {
        return;
    };
    entries.retain_mut(|(key, value)| {
        if scalar(key) != Some(first) {
            return true;
        }
        match &mut value.kind {
            Kind::Mapping(entries) => retain(entries, rest, stays),
            Kind::List(items) => {
                items.retain(&mut *stays);
                return !items.is_empty();
            }
            _ => {}
        }
        true
    });
}

fn mapping(path: &str, lower: Entries, mut upper: Entries, notes: &mut Vec<Note>) -> Entries {
    // How servers are asked is said with them.
    let are_asked = ["upstreams", "transport"]
        .iter()
        .any(|key| at(&upper, &[key]).is_some());
    let mut merged = Entries::new();
    for (key, value) in lower {
        let name = scalar(&key).unwrap_or_default();
        let path = match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let value = match upper
            .iter()
            .position(|(other, _)| scalar(other) == Some(name))
        {
            Some(n) => merge(&path, value, upper.remove(n).1, notes),
            None if are_asked && matches!(name, "transport" | "tls") => {
                notes.push(note(
                    &path,
                    "left out: the settings over the import say how servers are asked",
                ));
                continue;
            }
            None => value,
        };
        merged.push((key, value));
    }
    merged.extend(upper);
    merged
}

fn merge(path: &str, lower: Node, upper: Node, notes: &mut Vec<Note>) -> Node {
    let at = upper.at;
    let kind = match (lower.kind, upper.kind) {
        (lower, Kind::Null) => lower,
        (Kind::Mapping(lower), Kind::Mapping(upper)) => {
            Kind::Mapping(mapping(path, lower, upper, notes))
        }
        (Kind::List(lower), upper @ (Kind::List(_) | Kind::Scalar(_)))
            if matches!(path, "listen" | "zones" | "hosts" | "blocked") =>
        {
            // One value is a list of one.
            let upper = match upper {
                Kind::List(items) => items,
                kind => vec![Node { at, kind }],
            };
            Kind::List(list(path, lower, upper, notes))
        }
        (lower, upper) => {
            let [lost, stands] = [&lower, &upper].map(yaml::flow);
            if lost != stands {
                let instead =
                    format!("{lost} is left out: the settings over the import say {stands}");
                notes.push(note(path, instead));
            }
            upper
        }
    };
    Node { at, kind }
}

fn list(path: &str, lower: Vec<Node>, mut upper: Vec<Node>, notes: &mut Vec<Note>) -> Vec<Node> {
    let mut others = Vec::new();
    for item in lower {
        let own = name(path, &item);
        match upper.iter().position(|other| name(path, other) == own) {
            Some(n) => {
                let path = format!("{path}[{}]", own.unwrap_or_default());
                let other = upper.remove(n);
                upper.insert(n, merge(&path, item, other, notes));
            }
            None => others.push(item),
        }
    }
    upper.extend(others);
    upper
}

/// What an item of this list is told from others by.
fn name(list: &str, item: &Node) -> Option<String> {
    let entries = match &item.kind {
        Kind::Mapping(entries) => &entries[..],
        _ => &[],
    };
    let text = match list {
        "zones" | "blocked" => at(entries, &["zone"]).and_then(scalar),
        "hosts" => at(entries, &["name"]).and_then(scalar),
        _ => scalar(item),
    }?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    names::zones(text).ok().map(|zones| zones.concat())
}

fn at<'a>(entries: &'a [(Node, Node)], keys: &[&str]) -> Option<&'a Node> {
    let (first, rest) = keys.split_first()?;
    let (_, value) = entries.iter().find(|(key, _)| scalar(key) == Some(first))?;
    match &value.kind {
        _ if rest.is_empty() => Some(value),
        Kind::Mapping(entries) => at(entries, rest),
        _ => None,
    }
}

/// A list's items, or the one that there is.
fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => slice::from_ref(node),
    }
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(text) => Some(text),
        _ => None,
    }
}

fn note(what: &str, instead: impl Into<String>) -> Note {
    Note {
        line: 0,
        what: what.to_owned(),
        instead: instead.into(),
    }
}

/// A block for each setting, each of its own settings on a line.
fn text(entries: &Entries) -> String {
    let mut text = String::new();
    for (key, value) in entries {
        let lines: Vec<_> = match &value.kind {
            Kind::Mapping(entries) => {
                let line = |(key, value): &(Node, Node)| {
                    format!("  {}: {}\n", yaml::flow(&key.kind), yaml::flow(&value.kind))
                };
                entries.iter().map(line).collect()
            }
            Kind::List(items) if items.iter().any(|item| scalar(item).is_none()) => {
                let line = |item: &Node| format!("  - {}\n", yaml::flow(&item.kind));
                items.iter().map(line).collect()
            }
            _ => Vec::new(),
        };
        text += &yaml::flow(&key.kind);
        text += &match lines.is_empty() {
            true => format!(": {}\n", yaml::flow(&value.kind)),
            false => format!(":\n{}", lines.concat()),
        };
    }
    text
}
