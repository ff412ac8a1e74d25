//! ConfigMaps, in YAML or JSON, one or several: with a Corefile in it, or kube-dns's (`stubDomains`,
//! `upstreamNameservers`).

use std::path::Path;

use super::super::errors::Report;
use super::super::tree::{self, Kind, Node};
use super::Error;
use super::convert::Notes;
use super::kube_dns::{Placed, Settings};

/// What stands in ConfigMaps; of each setting the first.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A quoted one has lines of its own, counted from one.
    pub(super) corefile: Option<Placed>,
    pub(super) kube_dns: Settings,
    /// What is not taken over.
    pub(super) notes: Notes,
}

/// What the ConfigMaps say, or `None` if the text is none.
pub(super) fn read(text: &str) -> Result<Option<Found>, Error> {
    let mut found = Found::default();
    let (mut is_object, mut line) = (false, 0);
    for document in documents(text) {
        if looks_like_an_object(document) {
            is_object = true;
            let body = document.trim_end().trim_end_matches("---");
            let mut report = Report::of_file(Path::new("the ConfigMap"));
            let root = tree::parse(body, &mut report).and_then(|document| document.root);
            let Some(root) = root else {
                return Err(Error::Syntax(report.into_errors().to_string()));
            };
            objects(&root, body, line, &mut found);
        }
        line += document.matches('\n').count();
    }
    match found {
        Found {
            corefile: None,
            kube_dns:
                Settings {
                    stub_domains: None,
                    upstream_nameservers: None,
                },
            ..
        } if is_object => Err(Error::Empty),
        found => Ok(is_object.then_some(found)),
    }
}

/// No Corefile has such lines, nor begins like JSON.
fn looks_like_an_object(text: &str) -> bool {
    let is_key = |line: &str| {
        ["kind:", "data:", "items:"]
            .iter()
            .any(|key| line.starts_with(key))
    };
    text.trim_start().starts_with('{') || text.lines().any(is_key)
}

/// The parts between lines of `---`, each with its last line's end.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find("\n---").map_or(rest.len(), |at| {
            let behind = at + 1;
            rest[behind..]
                .find('\n')
                .map_or(rest.len(), |end| behind + end + 1)
        });
        let (document, behind) = rest.split_at(end);
        rest = behind;
        Some(document)
    })
}

/// An object of `text`, or a list of them; `before` lines stand before it.
fn objects(object: &Node, text: &str, before: usize, found: &mut Found) {
    if let Some(Kind::List(items)) = child(object, "items").map(|items| &items.kind) {
        for item in items {
            objects(item, text, before, found);
        }
    }
    let kind = child(object, "kind").and_then(scalar);
    let Some(data) = child(object, "data").filter(|_| kind.is_none_or(|kind| kind == "ConfigMap"))
    else {
        return;
    };
    let Found {
        corefile,
        kube_dns,
        notes,
    } = found;
    let settings = [
        ("Corefile", corefile),
        ("stubDomains", &mut kube_dns.stub_domains),
        ("upstreamNameservers", &mut kube_dns.upstream_nameservers),
    ];
    for (key, setting) in settings {
        let Some((node, value)) = child(data, key).and_then(|node| Some((node, scalar(node)?)))
        else {
            continue;
        };
        // A literal block is where its first line is.
        let line = before + node.at.line;
        if setting.is_some() {
            notes.at(line, key, "left out: a ConfigMap before this one has it");
        } else if key == "Corefile" && is_quoted(node, text) {
            *setting = Some(Placed::new(value, 1));
        } else {
            *setting = Some(Placed::new(value, line));
        }
    }
    let federations = child(data, "federations");
    let federations =
        federations.filter(|node| scalar(node).is_none_or(|text| !text.trim().is_empty()));
    if let Some(node) = federations {
        let instead = "names of federated services are asked for as any others";
        notes.at(before + node.at.line, "federations", instead);
    }
}

fn is_quoted(node: &Node, text: &str) -> bool {
    let line = text.lines().nth(node.at.line.saturating_sub(1));
    let first = line.and_then(|line| line.chars().nth(node.at.column.saturating_sub(1)));
    matches!(first, Some('"' | '\''))
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Kind::Mapping(entries) = &node.kind else {
        return None;
    };
    let found = entries.iter().find(|(name, _)| scalar(name) == Some(key));
    found.map(|(_, value)| value)
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(text) => Some(text),
        _ => None,
    }
}
