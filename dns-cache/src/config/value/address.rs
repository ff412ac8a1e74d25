//! Addresses that are listened on, and addresses of servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::super::Upstream;
use super::super::model::{DNS_PORT, DOT_PORT};
use super::quoted;

const WEIGHTS: RangeInclusive<u32> = 1..=1000;
const DISTANCES: RangeInclusive<u32> = 0..=1000;
/// What the datapath routes replies by in the resolver's namespace.
const DUMMY_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// An address that pods can send queries to.
pub(in super::super) fn listen(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(if text.parse::<SocketAddr>().is_ok() {
            format!(
                "{} has a port; give the address alone, the port is always 53",
                quoted(text)
            )
        } else if text.contains('/') {
            format!("{} is a network; give single addresses", quoted(text))
        } else {
            format!(
                "{} is not an IP address; give one such as 10.96.0.10 or fd00:10:96::a",
                quoted(text)
            )
        });
    };
    if address.is_loopback() {
        return Err(format!(
            "{address} is a loopback address, which never leaves a pod; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10"
        ));
    }
    match address {
        // RFC 7600 §4.8.
        IpAddr::V4(v4) if v4 == DUMMY_GATEWAY => Err(format!(
            "{address} is the gateway by which this cache itself reaches pods; give the DNS service's ClusterIP or a link-local address such as 169.254.20.10"
        )),
        // A pod sends to it on a link of its own choice, and the answer has no way back.
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(format!(
            "{address} is an IPv6 link-local address, which each link has for itself; give the DNS service's ClusterIP or a unique local address such as fd00:10:96::a"
        )),
        _ => unicast(address).map(|()| address),
    }
}

/// A host's address.
pub(in super::super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{} found; give an IPv4 or IPv6 address", quoted(text)))
}

/// A server and what is known of its place, as in `10.244.0.2 distance=1 weight=2`.
pub(in super::super) fn upstream(text: &str) -> Result<Upstream, String> {
    with_place(text, DNS_PORT)
}

/// As [`upstream`], with the port of DNS over TLS if none is given.
pub(in super::super) fn tls_upstream(text: &str) -> Result<Upstream, String> {
    with_place(text, DOT_PORT)
}

fn with_place(text: &str, port: u16) -> Result<Upstream, String> {
    let mut words = text.split_whitespace();
    let mut upstream = Upstream::from(server(words.next().unwrap_or_default(), port)?);
    for word in words {
        let (setting, allowed) = match word.split_once('=') {
            Some(("weight", value)) => (value.parse().map(|n| (&mut upstream.weight, n)), WEIGHTS),
            Some(("distance", value)) => (
                value.parse().map(|n| (&mut upstream.distance, n)),
                DISTANCES,
            ),
            _ => {
                return Err(format!(
                    "{} behind an address; allowed there are weight=N and distance=N",
                    quoted(word)
                ));
            }
        };
        match setting {
            Ok((place, number)) if allowed.contains(&number) => *place = number,
            _ => {
                return Err(format!(
                    "{} is out of range; give a whole number from {} to {}",
                    quoted(word),
                    allowed.start(),
                    allowed.end()
                ));
            }
        }
    }
    Ok(upstream)
}

/// A server: `IP`, `IP:PORT`, `[IPv6]:PORT`.
fn server(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bracketed = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
    };
    let address = if let Ok(address) = text.parse::<IpAddr>() {
        SocketAddr::new(address, port)
    } else if let Ok(address) = text.parse::<SocketAddr>() {
        address
    } else if let Some(address) = bracketed() {
        SocketAddr::new(address.into(), port)
    } else {
        let allowed = "give IP, IP:PORT or [IPv6]:PORT";
        return Err(if looks_like_name(text) {
            format!(
                "{} is a name; servers are given by address, because looking the name up would need the server: {allowed}",
                quoted(text)
            )
        } else {
            format!("{} is not a server's address; {allowed}", quoted(text))
        });
    };
    if address.port() == 0 {
        return Err(format!(
            "{} has port 0; give a port from 1 to 65535",
            quoted(text)
        ));
    }
    unicast(address.ip())?;
    Ok(address)
}

/// Where the metrics endpoint listens: `IP:PORT`, or `off`.
pub(in super::super) fn endpoint(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let allowed = "give IP:PORT such as 0.0.0.0:9253 or \"[::]:9253\", or off";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("{address} has port 0; {allowed}")),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(format!(
            "{} is not an address with a port; {allowed}",
            quoted(text)
        )),
    }
}

fn unicast(address: IpAddr) -> Result<(), String> {
    let what = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_multicast() {
        "a multicast address"
    } else if address == IpAddr::from([255, 255, 255, 255]) {
        "the broadcast address"
    } else if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        // On the wire this is IPv4: the kernel program would wait for it among the IPv6 packets.
        return Err(format!(
            "{address} is an IPv4-mapped IPv6 address; give {v4}"
        ));
    } else {
        return Ok(());
    };
    Err(format!(
        "{address} is {what}; give the address of one host or service"
    ))
}

fn looks_like_name(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    host.contains(|c: char| c.is_ascii_alphabetic())
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}
