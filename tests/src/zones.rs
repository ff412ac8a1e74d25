//! What the lab's name servers know.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{Message, Query, rtype};

/// A zone: its name without the trailing dot, and its file.
#[derive(Debug, Clone)]
pub struct Zone {
    /// `cluster.local`.
    pub name: &'static str,
    /// A master file (RFC 1035, 5).
    pub text: String,
}

const CLUSTER: &str = include_str!("zones/cluster.zone");
const RICH: &str = include_str!("zones/cluster-rich.zone");
const REVERSE4: &str = include_str!("zones/reverse4.zone");
const REVERSE6: &str = include_str!("zones/reverse6.zone");
const EXAMPLE: &str = include_str!("zones/example.zone");

/// How many A records `many.types.svc.cluster.local` has.
pub const MANY: u16 = 40;
/// How many A records `huge.types.svc.cluster.local` has: more than 1232 octets of answer.
pub const HUGE: u16 = 200;
/// How many services `svc-N.bulk.svc.cluster.local` there are, for loads.
pub const BULK: u16 = 1000;
/// The address of each `*.wild.types.svc.cluster.local`.
pub const WILD: Ipv4Addr = Ipv4Addr::new(10, 96, 20, 10);

/// The name of a service for loads.
#[must_use]
pub fn service(number: u16) -> String {
    format!("svc-{number}.bulk.svc.cluster.local")
}

/// Its addresses.
#[must_use]
pub fn service_addresses(number: u16) -> (Ipv4Addr, Ipv6Addr) {
    let [high, low] = [number / 250, number % 250 + 1].map(|part| part as u8);
    (
        Ipv4Addr::new(10, 98, high, low),
        Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0x98, number),
    )
}

/// Every type of the rich zone: name below `types.svc.cluster.local`, type. These have answers.
pub const TYPES_WITH_ANSWERS: [(&str, u16); 28] = [
    ("txt", rtype::TXT),
    ("txt-long", rtype::TXT),
    ("txt-binary", rtype::TXT),
    ("txt-big", rtype::TXT),
    ("mx", rtype::MX),
    ("naptr", rtype::NAPTR),
    ("caa", rtype::CAA),
    ("svcb", rtype::SVCB),
    ("https", rtype::HTTPS),
    ("sshfp", rtype::SSHFP),
    ("_443._tcp.tlsa", rtype::TLSA),
    ("loc", rtype::LOC),
    ("hinfo", rtype::HINFO),
    ("rp", rtype::RP),
    ("uri", rtype::URI),
    ("unknown", rtype::UNKNOWN),
    ("any.wild", rtype::A),
    ("deep.er.wild", rtype::TXT),
    ("a.ent", rtype::A),
    ("_sip._udp", rtype::SRV),
    ("chain-1", rtype::A),
    ("chain-1", rtype::AAAA),
    ("chain-1", rtype::TXT),
    ("dangling", rtype::A),
    ("ttl-large", rtype::A),
    ("many", rtype::A),
    ("huge", rtype::A),
    (
        "lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll",
        rtype::A,
    ),
];

/// These have none of that type, or are not there at all.
pub const TYPES_WITHOUT: [(&str, u16); 4] = [
    ("nothing-of-this-type.wild", rtype::AAAA),
    ("ent", rtype::A),
    ("b.ent", rtype::A),
    ("many", rtype::AAAA),
];

/// The cluster's zones in the form that every server can read.
#[must_use]
pub fn small() -> Vec<Zone> {
    vec![
        Zone {
            name: "cluster.local",
            text: CLUSTER.to_owned(),
        },
        Zone {
            name: "10.in-addr.arpa",
            text: REVERSE4.to_owned(),
        },
        Zone {
            name: "0.1.0.0.0.0.d.f.ip6.arpa",
            text: REVERSE6.to_owned(),
        },
    ]
}

/// The cluster's zones with every type, large RRsets, and many services.
#[must_use]
pub fn rich() -> Vec<Zone> {
    let mut zones = small();
    let text = &mut zones[0].text;
    *text += RICH;
    for (name, count) in [("many", MANY), ("huge", HUGE)] {
        for n in 0..count {
            let _ = writeln!(text, "{name} IN A 10.97.{}.{}", n / 250, n % 250 + 1);
        }
    }
    for n in 0..24 {
        let _ = writeln!(
            text,
            "{:<16} IN TXT \"string {n:02} of an answer that is larger than a datagram of 1232 octets\"",
            "txt-big"
        );
    }
    for n in 0..BULK {
        let (name, (v4, v6)) = (service(n), service_addresses(n));
        let _ = writeln!(text, "{name}. IN A {v4}\n{name}. IN AAAA {v6}");
    }
    zones
}

/// What only the resolver outside the cluster knows.
#[must_use]
pub fn outside() -> Zone {
    Zone {
        name: "example.com",
        text: EXAMPLE.to_owned(),
    }
}

/// A lookup and what its answer must be.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The question's name.
    pub name: &'static str,
    /// The question's type.
    pub rtype: u16,
    /// The answer's response code.
    pub rcode: u8,
    /// The answer section's records, sorted, as [`crate::wire::Record`] prints them without owner and TTL.
    pub data: &'static [&'static str],
}

impl Expected {
    /// The lookup.
    #[must_use]
    pub fn query(&self) -> Query {
        Query::new(self.name, self.rtype)
    }

    /// Panics unless this is the right answer.
    #[track_caller]
    pub fn check(&self, answer: &Message) {
        assert_eq!(answer.rcode(), u16::from(self.rcode), "{}", self.name);
        assert_eq!(answer.data(), self.data, "{}", self.name);
    }
}

const fn expect(
    name: &'static str,
    rtype: u16,
    rcode: u8,
    data: &'static [&'static str],
) -> Expected {
    Expected {
        name,
        rtype,
        rcode,
        data,
    }
}

/// Lookups that every server of the lab answers.
pub const EXPECTED: [Expected; 9] = [
    expect(
        "kubernetes.default.svc.cluster.local",
        1,
        0,
        &["A 10.96.0.1"],
    ),
    expect(
        "web.default.svc.cluster.local",
        28,
        0,
        &["AAAA fd00:10:96::10:10"],
    ),
    expect(
        "db.default.svc.cluster.local",
        1,
        0,
        &["A 10.244.2.10", "A 10.244.2.11", "A 10.244.2.12"],
    ),
    expect(
        "_http._tcp.web.default.svc.cluster.local",
        33,
        0,
        &["SRV 0 100 80 web.default.svc.cluster.local"],
    ),
    expect(
        "10.0.96.10.in-addr.arpa",
        12,
        0,
        &["PTR kube-dns.kube-system.svc.cluster.local"],
    ),
    expect(
        "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
        12,
        0,
        &["PTR kube-dns.kube-system.svc.cluster.local"],
    ),
    expect("nowhere.default.svc.cluster.local", 1, 3, &[]),
    expect("v4only.default.svc.cluster.local", 28, 0, &[]),
    expect("www.example.com", 1, 0, &["A 198.51.100.2"]),
];
