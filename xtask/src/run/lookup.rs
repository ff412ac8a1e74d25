//! The lookups of the demonstration.

use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::EXPECTED;
use dns_cache_tests::{Family, Message, Transport, Upstream};

/// One lookup.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub(super) name: &'static str,
    pub(super) rtype: u16,
    pub(super) transport: Transport,
    pub(super) family: Family,
    /// The response code and the data, where they are known beforehand.
    expected: Option<(u8, &'static [&'static str])>,
}

impl Lookup {
    /// Whether the answer is what the lab's zones say; with a server that nobody here knows, whether it
    /// is an answer.
    pub(super) fn is_right(&self, answer: &Message) -> bool {
        match self.expected {
            Some((rcode, data)) => answer.rcode() == u16::from(rcode) && answer.data() == data,
            None => matches!(answer.rcode(), 0 | 3),
        }
    }

    /// How it is sent, in a word.
    pub(super) const fn way(&self) -> &'static str {
        match (self.transport, self.family) {
            (Transport::Tcp, Family::V4) => "TCP v4",
            (Transport::Tcp, Family::V6) => "TCP v6",
            (_, Family::V4) => "UDP v4",
            (_, Family::V6) => "UDP v6",
        }
    }
}

/// A handful for this cluster DNS, over UDP and TCP, IPv4 and IPv6; the first one again at the end.
pub(super) fn all(upstream: Upstream) -> Vec<Lookup> {
    let ways = [
        (Transport::Connected, Family::V4),
        (Transport::Unconnected, Family::V6),
        (Transport::Tcp, Family::V4),
        (Transport::Tcp, Family::V6),
    ];
    let known = EXPECTED
        .iter()
        .map(|e| (e.name, e.rtype, Some((e.rcode, e.data))));
    let foreign = [
        ("example.com", rtype::A),
        ("example.com", rtype::AAAA),
        ("example.com", rtype::MX),
        ("example.net", rtype::NS),
    ];
    let foreign = foreign.into_iter().map(|(name, rtype)| (name, rtype, None));
    let mut questions: Vec<_> = match upstream {
        Upstream::Address(_) => foreign.collect(),
        Upstream::Embedded | Upstream::CoreDns => known.collect(),
    };
    questions.push(questions[0]);
    let lookup = |((name, rtype, expected), (transport, family))| Lookup {
        name,
        rtype,
        transport,
        family,
        expected,
    };
    questions
        .into_iter()
        .zip(ways.into_iter().cycle())
        .map(lookup)
        .collect()
}
