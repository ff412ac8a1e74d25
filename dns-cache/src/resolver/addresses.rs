//! The addresses of a name, for the agent itself.

use std::net::IpAddr;
use std::sync::Arc;

use dns_cache_common::question::KeyParts;
use dns_cache_common::types::{class, rtype};
use futures_util::future::join;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use tokio::time::timeout;

use super::Resolver;
use super::zones::wire_name;
use crate::upstream;

impl Resolver {
    /// The IPv4 and the IPv6 addresses that the zone's servers have for a name now; `None` for a family without an answer.
    /// Nothing of it is cached or counted as a client's.
    pub async fn addresses(&self, name: &str) -> [Option<Vec<IpAddr>>; 2] {
        let families = join(
            self.ask_for(name, rtype::A),
            self.ask_for(name, rtype::AAAA),
        );
        families.await.into()
    }

    async fn ask_for(&self, name: &str, rtype: u16) -> Option<Vec<IpAddr>> {
        let wire = wire_name(name).ok()?;
        let zones = self.zones();
        let zone = zones.of(&wire)?;
        let query = Arc::new(upstream::Query::new(&KeyParts {
            name: &wire,
            rtype,
            class: class::IN,
            dnssec_ok: false,
            checking_disabled: false,
        }));
        let answer = zone
            .group
            .ask(&query, |response, _| Message::from_vec(response));
        let message = timeout(self.deadline, answer).await.ok()?.ok()?;
        match message.response_code {
            ResponseCode::NoError => Some(message.answers.iter().filter_map(address).collect()),
            ResponseCode::NXDomain => Some(Vec::new()),
            _ => None,
        }
    }
}

fn address(record: &hickory_proto::rr::Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::resolver::tests::Bench;
    use crate::upstream::fake::Fake;

    #[tokio::test]
    async fn addresses_of_a_name() {
        let (fake, _) = Fake::answering().await;
        let bench = Bench::new(&[fake.address]);
        // The server says the same to AAAA, which is what it is.
        let found = bench.resolver.addresses("web.cluster.local.").await;
        let address = "10.0.0.1".parse::<std::net::IpAddr>().unwrap();
        assert_eq!(found, [Some(vec![address]), Some(vec![address])]);
        assert_eq!(bench.resolver.addresses("a..b").await, [None, None]);
    }
}
