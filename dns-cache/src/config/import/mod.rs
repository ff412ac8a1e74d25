//! A Corefile, of NodeLocalDNS or of CoreDNS, or kube-dns's ConfigMap, as a configuration of dns-cache.
//!
//! ```text
//! text → config_map (a Corefile in it? stub domains?) → corefile (a tree) → kube_dns (stub domains as blocks)
//!      → convert (block by block) → yaml → over (the settings that stand over it)
//! ```
//! What has no counterpart is told, with its line, and with what happens instead. Each value passes the same rule as
//! in a configuration's file, so that what comes out can be read.

mod cache;
mod config_map;
mod convert;
mod corefile;
mod forward;
mod kube_dns;
mod names;
mod over;
mod plugins;
mod rewrite;
mod server;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt;
use std::path::Path;

use super::{Config, Errors};
use corefile::Corefile;
use kube_dns::Placed;
use yaml::Defaults;

/// A configuration, and what could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The configuration's text.
    pub yaml: String,
    /// What has no counterpart, in the order of its lines.
    pub notes: Vec<Note>,
}

/// A directive without a counterpart, or a setting that another one stands over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Its line in the file, counted from one; in a quoted Corefile (JSON's, for one) that in the Corefile. Zero if it
    /// stands elsewhere.
    pub line: usize,
    /// Its name, or what else is meant there.
    pub what: String,
    /// What happens instead.
    pub instead: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        write!(f, "{}: {}", self.what, self.instead)
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

/// The settings of kube-dns's ConfigMap, as files of a volume have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeDns {
    /// `stubDomains`: `{"zone": ["server"]}`
    pub stub_domains: Option<String>,
    /// `upstreamNameservers`: `["server"]`
    pub upstream_nameservers: Option<String>,
}

/// Makes a configuration of a Corefile or of ConfigMaps. The settings of `kube_dns` count where the text has none;
/// those of `over` stand over what is imported, setting by setting.
///
/// # Errors
/// If the text is neither, or if they make no configuration.
pub fn import(text: &str, kube_dns: KubeDns, over: Option<&str>) -> Result<Import, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = config_map::read(text)?.unwrap_or_else(|| config_map::Found {
        corefile: Some(Placed::new(text, 1)),
        ..Default::default()
    });
    let of_its_own = |text: String| Placed::new(text, 0);
    let kube_dns::Settings {
        stub_domains,
        upstream_nameservers,
    } = &mut found.kube_dns;
    *stub_domains = stub_domains
        .take()
        .or_else(|| kube_dns.stub_domains.map(of_its_own));
    let servers = kube_dns.upstream_nameservers.map(of_its_own);
    *upstream_nameservers = upstream_nameservers.take().or(servers);

    let mut corefile = match &found.corefile {
        Some(Placed { text, line }) => parsed(text, *line)?,
        None => Corefile::default(),
    };
    let mut notes = std::mem::take(&mut found.notes);
    kube_dns::add(&found.kube_dns, &mut corefile, &mut notes)?;
    let mut imported = convert::convert(&corefile, notes);
    let mut notes = std::mem::take(&mut imported.notes);
    notes.sort();
    notes.dedup();
    let yaml = match over {
        Some(over) => {
            let settings = yaml::settings(&mut imported, Defaults::Kept);
            over::lay(over, &settings, &mut notes)?
        }
        None => yaml::settings(&mut imported, Defaults::LeftOut),
    };
    let _: Config = super::parse(&yaml, Path::new("the imported configuration"))?;
    Ok(Import { yaml, notes })
}

fn parsed(text: &str, first_line: usize) -> Result<Corefile, Error> {
    let corefile =
        corefile::parse(text, first_line).map_err(|error| Error::Syntax(error.to_string()))?;
    if corefile.blocks.is_empty() {
        return Err(Error::Syntax("it has no server block".to_owned()));
    }
    Ok(corefile)
}
