//! Networks: an address and how many of its bits count.

use std::net::IpAddr;

use super::super::Network;
use super::quoted;

/// `10.244.0.0/16`, `fd00:10:244::/48`, or a single address.
pub(in super::super) fn network(text: &str) -> Result<Network, String> {
    let advice = "give one such as 10.244.0.0/16, fd00:10:244::/48 or a single address";
    let (address, prefix) = text
        .split_once('/')
        .map_or((text, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!("{} is not a network; {advice}", quoted(text)));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(str::parse::<u8>) {
        None => longest,
        Some(Ok(prefix)) if prefix <= longest => prefix,
        Some(_) => {
            let found = quoted(text);
            return Err(format!(
                "{found} has no length from 0 to {longest} behind its slash; {advice}"
            ));
        }
    };
    let network = Network::new(address, prefix);
    if network.address != address {
        let found = quoted(text);
        return Err(format!(
            "{found} is an address in {network}; give that, or the address alone"
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_single_addresses() {
        for (text, shown) in [
            ("10.244.0.0/16", "10.244.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("fd00::/8", "fd00::/8"),
            ("fd00::1", "fd00::1/128"),
        ] {
            assert_eq!(
                network(text).map(|network| network.to_string()).as_deref(),
                Ok(shown)
            );
        }
        for (text, part) in [
            ("10.244.0.0/33", "from 0 to 32"),
            ("10.244.0.0/", "from 0 to 32"),
            ("fd00::/x", "from 0 to 128"),
            ("10.244.0.7/16", "is an address in 10.244.0.0/16"),
            ("pods", "is not a network"),
        ] {
            let error = network(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
