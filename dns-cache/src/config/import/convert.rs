//! Server blocks, as parts of a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::defaults::CLUSTER_DOMAIN;
use super::super::value::address;
use super::Note;
use super::cache::{self, Shared, Ttl};
use super::corefile::{Corefile, Directive};
use super::forward::{self, Forward, Target};
use super::server::Server;
use super::{names, plugins, rewrite};

const NOT_DONE: &str = "not done here; the cluster's DNS can do it, for its own names and for zones in cluster.reverseZones";

/// What a configuration is made of.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) listen: Vec<String>,
    /// Those that are forwarded.
    pub(super) zones: BTreeMap<String, Zone>,
    /// Those with names that the cluster's DNS has to answer for itself, whomever a zone above is forwarded to.
    pub(super) made_there: BTreeSet<String>,
    pub(super) hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Zones in which there is no name.
    pub(super) blocked: Vec<String>,
    pub(super) shared: Shared,
    pub(super) notes: Vec<Note>,
    /// The zone of the plugin `kubernetes`.
    domain: Option<String>,
}

/// Who is asked for a zone, and how long its answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) forward: Forward,
    /// `None`: as usual.
    pub(super) ttl: Option<Ttl>,
    line: usize,
}

/// What has no counterpart.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    pub(super) fn add(&mut self, directive: &Directive, instead: impl Into<String>) {
        self.at(directive.line, &directive.name, instead);
    }

    pub(super) fn at(&mut self, line: usize, what: &str, instead: impl Into<String>) {
        self.0.push(Note {
            line,
            what: what.to_owned(),
            instead: instead.into(),
        });
    }
}

/// All that a Corefile says; `notes` are those of before.
pub(super) fn convert(corefile: &Corefile, mut notes: Notes) -> Imported {
    let mut imported = Imported::default();
    for directive in &corefile.imports {
        let instead = plugins::instead(&directive.name, &directive.args).unwrap_or_default();
        notes.add(directive, instead);
    }
    for server in Server::all(&corefile.blocks, &mut notes) {
        imported.server(&server, &mut notes);
    }
    imported.blocked.sort();
    imported.blocked.dedup();
    imported.notes = notes.0;
    imported
}

impl Imported {
    /// The zone of the cluster's own names, as far as it can be told: the first in the file for which it holds.
    pub(super) fn domain(&self) -> Option<&str> {
        let target = |zone: &str| self.zones.get(zone).map(|zone| &zone.forward.target);
        let first = |holds: &dyn Fn(&str) -> bool| {
            let is_own = |zone: &str| zone != "." && !names::is_reverse(zone);
            let found = self.zones.iter();
            let found = found.filter(|(zone, _)| is_own(zone) && holds(zone));
            found
                .min_by_key(|(_, zone)| zone.line)
                .map(|(name, _)| name)
        };
        let reverse = target("in-addr.arpa");
        self.domain
            .as_ref()
            .or_else(|| first(&|zone| zone == CLUSTER_DOMAIN))
            .or_else(|| first(&|zone| target(zone) == Some(&Target::Cluster)))
            // NodeLocalDNS's own form, with the address of its Service for CoreDNS filled in.
            .or_else(|| first(&|zone| target(zone) == reverse))
            .map(String::as_str)
    }

    fn server(&mut self, server: &Server<'_>, notes: &mut Notes) {
        let directives = &server.block.directives;
        let kubernetes = directives.iter().find(|d| d.name == "kubernetes");
        let served = kubernetes.map(|directive| {
            let zones = names_of(&directive.args, directive, notes);
            server.asked_for(directive, zones, notes)
        });
        let served = served.unwrap_or_default();
        let ttl = match directives.iter().find(|d| d.name == "cache") {
            Some(directive) => cache::read(directive, &served, &mut self.shared, notes),
            None => Ttl::NONE,
        };
        let mut taken = served.clone();
        for directive in directives {
            match &*directive.name {
                "cache" => {}
                "forward" | "proxy" => {
                    let from = directive.args.get(..1).unwrap_or_default();
                    let from = names_of(from, directive, notes);
                    let mut zones = server.asked_for(directive, from, notes);
                    // The plugin kubernetes goes before forward.
                    zones.retain(|zone| !served.contains(zone));
                    self.forward(directive, zones, ttl, &mut taken, notes);
                }
                "kubernetes" => {
                    let domain = served.iter();
                    let mut domain = domain.filter(|zone| !names::is_reverse(zone) && *zone != ".");
                    self.domain = self.domain.take().or_else(|| domain.next().cloned());
                    self.made_there.extend(served.iter().cloned());
                }
                "bind" => self.bind(directive, notes),
                "hosts" => self.hosts(directive, notes),
                "rewrite" => {
                    let found = rewrite::rewrite(directive).unwrap_or_default();
                    self.made_up(directive, found, server, notes);
                }
                "template" => match rewrite::template(directive) {
                    rewrite::Template::NoNames(zones) => {
                        let zones = server.asked_for(directive, zones, notes);
                        self.blocked.extend(zones);
                    }
                    rewrite::Template::Of(found) => self.made_up(directive, found, server, notes),
                },
                "prometheus" => {
                    let address = directive.args.first().map_or("localhost:9153", |arg| arg);
                    if !address.ends_with(":9253") {
                        notes.add(directive, "metrics are at metrics.listen, 0.0.0.0:9253");
                    }
                }
                name => {
                    if let Some(zones) = plugins::zones(name, &directive.args) {
                        let found = names_of(&zones, directive, notes);
                        self.held(directive, server.asked_for(directive, found, notes), notes);
                    } else if let Some(instead) = plugins::instead(name, &directive.args) {
                        notes.add(directive, instead);
                    }
                }
            }
        }
    }

    /// `forward FROM TO… { … }`; what a directive before it has taken goes there.
    fn forward(
        &mut self,
        directive: &Directive,
        zones: Vec<String>,
        ttl: Ttl,
        taken: &mut Vec<String>,
        notes: &mut Notes,
    ) {
        let Some(forward) = forward::read(directive, notes) else {
            return;
        };
        for zone in zones {
            if let Some(other) = taken.iter().find(|other| names::is_below(&zone, other)) {
                let instead = format!("names in {zone} go where this block sends those in {other}");
                notes.add(directive, instead);
                continue;
            }
            taken.push(zone.clone());
            if ttl == Ttl::NONE {
                notes.add(
                    directive,
                    format!("{zone} is not cached there, so its answers are not kept here either"),
                );
            }
            if let (Target::File(file), true) = (&forward.target, zone != ".") {
                notes.add(directive, format!("names in {zone} go where names of the zone above go, or of no zone, not to the servers in {file}"));
                continue;
            }
            let new = Zone {
                forward: forward.clone(),
                ttl: Some(ttl),
                line: directive.line,
            };
            let before = self
                .zones
                .entry(zone.clone())
                .or_insert_with(|| new.clone());
            if before.forward != new.forward {
                let instead = format!("names in {zone} go to the servers of line {}", before.line);
                notes.add(directive, instead);
            }
        }
    }

    /// Names that are made up or renamed, in these zones, or in all of the block if there are none. Where all of it
    /// has servers of its own it stays with them, unless the file is that of the cluster's DNS.
    fn made_up(
        &mut self,
        directive: &Directive,
        found: Vec<String>,
        server: &Server<'_>,
        notes: &mut Notes,
    ) {
        if found.is_empty() && server.has_forward() && !server.is_of_cluster {
            return notes.add(directive, NOT_DONE);
        }
        let zones = if found.is_empty() {
            vec![".".to_owned()]
        } else {
            found
        };
        self.held(directive, server.asked_for(directive, zones, notes), notes);
    }

    /// Names that only the cluster's DNS knows how to answer.
    fn held(&mut self, directive: &Directive, zones: Vec<String>, notes: &mut Notes) {
        let (root, zones): (Vec<_>, Vec<_>) = zones.into_iter().partition(|zone| zone == ".");
        if !zones.is_empty() {
            let names = zones.join(", ");
            notes.add(
                directive,
                format!("names in {names} go to the cluster's DNS, which has to do this"),
            );
        } else if !root.is_empty() {
            notes.add(directive, NOT_DONE);
        }
        self.made_there.extend(zones);
    }

    /// `bind ADDRESS…`
    fn bind(&mut self, directive: &Directive, notes: &mut Notes) {
        let words = directive.args.iter().flat_map(|arg| arg.split(','));
        for text in words.filter(|text| !text.is_empty() && *text != names::DNS_SERVER) {
            let text = names::filled(text);
            match address::listen(&text) {
                Ok(address) if self.listen.contains(&address.to_string()) => {}
                Ok(address) => self.listen.push(address.to_string()),
                Err(_) if matches!(&*text, "0.0.0.0" | "::") => {}
                Err(error) => notes.add(directive, error),
            }
        }
    }

    /// `hosts [FILE [ZONES…]] { ADDRESS NAME… }`
    fn hosts(&mut self, directive: &Directive, notes: &mut Notes) {
        if let Some(file) = directive.args.first() {
            notes.add(
                directive,
                format!("{file} is not read; import what stands in it as hosts"),
            );
        }
        let mut falls_through = false;
        for option in &directive.block {
            if let Ok(address) = option.name.parse::<IpAddr>() {
                for host in &option.args {
                    match super::super::value::name::domain(host) {
                        Ok(host) => {
                            let addresses = self.hosts.entry(host).or_default();
                            if !addresses.contains(&address) {
                                addresses.push(address);
                            }
                        }
                        Err(error) => notes.add(option, error),
                    }
                }
                continue;
            }
            match &*option.name {
                "fallthrough" => falls_through = true,
                "reload" => {}
                "ttl" => notes.add(option, "hosts have a TTL of 30 s"),
                "no_reverse" => notes.add(option, "the addresses' reverse names lead to the hosts"),
                _ => notes.add(option, "unknown; ignored"),
            }
        }
        if !falls_through && !directive.block.is_empty() {
            notes.add(
                directive,
                "names that are not among these are asked for as any others",
            );
        }
    }
}

/// The zones that a plugin names; the root if it names none.
fn names_of(args: &[String], directive: &Directive, notes: &mut Notes) -> Vec<String> {
    if args.is_empty() {
        return vec![".".to_owned()];
    }
    let mut found = Vec::new();
    for arg in args {
        match names::zones(arg) {
            Ok(named) => found.extend(named),
            Err(error) => notes.add(directive, error),
        }
    }
    found
}
