//! A network: the addresses that begin with the same bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network (RFC 4632); the bits of its address behind the prefix are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// How many bits its addresses have in common: 0 to 32, or to 128.
    pub prefix: u8,
}

impl Network {
    /// The network of so many bits that the address is in.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let prefix_bits = u32::from(prefix);
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - prefix_bits.min(32)).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - prefix_bits.min(128))
                    .unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        };
        Self { address, prefix }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self::new(address, self.prefix).address == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_it_or_not() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, prefix, inside, outside) in [
            ("10.244.0.0", 16, "10.244.255.255", "10.245.0.0"),
            ("10.244.0.1", 32, "10.244.0.1", "10.244.0.0"),
            ("0.0.0.0", 0, "255.255.255.255", "::ffff:1.2.3.4"),
            ("fd00:10::", 32, "fd00:10:ffff::1", "fd00:11::"),
            ("::", 0, "fd00::1", "10.0.0.1"),
            ("fd00::1", 128, "fd00::1", "fd00::2"),
        ] {
            let network = Network::new(address(network), prefix);
            assert!(network.contains(address(inside)), "{network} {inside}");
            assert!(!network.contains(address(outside)), "{network} {outside}");
        }
    }
}
