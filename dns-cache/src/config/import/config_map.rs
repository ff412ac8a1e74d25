//! A ConfigMap: one with a Corefile in it, or kube-dns's (`stubDomains`, `upstreamNameservers`).

use std::collections::BTreeMap;
use std::path::Path;

use super::super::errors::Report;
use super::super::tree::{self, Kind, Node};
use super::convert::{Imported, convert};
use super::corefile::{Block, Directive};
use super::{Error, from_corefile};

/// What a ConfigMap says, or `None` if the text is none.
pub(super) fn read(text: &str) -> Result<Option<Imported>, Error> {
    let mut is_yaml = false;
    let mut line = 0;
    for document in documents(text) {
        let lines = document.matches('\n').count();
        if document
            .lines()
            .any(|line| line.starts_with("kind:") || line.starts_with("data:"))
        {
            is_yaml = true;
            if let Some(imported) = one(document, line)? {
                return Ok(Some(imported));
            }
        }
        line += lines;
    }
    if is_yaml { Err(Error::Empty) } else { Ok(None) }
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

/// `before` lines stand before the document.
fn one(text: &str, before: usize) -> Result<Option<Imported>, Error> {
    let body = text.trim_end().trim_end_matches("---");
    let mut report = Report::of_file(Path::new("the ConfigMap"));
    let root = tree::parse(body, &mut report).and_then(|document| document.root);
    let Some(root) = root else {
        return Err(Error::Syntax(report.into_errors().to_string()));
    };
    let is_map = child(&root, "kind")
        .and_then(scalar)
        .is_none_or(|kind| kind == "ConfigMap");
    let Some(data) = child(&root, "data").filter(|_| is_map) else {
        return Ok(None);
    };
    let corefile = child(data, "Corefile").and_then(|node| Some((node, scalar(node)?)));
    if let Some((node, corefile)) = corefile {
        // A literal block is where its first line is; a quoted text has no lines of its own.
        let first = before + node.at.line;
        return from_corefile(corefile, first).map(Some);
    }
    kube_dns(data, before)
}

/// `stubDomains: {"zone": ["server"]}` and `upstreamNameservers: ["server"]`, both as JSON, as blocks of a Corefile.
fn kube_dns(data: &Node, before: usize) -> Result<Option<Imported>, Error> {
    let stub_domains: Option<BTreeMap<String, Vec<String>>> = json(data, "stubDomains", before)?;
    let nameservers: Option<Vec<String>> = json(data, "upstreamNameservers", before)?;
    if stub_domains.is_none() && nameservers.is_none() {
        return Ok(None);
    }
    let line_of = |key| child(data, key).map_or(0, |node| before + node.at.line);
    let stub_line = line_of("stubDomains");
    let stubs = stub_domains.into_iter().flatten();
    let stubs = stubs.map(|(zone, servers)| block(stub_line, zone, servers));
    let rest = nameservers.into_iter();
    let rest = rest.map(|servers| block(line_of("upstreamNameservers"), ".".to_owned(), servers));
    let blocks: Vec<_> = stubs.chain(rest).collect();
    Ok(Some(convert(&blocks)))
}

/// A zone that is forwarded, and cached as kube-dns does: as long as the servers say, up to the usual caps here.
fn block(line: usize, zone: String, servers: Vec<String>) -> Block {
    let directive = |name: &str, args| Directive {
        line,
        name: name.to_owned(),
        args,
        block: Vec::new(),
    };
    let mut args = vec![".".to_owned()];
    args.extend(servers);
    Block {
        line,
        keys: vec![zone],
        directives: vec![
            directive("cache", vec!["30".to_owned()]),
            directive("forward", args),
        ],
    }
}

fn json<T: serde::de::DeserializeOwned>(
    data: &Node,
    key: &str,
    before: usize,
) -> Result<Option<T>, Error> {
    let Some(node) = child(data, key) else {
        return Ok(None);
    };
    let read = serde_json::from_str(scalar(node).unwrap_or_default());
    let line = before + node.at.line;
    read.map(Some).map_err(|error| {
        Error::Syntax(format!(
            "line {line}: {key} is no JSON as kube-dns wants it: {error}"
        ))
    })
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
