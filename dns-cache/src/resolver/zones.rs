//! Which servers are asked for a name.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::counters::Counter;
use super::cuts::Cuts;
use super::local::Local;
use super::resolv_conf::ResolvConf;
use crate::config::{self, Config, TtlCaps, Upstream};
use crate::upstream::{Group, Timings, TlsError, Transport};

/// Servers that share a purpose: the cluster's, a stub zone's, or everybody else's.
#[derive(Debug)]
pub(super) struct Zone {
    /// The name under which it is shown.
    pub(super) name: String,
    pub(super) caps: TtlCaps,
    pub(super) group: Arc<Group>,
    pub(super) counts: Arc<Counts>,
    origin: Origin,
}

/// What is counted of a zone, as long as the configuration has one of this name.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Queries that its servers had to be asked for.
    pub(super) misses: Counter,
    /// Those of them that got an error because no answer was to be had.
    pub(super) failures: Counter,
    /// Queries answered with an entry whose TTL is over (RFC 8767).
    pub(super) stale: Counter,
}

/// Where the servers of a zone come from, and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    servers: Servers,
    transport: config::Transport,
}

/// Who says which servers a zone has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Servers {
    /// The configuration.
    Named(Vec<Upstream>),
    /// The cluster: whichever they are, they know the same, and so what they answered stays cached.
    Discovered,
    /// A file, and so as with the cluster's.
    File(PathBuf),
}

/// All zones; the longest match wins.
#[derive(Debug)]
pub(super) struct Zones {
    zones: Vec<Arc<Zone>>,
    /// Zone names in wire form and lower case.
    by_name: HashMap<Box<[u8]>, usize>,
    /// Where the servers of the last zone stand, if the configuration names none for it.
    resolv_conf: Option<Mutex<ResolvConf>>,
    pub(super) cuts: Arc<Cuts>,
    pub(super) local: Local,
    timings: Timings,
}

impl Zones {
    pub(super) fn new(config: &Config, timings: Timings) -> Result<Self, Error> {
        let this = Self::read(config, timings, None)?;
        let _ = this.reread_resolv_conf();
        // As with a server in the configuration; while the agent runs, a file may come to that, and the rest goes on.
        if let Some(error @ Error::Ourselves { .. }) = this.resolv_conf_error() {
            return Err(error);
        }
        Ok(this)
    }

    /// The zones of a configuration that takes the place of this one's. What is the same is taken over: a whole
    /// zone, or a zone's servers and the connections to them.
    pub(super) fn reload(&self, config: &Config) -> Result<Self, Error> {
        let mut new = Self::read(config, self.timings, Some(self))?;
        if new.cuts.are_as(&self.cuts) {
            new.cuts = Arc::clone(&self.cuts);
        }
        for zone in &mut new.zones {
            if let Some(old) = self.zones.iter().find(|old| old.name == zone.name) {
                *zone = zone.taking_over(old);
            }
        }
        if config.kubernetes.is_some()
            && let Some(cluster) = new.zones.first()
        {
            cluster.group.set(&config.cluster.upstreams);
        }
        let _ = new.renew_authorities();
        let _ = new.reread_resolv_conf();
        Ok(new)
    }

    /// `old` is what these take the place of.
    fn read(config: &Config, timings: Timings, old: Option<&Self>) -> Result<Self, Error> {
        let mut this = Self {
            zones: Vec::new(),
            by_name: HashMap::new(),
            resolv_conf: None,
            cuts: Arc::new(Cuts::new(config)?),
            local: Local::new(config)?,
            timings,
        };
        let cluster = &config.cluster;
        let named = |servers: &[_]| Servers::Named(servers.to_vec());
        let servers = match config.kubernetes {
            Some(_) => Servers::Discovered,
            None => named(&cluster.upstreams),
        };
        let origin = Origin::new(servers, &cluster.transport);
        this.add(
            &cluster.domain,
            origin,
            &cluster.upstreams,
            cluster.ttl,
            old,
        )?;
        for reverse in &cluster.reverse_zones {
            this.by_name.insert(wire_name(reverse)?, 0);
        }
        for zone in &config.zones {
            let origin = Origin::new(named(&zone.upstreams), &zone.transport);
            this.add(&zone.zone, origin, &zone.upstreams, zone.ttl, old)?;
        }
        if !this.by_name.contains_key(&[0][..]) {
            let file = Servers::File(config.resolv_conf.clone());
            let origin = Origin::new(file, &config.default_transport);
            this.add(".", origin, &[], config.default_ttl, old)?;
            let resolv_conf = ResolvConf::new(&config.resolv_conf, &config.listen);
            this.resolv_conf = Some(Mutex::new(resolv_conf));
        }
        Ok(this)
    }

    /// Looks whether resolv.conf has changed, and says so. What it does not name any more gets no new queries.
    pub(super) fn reread_resolv_conf(&self) -> bool {
        let (Some(resolv_conf), Some(zone)) = (&self.resolv_conf, self.zones.last()) else {
            return false;
        };
        let mut resolv_conf = resolv_conf.lock().unwrap_or_else(PoisonError::into_inner);
        resolv_conf.reread(&zone.group)
    }

    /// Why resolv.conf, as it was last read, gives no servers.
    pub(super) fn resolv_conf_error(&self) -> Option<Error> {
        let resolv_conf = self.resolv_conf.as_ref()?.lock();
        let resolv_conf = resolv_conf.unwrap_or_else(PoisonError::into_inner);
        resolv_conf.error().cloned()
    }

    /// Takes up what the files of authorities say by now. Returns what is wrong with one, by the zone's name.
    pub(super) fn renew_authorities(&self) -> HashMap<String, TlsError> {
        let mut wrong = HashMap::new();
        for zone in &self.zones {
            match zone.group.renew_authorities() {
                Ok(true) => tracing::info!(zone = zone.name, "new authorities for TLS"),
                Ok(false) => {}
                Err(error) => drop(wrong.insert(zone.name.clone(), error)),
            }
        }
        wrong
    }

    /// How the servers of the zone of this name are asked, if that is what the configuration says.
    fn transport(&self, name: &str, configured: &config::Transport) -> Option<Transport> {
        let mut zones = self.zones.iter();
        let zone = zones.find(|zone| zone.name == name && zone.origin.transport == *configured)?;
        Some(Transport::clone(&zone.group.transport()))
    }

    /// The zone of a name in wire form and lower case.
    pub(super) fn of(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        self.zones.get(self.index_of(name)?)
    }

    /// Where [`Self::iter`] has it.
    pub(super) fn index_of(&self, name: &[u8]) -> Option<usize> {
        let mut rest = name;
        loop {
            if let Some(index) = self.by_name.get(rest) {
                return Some(*index);
            }
            let label = usize::from(*rest.first().filter(|len| **len != 0)?);
            rest = rest.get(1 + label..)?;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }

    /// The name of each zone in wire form, and the servers that are asked for it.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.by_name
            .iter()
            .filter_map(|(name, index)| Some((&**name, &*self.zones.get(*index)?.group)))
    }

    /// Whether a name in wire form and lower case has the same servers and caps in both.
    pub(super) fn agree(&self, other: &Self, name: &[u8]) -> bool {
        match (self.of(name), other.of(name)) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (own, others) => own.is_none() && others.is_none(),
        }
    }

    fn add(
        &mut self,
        name: &str,
        origin: Origin,
        servers: &[Upstream],
        caps: TtlCaps,
        old: Option<&Self>,
    ) -> Result<(), Error> {
        let transport = Transport::new(&origin.transport);
        let transport = transport.map(|transport| match (transport, &origin.servers) {
            // A resolv.conf does not say how its servers are to be asked.
            (Transport::Tcp, Servers::File(_)) => Transport::TcpOrUdp,
            (transport, _) => transport,
        });
        let transport = transport.or_else(|reason| {
            // A file that broke since is nothing against what else is new; whoever follows the files tells of it.
            let known = old.and_then(|old| old.transport(name, &origin.transport));
            known.ok_or_else(|| Error::Tls {
                zone: name.to_owned(),
                reason,
            })
        })?;
        self.by_name.insert(wire_name(name)?, self.zones.len());
        self.zones.push(Arc::new(Zone {
            name: name.to_owned(),
            caps,
            group: Arc::new(Group::new(servers, transport, self.timings)),
            counts: Arc::default(),
            origin,
        }));
        Ok(())
    }
}

impl Origin {
    fn new(servers: Servers, transport: &config::Transport) -> Self {
        Self {
            servers,
            transport: transport.clone(),
        }
    }
}

impl Zone {
    /// This zone in the place of an old one of the same name. Servers that were discovered, or that another file
    /// names, take the place of the old one's afterwards.
    fn taking_over(self: &Arc<Self>, old: &Arc<Self>) -> Arc<Self> {
        let same_servers = self.origin.transport == old.origin.transport
            && match (&self.origin.servers, &old.origin.servers) {
                (Servers::File(_), Servers::File(_)) => true,
                (new, old) => new == old,
            };
        if self.origin == old.origin && self.caps == old.caps {
            return Arc::clone(old);
        }
        Arc::new(Self {
            name: self.name.clone(),
            caps: self.caps,
            group: Arc::clone(if same_servers {
                &old.group
            } else {
                &self.group
            }),
            counts: Arc::clone(&old.counts),
            origin: self.origin.clone(),
        })
    }
}

/// A zone's name in wire form and lower case.
pub(super) fn wire_name(name: &str) -> Result<Box<[u8]>, Error> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name
        .trim_end_matches('.')
        .split('.')
        .filter(|_| name != ".")
    {
        if label.is_empty() || label.len() > dns_cache_common::name::MAX_LABEL {
            return Err(Error::ZoneName(name.to_owned()));
        }
        wire.push(label.len() as u8);
        wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    wire.push(0);
    if wire.len() > dns_cache_common::name::MAX_LEN {
        return Err(Error::ZoneName(name.to_owned()));
    }
    Ok(wire.into())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use super::*;

    fn config(resolv_conf: &Path) -> Config {
        let zone = |zone: &str| config::Zone {
            zone: zone.to_owned(),
            upstreams: vec!["192.0.2.1:53".parse::<SocketAddr>().unwrap().into()],
            transport: config::Transport::Tcp,
            ttl: TtlCaps {
                positive: 30,
                negative: 30,
                minimum: 0,
            },
        };
        let mut config = crate::resolver::tests::config(&["192.0.2.2:53".parse().unwrap()]);
        config.zones = vec![zone("example"), zone("sub.cluster.local")];
        config.resolv_conf = resolv_conf.to_owned();
        config
    }

    fn name_of<'a>(zones: &'a Zones, name: &str) -> &'a str {
        &zones.of(&wire_name(name).unwrap()).unwrap().name
    }

    #[test]
    fn the_longest_match_wins() {
        let zones = Zones::new(&config(Path::new("/nonexistent")), Timings::default()).unwrap();
        for (name, zone) in [
            ("cluster.local", "cluster.local"),
            ("a.b.cluster.local", "cluster.local"),
            ("a.SUB.cluster.local", "sub.cluster.local"),
            ("xsub.cluster.local", "cluster.local"),
            ("xcluster.local", "."),
            ("local", "."),
            (".", "."),
            ("www.example", "example"),
            ("1.0.0.10.in-addr.arpa", "cluster.local"),
        ] {
            assert_eq!(name_of(&zones, name), zone, "{name}");
        }
    }

    #[test]
    fn what_stays_the_same_is_taken_over() {
        let mut config = config(Path::new("/nonexistent"));
        let old = Zones::new(&config, Timings::default()).unwrap();
        config.zones[0].ttl.positive = 5;
        let other: SocketAddr = "192.0.2.9:53".parse().unwrap();
        config.zones[1].upstreams = vec![other.into()];
        config.cluster.reverse_zones.pop();
        let new = old.reload(&config).unwrap();
        let of = |zones: &Zones, name| Arc::clone(zones.of(&wire_name(name).unwrap()).unwrap());
        for (name, agree, same_servers) in [
            ("a.cluster.local", true, true),
            ("www.example", false, true),
            ("a.sub.cluster.local", false, false),
            ("1.ip6.arpa", false, false),
            ("1.in-addr.arpa", true, true),
            (".", true, true),
        ] {
            assert_eq!(new.agree(&old, &wire_name(name).unwrap()), agree, "{name}");
            let (before, after) = (of(&old, name), of(&new, name));
            assert_eq!(
                Arc::ptr_eq(&before.group, &after.group),
                same_servers,
                "{name}"
            );
            // They are a name's, not its servers'.
            let same_zone = before.name == after.name;
            assert_eq!(
                Arc::ptr_eq(&before.counts, &after.counts),
                same_zone,
                "{name}"
            );
        }
        assert_eq!(of(&new, "www.example").caps.positive, 5);
    }

    /// While the agent runs, the zones that have nothing to do with it go on.
    #[test]
    fn a_resolv_conf_that_names_this_cache_alone_is_refused_at_the_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = config(file.path());
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write("nameserver 192.0.2.1\n");
        let zones = Zones::new(&config, Timings::default()).unwrap();
        write("nameserver 127.0.0.1\n");
        let error = Zones::new(&config, Timings::default()).unwrap_err();
        assert!(matches!(error, Error::Ourselves { .. }), "{error}");
        let zones = zones.reload(&config).unwrap();
        assert_eq!(zones.resolv_conf_error(), Some(error));
        assert_eq!(zones.of(b"\x01x\0").unwrap().group.status().len(), 1);
        // Nobody asks it, so it is nobody's loop.
        config.zones[0].zone = ".".to_owned();
        let zones = Zones::new(&config, Timings::default()).unwrap();
        assert_eq!(zones.resolv_conf_error(), None);
    }

    /// A file of authorities that broke, or has changed, since the zone's servers were first asked.
    #[test]
    fn a_broken_file_of_authorities_refuses_new_zones_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |pem: &[u8]| std::fs::write(file.path(), pem).unwrap();
        write(include_bytes!("../upstream/tests/ca.pem"));
        let tls = config::Transport::Tls(config::Tls {
            server_name: Some("dns.example".to_owned()),
            ca_file: file.path().to_owned(),
        });
        let mut config = config(Path::new("/nonexistent"));
        config.zones[0].transport = tls.clone();
        let old = Zones::new(&config, Timings::default()).unwrap();
        let name = wire_name("www.example").unwrap();
        write(b"");
        config.zones[1].ttl.positive = 5;
        let new = old.reload(&config).unwrap();
        assert!(new.agree(&old, &name));
        let mut other = config.clone();
        other.zones[1].transport = tls;
        let error = old.reload(&other).unwrap_err().to_string();
        assert!(error.contains("sub.cluster.local"), "{error}");
        // Its answers stay, whoever vouches for its servers.
        write(include_bytes!("../upstream/tests/server.pem"));
        let new = new.reload(&config).unwrap();
        assert!(new.agree(&old, &name));
        assert!(new.renew_authorities().is_empty());
    }

    /// Whatever servers the cluster names, their answers stay, and so do those that are named again.
    #[test]
    fn discovered_servers_come_and_go() {
        let mut config = config(Path::new("/nonexistent"));
        config.kubernetes = Some(kubernetes());
        let old = Zones::new(&config, Timings::default()).unwrap();
        let others =
            ["192.0.2.2:53", "192.0.2.7:53"].map(|text| text.parse::<SocketAddr>().unwrap());
        config.cluster.upstreams = others.map(Upstream::from).into();
        let new = old.reload(&config).unwrap();
        let name = wire_name("a.cluster.local").unwrap();
        assert!(new.agree(&old, &name));
        let servers = new.of(&name).unwrap().group.status();
        assert_eq!(
            servers.iter().map(|s| s.address).collect::<Vec<_>>(),
            others
        );
    }

    fn kubernetes() -> config::Kubernetes {
        config::Kubernetes {
            service: "kube-dns".to_owned(),
            namespace: "kube-system".to_owned(),
            node_name: None,
            intercept_service: true,
            intercept_endpoints: config::InterceptEndpoints::Auto,
            detach_when_refused: false,
            api_server: None,
            ca_file: "/nonexistent".into(),
            token_file: "/nonexistent".into(),
        }
    }

    #[test]
    fn servers_of_which_only_a_resolv_conf_speaks_may_be_without_tcp() {
        let zones = Zones::new(&config(Path::new("/nonexistent")), Timings::default()).unwrap();
        let is_sure = |name: &str| {
            let zone = zones.of(&wire_name(name).unwrap()).unwrap();
            matches!(*zone.group.transport(), Transport::Tcp)
        };
        assert!(is_sure("a.cluster.local") && is_sure("www.example") && !is_sure("example.org"));
    }

    #[test]
    fn the_root_may_have_servers_of_its_own() {
        let mut config = config(Path::new("/nonexistent"));
        config.zones[0].zone = ".".to_owned();
        let zones = Zones::new(&config, Timings::default()).unwrap();
        assert_eq!(zones.of(b"\x01x\0").unwrap().group.status().len(), 1);
        assert_eq!(zones.iter().count(), 3);
    }

    #[test]
    fn names_of_zones_are_checked() {
        assert_eq!(
            *wire_name("Cluster.Local").unwrap(),
            *b"\x07cluster\x05local\0"
        );
        assert_eq!(*wire_name("a.").unwrap(), *b"\x01a\0");
        for bad in ["", "a..b", &"x".repeat(64), &"x.".repeat(128)] {
            assert!(wire_name(bad).is_err(), "{bad}");
        }
    }
}
