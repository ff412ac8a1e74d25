//! Zones and addresses as a Corefile writes them.

use std::net::IpAddr;

use super::super::value::name;

/// NodeLocalDNS's own address, in the place of `__PILLAR__LOCAL__DNS__`.
pub(super) const LOCAL_DNS: &str = "169.254.20.10";
/// What NodeLocalDNS's start-up puts into the file: the cluster DNS's addresses, and the node's own servers.
pub(super) const CLUSTER_DNS: &str = "__PILLAR__CLUSTER__DNS__";
pub(super) const UPSTREAM_SERVERS: &str = "__PILLAR__UPSTREAM__SERVERS__";
const PLACEHOLDERS: [(&str, &str); 2] = [
    ("__PILLAR__LOCAL__DNS__", LOCAL_DNS),
    ("__PILLAR__DNS__DOMAIN__", "cluster.local"),
];

/// The DNS Service's address, which Kubernetes tells.
pub(super) const DNS_SERVER: &str = "__PILLAR__DNS__SERVER__";

/// With the placeholders replaced whose value is known here.
pub(super) fn filled(text: &str) -> String {
    let fill = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
    PLACEHOLDERS.iter().fold(text.to_owned(), fill)
}

/// What a server block is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Zones, lower case, without trailing dot; `.` is the root. A network of addresses is several.
    pub(super) zones: Vec<String>,
    pub(super) port: Option<u16>,
}

/// A key, `[dns://]ZONE[:PORT]`; else what is wrong with it.
pub(super) fn key(text: &str) -> Result<Key, String> {
    let text = filled(text);
    let rest = match text.split_once("://") {
        None => text.as_str(),
        Some(("dns", rest)) => rest,
        Some((scheme, _)) => {
            return Err(format!(
                "pods are answered over UDP and TCP, not over {scheme}; the block is left out"
            ));
        }
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':') => {
            (host, port.parse().ok())
        }
        _ => (rest, None),
    };
    Ok(Key {
        zones: zones(host)?,
        port,
    })
}

/// A zone's name, or the reverse zones of a network.
pub(super) fn zones(text: &str) -> Result<Vec<String>, String> {
    let text = filled(text);
    match text.split_once('/') {
        Some((address, bits)) if address.parse::<IpAddr>().is_ok() => reverse(address, bits),
        // CoreDNS takes an empty host for the root.
        _ if text.is_empty() => Ok(vec![".".to_owned()]),
        _ => name::zone(&text).map(|zone| vec![zone]),
    }
}

/// The reverse zone of a network that ends where a label does.
fn reverse(address: &str, bits: &str) -> Result<Vec<String>, String> {
    let whole = || {
        format!(
            "{address}/{bits} does not end at a label of reverse names; give the zones by name, as in 10.in-addr.arpa"
        )
    };
    let bits: usize = bits.parse().map_err(|_| whole())?;
    let address: IpAddr = address.parse().map_err(|_| whole())?;
    let (labels, width, suffix): (Vec<String>, _, _) = match address {
        IpAddr::V4(v4) => (
            v4.octets().iter().map(ToString::to_string).collect(),
            8,
            "in-addr.arpa",
        ),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().flat_map(|b| [b >> 4, b & 15]);
            (nibbles.map(|n| format!("{n:x}")).collect(), 4, "ip6.arpa")
        }
    };
    if !bits.is_multiple_of(width) || bits / width > labels.len() {
        return Err(whole());
    }
    let labels = labels.into_iter().take(bits / width).rev();
    let labels: Vec<_> = labels.chain([suffix.to_owned()]).collect();
    Ok(vec![labels.join(".")])
}

/// Whether a zone holds names of addresses.
pub(super) fn is_reverse(zone: &str) -> bool {
    ["in-addr.arpa", "ip6.arpa"]
        .iter()
        .any(|top| is_below(zone, top))
}

/// Whether a zone is another one, or lies below it.
pub(super) fn is_below(zone: &str, top: &str) -> bool {
    top == "."
        || zone
            .strip_suffix(top)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Seconds in Go's notation (`1h30m`), or without a unit.
pub(super) fn seconds(text: &str) -> Option<u32> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit());
        let (unit, next) = behind.split_at(end.unwrap_or(behind.len()));
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = next;
    }
    Some(total as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let read = |text: &str| key(text).map(|key| (key.zones.concat(), key.port));
        let zone = |zone: &str, port| Ok((zone.to_owned(), port));
        assert_eq!(read("Cluster.Local:53"), zone("cluster.local", Some(53)));
        assert_eq!(read("."), zone(".", None));
        assert_eq!(read(".:5353"), zone(".", Some(5353)));
        assert_eq!(read(":53"), zone(".", Some(53)));
        assert_eq!(read("dns://corp.example."), zone("corp.example", None));
        assert_eq!(read("10.0.0.0/8"), zone("10.in-addr.arpa", None));
        assert_eq!(read("10.1.0.0/16:53"), zone("1.10.in-addr.arpa", Some(53)));
        assert_eq!(read("fd00::/8"), zone("d.f.ip6.arpa", None));
        assert_eq!(
            read("__PILLAR__DNS__DOMAIN__:53"),
            zone("cluster.local", Some(53))
        );
        assert!(read("tls://.").is_err() && read("10.0.0.0/12").is_err() && read("a..b").is_err());
    }

    #[test]
    fn durations() {
        for (text, found) in [
            ("30", Some(30)),
            ("1h", Some(3600)),
            ("1h30m", Some(5400)),
            ("1.5m", Some(90)),
            ("500ms", Some(0)),
            ("5", Some(5)),
            ("5d", None),
            ("x", None),
        ] {
            assert_eq!(seconds(text), found, "{text}");
        }
    }
}
