//! Which servers are asked for a name.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use hickory_resolver::system_conf::parse_resolv_conf;
use nix::net::if_::if_nametoindex;

use super::Error;
use crate::config::{self, Config, TtlCaps, Upstream};
use crate::upstream::{Group, Timings, Transport};

const DNS_PORT: u16 = 53;

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
}

impl Zones {
    pub(super) fn new(config: &Config, timings: Timings) -> Result<Self, Error> {
        let mut this = Self {
            zones: Vec::new(),
            by_name: HashMap::new(),
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
            let servers =
                system_servers(&config.resolv_conf, &config.listen).unwrap_or_else(|error| {
                    tracing::warn!("{error}; names outside the configured zones will get SERVFAIL");
                    Vec::new()
                });
            let servers: Vec<_> = servers.into_iter().map(Upstream::from).collect();
            let transport = &config.default_transport;
            this.add(".", &servers, transport, config.default_ttl, timings)?;
        }
        Ok(this)
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

/// The servers of a resolv.conf. Our own addresses are left out: to ask them is to ask ourselves.
fn system_servers(path: &Path, own: &[IpAddr]) -> Result<Vec<SocketAddr>, Error> {
    let error = |reason: String| Error::ResolvConf {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    let (config, _) = parse_resolv_conf(&text).map_err(|e| error(e.to_string()))?;
    let (ours, servers): (Vec<_>, Vec<_>) = config
        .name_servers()
        .iter()
        .filter_map(|server| {
            let address = address(server.ip, &text);
            if address.is_none() {
                tracing::warn!(ip = %server.ip, path = %path.display(), "skipped a link-local nameserver: the interface in its scope does not exist");
            }
            address
        })
        .partition(|server| own.contains(&server.ip()));
    for server in ours {
        tracing::warn!(ip = %server.ip(), path = %path.display(), "skipped a nameserver that is this cache's own address");
    }
    if servers.is_empty() {
        return Err(error(
            "it names no server that can be asked, but at most this cache itself".to_owned(),
        ));
    }
    Ok(servers)
}

/// A server's address. A link-local one needs its scope, by name or by number (RFC 4007 §11.2), which the
/// parser leaves out; `None` if there is no such interface.
fn address(ip: IpAddr, text: &str) -> Option<SocketAddr> {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let scope = scope(ip, text)?;
            let index = if_nametoindex(scope).ok().or_else(|| scope.parse().ok())?;
            Some(SocketAddrV6::new(ip, DNS_PORT, 0, index).into())
        }
        ip => Some(SocketAddr::new(ip, DNS_PORT)),
    }
}

/// The scope that a resolv.conf gives with a server's address.
fn scope(ip: Ipv6Addr, text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (address, scope) = line
            .trim()
            .strip_prefix("nameserver")?
            .trim()
            .split_once('%')?;
        (address.parse() == Ok(ip)).then_some(scope.split_whitespace().next()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
    fn servers_of_a_resolv_conf() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"nameserver 10.0.0.10\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch x\n",
        )
        .unwrap();
        let own = ["10.0.0.10".parse().unwrap()];
        assert_eq!(
            system_servers(file.path(), &own).unwrap(),
            [
                "192.0.2.53:53".parse().unwrap(),
                "[2001:db8::53]:53".parse().unwrap()
            ]
        );
    }

    #[test]
    fn link_local_servers_keep_their_scope() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"nameserver fe80::1%lo\nnameserver fe80::2%gone0\nnameserver fe80::3%7\nnameserver 192.0.2.53\n",
        )
        .unwrap();
        let lo = if_nametoindex("lo").unwrap();
        assert_eq!(
            system_servers(file.path(), &[]).unwrap(),
            [
                SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, lo).into(),
                SocketAddrV6::new("fe80::3".parse().unwrap(), 53, 0, 7).into(),
                "192.0.2.53:53".parse().unwrap(),
            ]
        );
    }

    #[test]
    fn a_resolv_conf_without_servers_says_what_to_do() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"nameserver 10.0.0.10\n").unwrap();
        let own = ["10.0.0.10".parse().unwrap()];
        for path in [file.path(), Path::new("/nonexistent/resolv.conf")] {
            let text = system_servers(path, &own).unwrap_err().to_string();
            assert!(
                text.contains(&*path.display().to_string()) && text.contains("nameserver"),
                "{text}"
            );
        }
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
