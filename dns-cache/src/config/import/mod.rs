//! A Corefile, of NodeLocalDNS or of CoreDNS, or kube-dns's ConfigMap, as a configuration of dns-cache.
//!
//! ```text
//! text → config_map (a Corefile in it? stub domains?) → corefile (a tree) → convert (block by block) → yaml
//! ```
//! What has no counterpart is told, with its line, and with what happens instead. Each value passes the same rule as
//! in a configuration's file, so that what comes out can be read.

mod cache;
mod config_map;
mod convert;
mod corefile;
mod forward;
mod names;
mod plugins;
mod rewrite;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt;
use std::path::Path;

use super::errors::Report;
use super::tree::{self, Kind};
use super::{Config, Errors};
use convert::Imported;

/// A configuration, and what could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The configuration's text.
    pub yaml: String,
    /// What has no counterpart, in the order of its lines.
    pub notes: Vec<Note>,
}

/// A directive without a counterpart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Its line in the file, counted from one.
    pub line: usize,
    /// Its name, or what else is meant there.
    pub what: String,
    /// What happens instead.
    pub instead: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.what, self.instead)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is neither a Corefile nor a ConfigMap.
    #[error("neither a Corefile nor a ConfigMap: {0}")]
    Syntax(String),
    /// A ConfigMap without anything that is known.
    #[error("no ConfigMap with a Corefile, stubDomains or upstreamNameservers is in it")]
    Empty,
    /// What is laid over the import is no configuration, or does not go with it.
    #[error(transparent)]
    Configuration(#[from] Errors),
}

/// Makes a configuration of a Corefile or a ConfigMap. The settings at the top of `over` stand over what is
/// imported.
///
/// # Errors
/// If the text is neither, or the two make no configuration.
pub fn import(text: &str, over: Option<&str>) -> Result<Import, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut imported = match config_map::read(text)? {
        Some(imported) => imported,
        None => from_corefile(text, 1)?,
    };
    let over = over.unwrap_or_default();
    let keys = keys(over)?;
    let settings = yaml::settings(&mut imported).into_iter();
    let settings = settings.filter(|(key, _)| !keys.iter().any(|other| other == key));
    let yaml: String = settings
        .map(|(_, lines)| lines)
        .chain([over.to_owned()])
        .collect();
    let _: Config = super::parse(&yaml, Path::new("the imported configuration"))?;
    let mut notes = imported.notes;
    notes.sort();
    notes.dedup();
    Ok(Import { yaml, notes })
}

fn from_corefile(text: &str, first_line: usize) -> Result<Imported, Error> {
    let blocks =
        corefile::parse(text, first_line).map_err(|error| Error::Syntax(error.to_string()))?;
    if blocks.is_empty() {
        return Err(Error::Syntax("it has no server block".to_owned()));
    }
    Ok(convert::convert(&blocks))
}

/// The settings that a configuration gives.
fn keys(yaml: &str) -> Result<Vec<String>, Errors> {
    let mut report = Report::of_file(Path::new("the configuration over it"));
    let Some(document) = tree::parse(yaml, &mut report) else {
        return Err(report.into_errors());
    };
    let entries = match document.root.map(|root| root.kind) {
        Some(Kind::Mapping(entries)) => entries,
        _ => Vec::new(),
    };
    let name = |key: tree::Node| match key.kind {
        Kind::Scalar(name) => Some(name),
        _ => None,
    };
    Ok(entries
        .into_iter()
        .filter_map(|(key, _)| name(key))
        .collect())
}
