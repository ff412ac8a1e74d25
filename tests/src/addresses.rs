//! The lab's address plan, the same in every lab: namespaces keep them apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kube-dns ClusterIP.
pub const CLUSTER_IP: Pair = Pair::new([10, 96, 0, 10], [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa]);
/// Addresses that only the agent answers at; the IPv6 one is unique local, for each link has its own link-local ones.
pub const LINK_LOCAL: Pair = Pair::new([169, 254, 20, 10], [0xfd00, 0x20, 0, 0, 0, 0, 0, 0xa]);
/// The node's address on every pod link.
pub const GATEWAY: Pair = Pair::new([10, 244, 0, 1], [0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1]);
/// The node's address towards the outside.
pub const NODE: Pair = Pair::new([192, 0, 2, 1], [0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 1]);
/// The resolver outside the cluster, which knows `example.com`.
pub const OUTSIDE: Pair = Pair::new([192, 0, 2, 53], [0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53]);
/// What kube-proxy takes for addresses of pods.
pub const CLUSTER_CIDR: (&str, &str) = ("10.244.0.0/16", "fd00:10:244::/48");

/// The address of the pod with this number (2…250) on the node.
#[must_use]
pub fn pod(number: u16) -> Pair {
    assert!(
        (2..=250).contains(&number),
        "the lab's pod subnet has room for the numbers 2 to 250, not {number}"
    );
    Pair::new(
        [10, 244, 0, number as u8],
        [0xfd00, 0x10, 0x244, 0, 0, 0, 0, number],
    )
}

/// The address of the cluster DNS replica with this index; on a subnet of its own, as on another node.
#[must_use]
pub fn replica(index: u16) -> Pair {
    assert!(index < 200, "the lab has room for 200 replicas");
    let host = index + 2;
    Pair::new(
        [10, 244, 1, host as u8],
        [0xfd00, 0x10, 0x244, 1, 0, 0, 0, host],
    )
}

/// Whether an address is in the pods' subnet of the node and is not the gateway's.
#[must_use]
pub fn is_pod(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[..3] == [10, 244, 0] && a != GATEWAY.v4,
        IpAddr::V6(a) => a.segments()[..4] == [0xfd00, 0x10, 0x244, 0] && a != GATEWAY.v6,
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// `IPv4` or `IPv6`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// An IPv4 address and its IPv6 twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// From octets and segments.
    #[must_use]
    pub const fn new(v4: [u8; 4], v6: [u16; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = v6;
        Self {
            v4: Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]),
            v6: Ipv6Addr::new(a, b, c, d, e, f, g, h),
        }
    }

    /// The one of this family.
    #[must_use]
    pub const fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// The one of this family, with a port.
    #[must_use]
    pub const fn socket(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.of(family), port)
    }

    /// Port 53 of the one of this family.
    #[must_use]
    pub const fn dns(&self, family: Family) -> SocketAddr {
        self.socket(family, 53)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.v4, self.v6)
    }
}
