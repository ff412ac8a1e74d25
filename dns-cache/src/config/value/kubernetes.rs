//! Names of Kubernetes objects, and the API server's URL.

use std::net::{IpAddr, Ipv6Addr};

use super::super::{ApiServer, Excluded, ExcludedPods};
use super::{name, network, quoted};

const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// Characters of a label (RFC 1123).
const LONGEST_LABEL: usize = 63;

/// A Service's name (RFC 1035 label).
pub(in super::super) fn service(text: &str) -> Result<String, String> {
    label(text)
}

/// A namespace's name (RFC 1123 label).
pub(in super::super) fn label(text: &str) -> Result<String, String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_label = text.len() <= LONGEST_LABEL
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c == '-' || edge(Some(c)));
    if is_label {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} is not a name of Kubernetes; give at most {LONGEST_LABEL} lower-case letters, digits and -, as in kube-dns",
        quoted(text)
    ))
}

/// A Node's name (RFC 1123 subdomain).
pub(in super::super) fn node(text: &str) -> Result<String, String> {
    let whole = name::domain(text)?;
    match whole.split('.').find_map(|part| label(part).err()) {
        Some(error) => Err(error),
        None => Ok(whole),
    }
}

/// Pods: `NAMESPACE`, `NAMESPACE/NAME`, or an address or a network.
pub(in super::super) fn pods(text: &str) -> Result<Excluded, String> {
    // No namespace has these in its name.
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(['.', ':']) {
        return network::network(text).map(Excluded::At);
    }
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace, Some(node(name)?)),
        None => (text, None),
    };
    Ok(Excluded::Named(ExcludedPods {
        namespace: label(namespace)?,
        name,
    }))
}

/// `https://HOST[:PORT]`, or to this machine, as `kubectl proxy` serves it, `http://`.
pub(in super::super) fn api_server(text: &str) -> Result<ApiServer, String> {
    let allowed = "give https://HOST:PORT, as in https://10.96.0.1:443";
    let wrong = |what: &str| format!("{} {what}; {allowed}", quoted(text));
    let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (true, rest)
    } else if let Some(rest) = text.strip_prefix("http://") {
        (false, rest)
    } else {
        return Err(wrong("is not a URL of an API server"));
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) if port != 0 => (host, port),
            _ => return Err(wrong("has no port from 1 to 65535 behind its colon")),
        },
        _ => (authority, if tls { HTTPS } else { HTTP }),
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner.to_owned(),
        Some(_) => return Err(wrong("has no IPv6 address in its brackets")),
        None => name::server(host).map_err(|_| wrong("has no host name or address"))?,
    };
    let address = host.parse::<IpAddr>();
    if !tls && !address.is_ok_and(|address| address.is_loopback()) {
        return Err(wrong(
            "would be asked in the clear, which is for 127.0.0.1 and [::1] alone",
        ));
    }
    Ok(ApiServer { tls, host, port })
}

#[cfg(test)]
mod tests {
    use super::super::super::Network;
    use super::*;

    #[test]
    fn urls_of_api_servers() {
        for (text, tls, host, port) in [
            ("https://10.96.0.1", true, "10.96.0.1", 443),
            ("https://10.96.0.1:6443/", true, "10.96.0.1", 6443),
            ("https://api.example:6443", true, "api.example", 6443),
            ("https://[fd00::1]", true, "fd00::1", 443),
            ("https://[fd00::1]:1", true, "fd00::1", 1),
            ("http://127.0.0.1:8001", false, "127.0.0.1", 8001),
            ("http://[::1]", false, "::1", 80),
        ] {
            let host = host.to_owned();
            assert_eq!(api_server(text), Ok(ApiServer { tls, host, port }));
        }
        for (text, what) in [
            ("10.96.0.1:443", "is not a URL"),
            ("https://10.96.0.1:0", "has no port"),
            ("https://10.96.0.1:x", "has no port"),
            ("https://", "has no host name"),
            ("https://a/b", "has no host name"),
            ("https://[x]:1", "has no IPv6 address"),
            ("http://10.96.0.1", "in the clear"),
            ("http://localhost:8001", "in the clear"),
        ] {
            let error = api_server(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn names() {
        for good in ["kube-dns", "a", "0", &"x".repeat(63)] {
            assert_eq!(label(good), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", "a.b", "A", "a_b", &"x".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(
            node("ip-10-0-0-1.ec2.internal"),
            Ok("ip-10-0-0-1.ec2.internal".to_owned())
        );
        assert!(node("a_b").is_err());
        let named = |name: Option<&str>| {
            Ok(Excluded::Named(ExcludedPods {
                namespace: "db".to_owned(),
                name: name.map(str::to_owned),
            }))
        };
        assert_eq!(pods("db"), named(None));
        assert_eq!(pods("db/db-0"), named(Some("db-0")));
        for (text, address, prefix) in [("10.0.0.7", "10.0.0.7", 32), ("fd00::/64", "fd00::", 64)] {
            let network = Network::new(address.parse().unwrap(), prefix);
            assert_eq!(pods(text), Ok(Excluded::At(network)));
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "db/*",
            "10.0.0.7/24",
            "10.0/16",
            "fd00::x",
        ] {
            assert!(pods(bad).is_err(), "{bad}");
        }
    }
}
