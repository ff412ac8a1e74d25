//! Which servers are asked for a name.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Error;
use super::resolv_conf::ResolvConf;
use crate::config::{self, Config, TtlCaps, Upstream};
use crate::upstream::{Group, Timings, Transport};

/// Servers that share a purpose: the cluster's, a stub zone's, or everybody else's.
#[derive(Debug)]
pub(super) struct Zone {
    /// The name under which it is shown.
    pub(super) name: String,
    pub(super) caps: TtlCaps,
    pub(super) group: Group,
}

/// All zones; the longest match wins.
#[derive(Debug)]
pub(super) struct Zones {
    zones: Vec<Zone>,
    /// Zone names in wire form and lower case.
    by_name: HashMap<Box<[u8]>, usize>,
    /// Where the servers of the last zone stand, if the configuration names none for it.
    resolv_conf: Option<Mutex<ResolvConf>>,
}

impl Zones {
    pub(super) fn new(config: &Config, timings: Timings) -> Result<Self, Error> {
        let mut this = Self {
            zones: Vec::new(),
            by_name: HashMap::new(),
            resolv_conf: None,
        };
        let cluster = &config.cluster;
        let transport = &cluster.transport;
        this.add(
            &cluster.domain,
            &cluster.upstreams,
            transport,
            cluster.ttl,
            timings,
        )?;
        for reverse in &cluster.reverse_zones {
            this.by_name.insert(wire_name(reverse)?, 0);
        }
        for zone in &config.zones {
            this.add(
                &zone.zone,
                &zone.upstreams,
                &zone.transport,
                zone.ttl,
                timings,
            )?;
        }
        if !this.by_name.contains_key(&[0][..]) {
            let transport = &config.default_transport;
            this.add(".", &[], transport, config.default_ttl, timings)?;
            let mut resolv_conf = ResolvConf::new(&config.resolv_conf, &config.listen);
            if let Some(zone) = this.zones.last() {
                resolv_conf.reread(&zone.group);
            }
            this.resolv_conf = Some(Mutex::new(resolv_conf));
        }
        Ok(this)
    }

    /// Looks whether resolv.conf has changed. What it does not name any more gets no new queries.
    pub(super) fn reread_resolv_conf(&self) {
        if let (Some(resolv_conf), Some(zone)) = (&self.resolv_conf, self.zones.last()) {
            let mut resolv_conf = resolv_conf.lock().unwrap_or_else(PoisonError::into_inner);
            resolv_conf.reread(&zone.group);
        }
    }

    /// The zone of a name in wire form and lower case.
    pub(super) fn of(&self, name: &[u8]) -> Option<&Zone> {
        let mut rest = name;
        loop {
            if let Some(index) = self.by_name.get(rest) {
                return self.zones.get(*index);
            }
            let label = usize::from(*rest.first().filter(|len| **len != 0)?);
            rest = rest.get(1 + label..)?;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// The name of each zone in wire form, and the servers that are asked for it.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.by_name
            .iter()
            .filter_map(|(name, index)| Some((&**name, &self.zones.get(*index)?.group)))
    }

    fn add(
        &mut self,
        name: &str,
        servers: &[Upstream],
        transport: &config::Transport,
        caps: TtlCaps,
        timings: Timings,
    ) -> Result<(), Error> {
        let transport = Transport::new(transport).map_err(|reason| Error::Tls {
            zone: name.to_owned(),
            reason,
        })?;
        self.by_name.insert(wire_name(name)?, self.zones.len());
        self.zones.push(Zone {
            name: name.to_owned(),
            caps,
            group: Group::new(servers, transport, timings),
        });
        Ok(())
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
