//! Server blocks, as parts of a configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::defaults::CLUSTER_DOMAIN;
use super::super::value::address;
use super::Note;
use super::cache::{self, Shared, Ttl};
use super::corefile::{Block, Directive};
use super::forward::{self, Forward, Target};
use super::{names, plugins, rewrite};

/// What a configuration is made of.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) listen: Vec<String>,
    pub(super) zones: BTreeMap<String, Zone>,
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
}

/// What has no counterpart.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    pub(super) fn add(&mut self, directive: &Directive, instead: impl Into<String>) {
        self.at(directive.line, &directive.name, instead);
    }

    fn at(&mut self, line: usize, what: &str, instead: impl Into<String>) {
        self.0.push(Note {
            line,
            what: what.to_owned(),
            instead: instead.into(),
        });
    }
}

/// All blocks of a Corefile.
pub(super) fn convert(blocks: &[Block]) -> Imported {
    let mut imported = Imported::default();
    let mut notes = Notes::default();
    for block in blocks {
        let zones = zones(block, &mut notes);
        if !zones.is_empty() {
            imported.block(block, &zones, &mut notes);
        }
    }
    imported.blocked.sort();
    imported.blocked.dedup();
    imported.notes = notes.0;
    imported
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

impl Imported {
    /// The zone of the cluster's own names, as far as it can be told.
    pub(super) fn domain(&self) -> Option<&str> {
        let is_own = |zone: &&String| *zone != "." && !names::is_reverse(zone);
        let names = || self.zones.keys().filter(is_own);
        let is_cluster = |zone: &&String| self.zones[*zone].forward.target == Target::Cluster;
        let reverse = self
            .zones
            .get("in-addr.arpa")
            .map(|zone| &zone.forward.target);
        let is_as_reverse = |zone: &&String| Some(&self.zones[*zone].forward.target) == reverse;
        self.domain
            .as_ref()
            .or_else(|| names().find(|zone| *zone == CLUSTER_DOMAIN))
            .or_else(|| names().find(is_cluster))
            // NodeLocalDNS's own form, with the address of its Service for CoreDNS filled in.
            .or_else(|| names().find(is_as_reverse))
            .map(String::as_str)
    }

    fn block(&mut self, block: &Block, zones: &[String], notes: &mut Notes) {
        let kubernetes = block.directives.iter().find(|d| d.name == "kubernetes");
        let served = kubernetes.map(|directive| names_of(&directive.args, zones, directive, notes));
        let served = served.unwrap_or_default();
        let ttl = match block.directives.iter().find(|d| d.name == "cache") {
            Some(directive) => cache::read(directive, &served, &mut self.shared, notes),
            None => Ttl::NONE,
        };
        for directive in &block.directives {
            match &*directive.name {
                "cache" => {}
                "forward" | "proxy" => self.forward(directive, zones, ttl, notes),
                "kubernetes" => {
                    for zone in &served {
                        if !names::is_reverse(zone) && zone != "." {
                            self.domain.get_or_insert_with(|| zone.clone());
                        }
                        self.give_to_cluster(zone);
                    }
                }
                "bind" => self.bind(directive, notes),
                "hosts" => self.hosts(directive, notes),
                "rewrite" => {
                    let found = rewrite::rewrite(directive).unwrap_or_default();
                    self.stays_there(directive, found, zones, notes);
                }
                "template" => match rewrite::template(directive) {
                    rewrite::Template::NoNames(zones) => self.blocked.extend(zones),
                    rewrite::Template::Of(found) => {
                        self.stays_there(directive, found, zones, notes);
                    }
                },
                "prometheus" => {
                    let address = directive.args.first().map_or("localhost:9153", |arg| arg);
                    if !address.ends_with(":9253") {
                        notes.add(directive, "metrics are at metrics.listen, 0.0.0.0:9253");
                    }
                }
                name if plugins::has_names(name) => {
                    // What is no zone among the arguments is a file or a URL.
                    let found = directive
                        .args
                        .iter()
                        .filter_map(|arg| names::zones(arg).ok());
                    let found = found.flatten().filter(|zone| zone != ".").collect();
                    self.stays_there(directive, found, zones, notes);
                }
                name => {
                    if let Some(instead) = plugins::instead(name) {
                        notes.add(directive, instead);
                    }
                }
            }
        }
    }

    /// `forward FROM TO… { … }`
    fn forward(&mut self, directive: &Directive, zones: &[String], ttl: Ttl, notes: &mut Notes) {
        let Some(forward) = forward::read(directive, notes) else {
            return;
        };
        let from = directive.args.iter().take(1);
        let from: Vec<_> = from.cloned().collect();
        let found = names_of(&from, zones, directive, notes);
        // What a block is for is more than what is forwarded, unless that is its root.
        let (narrow, whole): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|zone| zones.iter().any(|block| names::is_below(zone, block)));
        let whole = if whole.is_empty() {
            Vec::new()
        } else {
            zones.to_vec()
        };
        for zone in narrow.into_iter().chain(whole) {
            if ttl == Ttl::NONE {
                notes.add(
                    directive,
                    format!("{zone} is not cached there, so its answers are not kept here either"),
                );
            }
            match &forward.target {
                Target::File(file) if zone != "." => {
                    notes.add(directive, format!("names in {zone} go where names of no zone go, not to the servers in {file}"));
                }
                // The plugin kubernetes goes before forward.
                _ => {
                    let ttl = Some(ttl);
                    let forward = forward.clone();
                    self.zones.entry(zone).or_insert(Zone { forward, ttl });
                }
            }
        }
    }

    /// Names that only the cluster's DNS knows how to answer; if none are found, all that the block is for.
    fn stays_there(
        &mut self,
        directive: &Directive,
        found: Vec<String>,
        block: &[String],
        notes: &mut Notes,
    ) {
        let zones = if found.is_empty() {
            block.to_vec()
        } else {
            found
        };
        let (root, zones): (Vec<_>, Vec<_>) = zones.into_iter().partition(|zone| zone == ".");
        for zone in &zones {
            self.give_to_cluster(zone);
        }
        let instead = match (zones.is_empty(), root.is_empty()) {
            (false, _) => format!("names in {} go to the cluster's DNS, which has to do this", zones.join(", ")),
            (true, false) => "not done here; give the zones that it is for to cluster.reverseZones, and the cluster's DNS does it for them".to_owned(),
            (true, true) => "not done here".to_owned(),
        };
        notes.add(directive, instead);
    }

    fn give_to_cluster(&mut self, zone: &str) {
        let to_cluster = Zone {
            forward: Forward::to_cluster(),
            ttl: None,
        };
        self.zones.insert(zone.to_owned(), to_cluster);
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

/// The zones that a plugin names; those of its block if it names none, or the root.
fn names_of(
    args: &[String],
    zones: &[String],
    directive: &Directive,
    notes: &mut Notes,
) -> Vec<String> {
    let mut found = Vec::new();
    for arg in args {
        match names::zones(arg) {
            Ok(named) => found.extend(named),
            Err(error) => notes.add(directive, error),
        }
    }
    found.retain(|zone| zone != ".");
    if found.is_empty() && args.iter().all(|arg| names::zones(arg).is_ok()) {
        found = zones.to_vec();
    }
    found
}
