//! kube-dns's settings: stub domains, and servers for the names of no zone. NodeLocalDNS reads them beside its Corefile.

use std::collections::BTreeMap;

use super::Error;
use super::convert::Notes;
use super::corefile::{Block, Corefile, Directive};
use super::names::UPSTREAM_SERVERS;

/// A text, and the line on which it begins; zero if it has a file of its own.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Placed {
    pub(super) fn new(text: impl Into<String>, line: usize) -> Self {
        let text = text.into();
        Self { text, line }
    }
}

/// The two settings, as JSON.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// `{"zone": ["server"]}`
    pub(super) stub_domains: Option<Placed>,
    /// `["server"]`
    pub(super) upstream_nameservers: Option<Placed>,
}

/// Adds them to a Corefile, as node-cache does: stub domains as blocks of their own, the servers where the Corefile has a
/// place for them. Without a Corefile they are all there is.
pub(super) fn add(
    settings: &Settings,
    corefile: &mut Corefile,
    notes: &mut Notes,
) -> Result<(), Error> {
    let stub_domains: Option<BTreeMap<String, Vec<String>>> =
        read("stubDomains", settings.stub_domains.as_ref())?;
    let servers: Option<Vec<String>> = read(
        "upstreamNameservers",
        settings.upstream_nameservers.as_ref(),
    )?;
    let line = |placed: &Option<Placed>| placed.as_ref().map_or(0, |placed| placed.line);
    if let Some(servers) = servers.filter(|servers| !servers.is_empty()) {
        let line = line(&settings.upstream_nameservers);
        if corefile.blocks.is_empty() {
            corefile.blocks.push(block(line, ".".to_owned(), servers));
        } else if !fill(corefile, &servers) {
            let instead = "the Corefile names other servers, which are asked";
            notes.at(line, "upstreamNameservers", instead);
        }
    }
    let line = line(&settings.stub_domains);
    let stubs = stub_domains.into_iter().flatten();
    corefile
        .blocks
        .extend(stubs.map(|(zone, servers)| block(line, zone, servers)));
    Ok(())
}

/// Puts servers in the place that is left for them; false if there is none. They are asked over UDP.
fn fill(corefile: &mut Corefile, servers: &[String]) -> bool {
    let directives = corefile
        .blocks
        .iter_mut()
        .flat_map(|block| &mut block.directives);
    let mut is_found = false;
    for directive in directives {
        if let Some(at) = directive
            .args
            .iter()
            .position(|arg| arg == UPSTREAM_SERVERS)
        {
            directive.args.splice(at..=at, servers.iter().cloned());
            directive.block.retain(|option| option.name != "force_tcp");
            is_found = true;
        }
    }
    is_found
}

/// A zone that is forwarded, and cached for as long as its servers say, up to 30 s.
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

fn read<T: serde::de::DeserializeOwned>(
    key: &str,
    placed: Option<&Placed>,
) -> Result<Option<T>, Error> {
    // kube-dns takes an empty text for nothing.
    let Some(placed) = placed.filter(|placed| !placed.text.trim().is_empty()) else {
        return Ok(None);
    };
    let read = serde_json::from_str(&placed.text);
    read.map(Some).map_err(|error| {
        let line = match placed.line {
            0 => String::new(),
            line => format!("line {line}: "),
        };
        Error::Syntax(format!(
            "{line}{key} is no JSON as kube-dns wants it: {error}"
        ))
    })
}
