//! A server block that pods can reach, and which names come to it: those for whose zone there is no narrower block.

use super::convert::Notes;
use super::corefile::{Block, Directive};
use super::names;

/// One of a Corefile's servers.
pub(super) struct Server<'a> {
    pub(super) block: &'a Block,
    zones: Vec<String>,
    /// The zones of the other servers.
    others: Vec<String>,
    /// The Corefile is that of the cluster's DNS.
    pub(super) is_of_cluster: bool,
}

impl<'a> Server<'a> {
    /// All of them that pods can reach.
    pub(super) fn all(blocks: &'a [Block], notes: &mut Notes) -> Vec<Self> {
        let has = |block: &Block, name| block.directives.iter().any(|d| d.name == name);
        let is_of_cluster = blocks.iter().any(|block| has(block, "kubernetes"));
        let zones: Vec<_> = blocks.iter().map(|block| zones(block, notes)).collect();
        let servers = blocks.iter().zip(&zones).enumerate();
        let servers = servers.filter(|(_, (_, zones))| !zones.is_empty());
        let server = |(n, (block, own)): (usize, (&'a Block, &Vec<String>))| {
            let others = zones.iter().enumerate().filter(|(other, _)| *other != n);
            Self {
                block,
                zones: own.clone(),
                others: others.flat_map(|(_, zones)| zones.clone()).collect(),
                is_of_cluster,
            }
        };
        servers.map(server).collect()
    }

    pub(super) fn has_forward(&self) -> bool {
        let mut directives = self.block.directives.iter();
        directives.any(|d| matches!(&*d.name, "forward" | "proxy"))
    }

    /// What comes to this block of the zones that one of its directives names; of the root, all that the block is for.
    pub(super) fn asked_for(
        &self,
        directive: &Directive,
        named: Vec<String>,
        notes: &mut Notes,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for name in named {
            let own = self.zones.iter();
            let before = found.len();
            found.extend(own.filter(|zone| names::is_below(zone, &name)).cloned());
            if found.len() > before {
                continue;
            }
            match (nearest(&self.zones, &name), nearest(&self.others, &name)) {
                (Some(own), other) if other.is_none_or(|other| names::is_below(own, other)) => {
                    found.push(name);
                }
                (_, Some(other)) => {
                    let instead = format!("names in {name} come to the block of {other}, not here");
                    notes.add(directive, instead);
                }
                _ => notes.add(directive, format!("no names in {name} come to this block")),
            }
        }
        found
    }
}

/// The narrowest of these zones that holds a name.
fn nearest<'a>(zones: &'a [String], name: &str) -> Option<&'a String> {
    let above = zones.iter().filter(|zone| names::is_below(name, zone));
    // All of them are the name's end, so that the longest is the narrowest; the root has no length.
    above.max_by_key(|zone| zone.trim_matches('.').len())
}

/// The zones of a block that pods can reach.
fn zones(block: &Block, notes: &mut Notes) -> Vec<String> {
    let mut zones = Vec::new();
    for text in &block.keys {
        match names::key(text) {
            Ok(key) if key.port.is_none_or(|port| port == 53) => zones.extend(key.zones),
            Ok(key) => {
                let port = key.port.unwrap_or_default();
                let instead = format!("pods ask at port 53, not at {port}; the block is left out");
                notes.at(block.line, text, instead);
            }
            Err(instead) => notes.at(block.line, text, instead),
        }
    }
    zones
}
