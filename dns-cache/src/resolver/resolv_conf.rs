//! The servers for everything else: those that a resolv.conf names, for as long as it does.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::system_conf::parse_resolv_conf;
use nix::net::if_::if_nametoindex;
use tokio::time::{MissedTickBehavior, interval};

use super::{Error, Resolver};
use crate::config::Upstream;
use crate::upstream::Group;

const DNS_PORT: u16 = 53;
/// How often the file is looked at. By its contents: it may be replaced, mounted over, or a link to another.
const LOOK: Duration = Duration::from_secs(2);

/// A resolv.conf, and what was last read of it.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    /// Our own addresses: to ask them is to ask ourselves.
    own: Vec<IpAddr>,
    last: Option<Result<String, String>>,
    /// Why that gave no servers.
    error: Option<Error>,
}

impl ResolvConf {
    pub(super) fn new(path: &Path, own: &[IpAddr]) -> Self {
        Self {
            path: path.to_owned(),
            own: own.to_vec(),
            last: None,
            error: None,
        }
    }

    /// Gives the group the file's servers, if the file is another than before, and says whether it is. With a file that
    /// names none, the group keeps those that it has, but our own addresses.
    pub(super) fn reread(&mut self, group: &Group) -> bool {
        let text = text(&self.path);
        if self.last.as_ref() == Some(&text) {
            return false;
        }
        self.error = match servers(&self.path, &text, &self.own) {
            Ok(servers) => {
                tracing::info!(path = %self.path.display(), ?servers, "servers for everything else");
                let upstreams: Vec<_> = servers.iter().copied().map(Upstream::from).collect();
                group.set(&upstreams);
                None
            }
            Err(error) => {
                self.go_on_without(&error, group);
                Some(error)
            }
        };
        self.last = Some(text);
        true
    }

    /// Why the file gave no servers when it was last read.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    fn go_on_without(&self, error: &Error, group: &Group) {
        let before = group.status();
        let addresses = before.iter().map(|server| server.address);
        // With another configuration one of them may have become ours.
        let others = addresses.filter(|address| !self.own.contains(&address.ip()));
        let others: Vec<_> = others.map(Upstream::from).collect();
        if others.len() < before.len() {
            group.set(&others);
        }
        let instead = match others.is_empty() {
            true => "names outside the configured zones get SERVFAIL",
            false => "the servers of before stay",
        };
        match error {
            Error::Ourselves { .. } => tracing::error!("{error}; {instead}"),
            _ => tracing::warn!("{error}; {instead}"),
        }
    }
}

/// What is to be said of a resolv.conf before anybody is asked: lines that name one of our own addresses, and that no other
/// server is left. Nothing of a file that is not there: this machine may not be the node.
pub(crate) fn warnings(path: &Path, own: &[IpAddr]) -> Vec<String> {
    let text = text(path);
    let Ok(read) = &text else {
        return Vec::new();
    };
    let ours = lines(read).filter_map(|(line, server)| {
        let ip = server.split('%').next()?.parse().ok()?;
        let path = path.display();
        own.contains(&ip)
            .then(|| format!("{path}:{line}: {ip} is this cache's own address, and is left out"))
    });
    let rest = servers(path, &text, own).err();
    ours.chain(rest.map(|error| error.to_string())).collect()
}

impl Resolver {
    /// Follows the changes of resolv.conf, without end.
    pub async fn follow_resolv_conf(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if self.zones().reread_resolv_conf() {
                self.loops.forget();
            }
        }
    }
}

/// The file's text, whatever the encoding of its comments.
fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The servers of a resolv.conf, or of none. Our own addresses are left out: to ask them is to ask ourselves.
fn servers(
    path: &Path,
    text: &Result<String, String>,
    own: &[IpAddr],
) -> Result<Vec<SocketAddr>, Error> {
    let error = |reason: String| Error::ResolvConf {
        path: path.to_owned(),
        reason,
    };
    let text = text.as_ref().map_err(|reason| error(reason.clone()))?;
    let named = named(path, text);
    let all = named.len();
    let (ours, servers): (Vec<_>, Vec<_>) = named
        .into_iter()
        .filter_map(|ip| {
            let address = address(ip, text);
            if address.is_none() {
                tracing::warn!(%ip, path = %path.display(), "skipped a link-local nameserver: the interface in its scope does not exist");
            }
            address
        })
        .partition(|server| own.contains(&server.ip()));
    if !ours.is_empty() && ours.len() == all {
        return Err(Error::Ourselves {
            path: path.to_owned(),
            own: ours.iter().map(SocketAddr::ip).collect(),
        });
    }
    for server in ours {
        tracing::warn!(ip = %server.ip(), path = %path.display(), "skipped a nameserver that is this cache's own address");
    }
    if servers.is_empty() {
        let reason = "it names no server that can be asked";
        return Err(error(reason.to_owned()));
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
    lines(text).find_map(|(_, server)| {
        let (address, scope) = server.split_once('%')?;
        (address.parse() == Ok(ip)).then_some(scope)
    })
}

/// The addresses that a resolv.conf names. What else stands in it loses none of them: one domain of `search` that is no
/// name, and the parser has nothing but an error for the whole file.
fn named(path: &Path, text: &str) -> Vec<IpAddr> {
    if let Ok((config, _)) = parse_resolv_conf(text)
        && config.name_servers().len() == lines(text).count()
    {
        return config
            .name_servers()
            .iter()
            .map(|server| server.ip)
            .collect();
    }
    let address = |(line, server): (usize, &str)| {
        let ip = server.split('%').next()?.parse().ok();
        if ip.is_none() {
            tracing::warn!(path = %path.display(), line, server, "skipped a nameserver that is no IP address");
        }
        ip
    };
    lines(text).filter_map(address).collect()
}

/// What stands in each `nameserver` line, up to the next space, with the number of that line.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let line = line.split([';', '#']).next()?;
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| (number, words.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::upstream::{Timings, Transport};

    fn read(path: &Path, own: &[IpAddr]) -> Result<Vec<SocketAddr>, Error> {
        servers(path, &text(path), own)
    }

    /// What is odd, or wrong, in one line is nothing to the servers in others.
    #[test]
    fn no_line_loses_the_servers_of_another() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lo = if_nametoindex("lo").unwrap();
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, lo).into();
        let plain: SocketAddr = "192.0.2.53:53".parse().unwrap();
        let other: SocketAddr = "[2001:db8::53]:53".parse().unwrap();
        let long = format!("search {}.example\n", "x".repeat(64));
        let table: [(&[u8], &[SocketAddr]); 12] = [
            (b"", &[]),
            (
                b"options edns0 trust-ad ndots:5 timeout:1 retrans:1 retry:1 single-request-reopen bogus ndots:x\n",
                &[],
            ),
            (b"nameserfer 192.0.2.1\nfamily inet6\nlookup file bind\n", &[]),
            (b"# caf\xe9\n; \xff\xfe\n", &[]),
            (b"search caf\xe9.example\n", &[]),
            (b"search a..b\n", &[]),
            (long.as_bytes(), &[]),
            (b"sortlist 130.155.160.0/255.255.240.0 x\ndomain\nnameserver\n", &[]),
            (b"nameserver 192.0.2.300\nnameserver dns.example\n", &[]),
            (b"  nameserver\tfe80::1%lo # here\n", &[scoped]),
            (b"nameserver fe80::1%br-none.7\n", &[]),
            (b"search a..b\nnameserver fe80::1%lo;here\n", &[scoped]),
        ];
        for (text, more) in table {
            let good = [
                &b"nameserver 192.0.2.53\n"[..],
                text,
                b"nameserver 2001:db8::53\n",
            ];
            fs::write(file.path(), good.concat()).unwrap();
            let servers = [&[plain], more, &[other]].concat();
            let shown = String::from_utf8_lossy(text);
            assert_eq!(read(file.path(), &[]).unwrap(), servers, "{shown}");
        }
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
            read(file.path(), &own).unwrap(),
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
            read(file.path(), &[]).unwrap(),
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
            let text = read(path, &own).unwrap_err().to_string();
            assert!(
                text.contains(&*path.display().to_string()) && text.contains("nameserver"),
                "{text}"
            );
        }
        assert_eq!(
            read(file.path(), &own).unwrap_err().to_string(),
            format!(
                "{}: a loop: it names no server but 10.0.0.10, this cache's own; write a `nameserver` line with another \
                 one there, name another file in the configuration (resolvConf), or give the zone `.` upstreams of its own",
                file.path().display()
            )
        );
        // A server whose interface is not there yet is another one.
        fs::write(
            file.path(),
            "nameserver fe80::1%gone0\nnameserver 10.0.0.10\n",
        )
        .unwrap();
        let error = read(file.path(), &own).unwrap_err();
        assert!(matches!(error, Error::ResolvConf { .. }), "{error}");
    }

    #[test]
    fn a_loop_is_told_of_by_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = ["10.0.0.10".parse().unwrap()];
        let path = file.path().display();
        let ours = format!("{path}:2: 10.0.0.10 is this cache's own address, and is left out");
        for (text, expected) in [
            (
                "# x\nnameserver 10.0.0.10\nnameserver 192.0.2.1\n",
                vec![&*ours],
            ),
            ("nameserver 192.0.2.1\n", vec![]),
            (
                "# x\nnameserver 10.0.0.10\n",
                vec![&*ours, "a loop: it names no server but 10.0.0.10"],
            ),
        ] {
            fs::write(file.path(), text).unwrap();
            let said = warnings(file.path(), &own);
            assert_eq!(said.len(), expected.len(), "{text}");
            for (said, expected) in said.iter().zip(expected) {
                assert!(said.contains(expected), "{said}");
            }
        }
        assert!(warnings(Path::new("/nonexistent"), &own).is_empty());
    }

    #[test]
    fn changes_are_followed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let group = Group::new(&[], Transport::Tcp, Timings::default());
        let mut resolv_conf = ResolvConf::new(file.path(), &["10.0.0.10".parse().unwrap()]);
        for (text, servers, wrong) in [
            ("", vec![], "no server that can be asked"),
            ("nameserver 10.0.0.10\n", vec![], "a loop"),
            ("nameserver 192.0.2.1\n", vec!["192.0.2.1:53"], ""),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\n",
                vec!["192.0.2.1:53", "192.0.2.2:53"],
                "",
            ),
            // Nothing to ask is no reason to forget whom to ask.
            (
                "nameserver 10.0.0.10\n",
                vec!["192.0.2.1:53", "192.0.2.2:53"],
                "a loop",
            ),
            (
                "# none\n",
                vec!["192.0.2.1:53", "192.0.2.2:53"],
                "no server that can be asked",
            ),
            ("nameserver 2001:db8::1\n", vec!["[2001:db8::1]:53"], ""),
        ] {
            fs::write(file.path(), text).unwrap();
            resolv_conf.reread(&group);
            let now: Vec<_> = group
                .status()
                .iter()
                .map(|s| s.address.to_string())
                .collect();
            assert_eq!(now, servers, "{text}");
            let error = resolv_conf.error().map(ToString::to_string);
            assert_eq!(error.is_some(), !wrong.is_empty(), "{text}: {error:?}");
            assert!(error.unwrap_or_default().contains(wrong), "{text}");
        }
    }

    /// Another configuration is answered at the address of a server of before.
    #[test]
    fn a_server_that_is_this_cache_by_now_does_not_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let before = ["192.0.2.1:53", "192.0.2.2:53"].map(|text| text.parse::<SocketAddr>());
        let before = before.map(|address| Upstream::from(address.unwrap()));
        let group = Group::new(&before, Transport::Tcp, Timings::default());
        fs::write(file.path(), "nameserver 192.0.2.1\n").unwrap();
        let own = ["192.0.2.1".parse().unwrap()];
        ResolvConf::new(file.path(), &own).reread(&group);
        let now: Vec<_> = group.status().iter().map(|s| s.address).collect();
        assert_eq!(now, ["192.0.2.2:53".parse().unwrap()]);
    }
}
