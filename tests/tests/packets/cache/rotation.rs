//! Addresses take turns at the first place, in the kernel and in the resolver.

use std::collections::BTreeMap;

use dns_cache::resolver::{Answer, Transport};
use dns_cache_common::types::rtype;

use super::super::harness::{Harness, LONGEST};
use super::super::packet::udp;
use super::message::{QUESTION, Query, Record, Response};
use super::oracle::Oracle;
use super::{CAPS, NAME, NEVER, SIZE, key, now, put, repeated};

/// Hoeffding's bound: of `runs` independent draws a share is farther than this from what is expected with a
/// chance of 1e-9.
fn deviation(runs: u64) -> f64 {
    ((2e9f64).ln() / 2.0 * runs as f64).sqrt()
}

/// Addresses of a type, behind aliases.
#[derive(Debug, Clone, Copy)]
struct Set {
    rtype: u16,
    count: u8,
    aliases: u8,
}

impl Set {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for rtype in [rtype::A, rtype::AAAA] {
            for count in [1, 2, 3, 4, 7] {
                all.extend([0, 2].map(|aliases| Self {
                    rtype,
                    count,
                    aliases,
                }));
            }
        }
        all
    }

    fn address_len(self) -> usize {
        if self.rtype == rtype::A { 4 } else { 16 }
    }

    fn response(self) -> Response {
        let alias = |i| {
            let owner = [&[1, b'a' + i][..], QUESTION].concat();
            let owner = if i == 0 { QUESTION } else { &owner };
            let target = [&[1, b'b' + i][..], QUESTION].concat();
            Record::new(owner, rtype::CNAME, 300, &target)
        };
        let last = if self.aliases == 0 {
            QUESTION.to_vec()
        } else {
            [&[1, b'a' + self.aliases][..], QUESTION].concat()
        };
        let address = |last_byte| {
            let mut address = vec![10; self.address_len() - 1];
            address.push(last_byte);
            Record::new(&last, self.rtype, 300, &address)
        };
        let answers = (0..self.aliases).map(alias);
        let answers = answers.chain((0..self.count).map(address));
        Response::new(NAME, self.rtype, answers.collect())
    }

    fn query(self) -> Query {
        Query::new(NAME, self.rtype)
    }

    /// Which address is first in a reply. Those behind it follow in their order, and the aliases are before them.
    fn first(self, reply: &[u8]) -> u8 {
        // Behind header and question; an alias takes 16 bytes with its name's four.
        let body = &reply[12 + NAME.len() + 4..];
        let (chain, set) = body.split_at(16 * usize::from(self.aliases));
        assert!(chain.chunks(16).all(|record| record[2..4] == [0, 5]));
        let records = set.chunks(12 + self.address_len());
        let order: Vec<_> = records
            .filter_map(|record| record.last().copied())
            .collect();
        let turned: Vec<_> = (0..self.count)
            .map(|i| (order[0] + i) % self.count)
            .collect();
        assert_eq!(order, turned);
        order[0]
    }

    /// Checks how often each was the first.
    fn check(self, firsts: &BTreeMap<u8, u64>) {
        let runs = firsts.values().sum();
        let share = runs as f64 / f64::from(self.count);
        for first in 0..self.count {
            let seen: u64 = firsts.get(&first).copied().unwrap_or(0);
            let off = (seen as f64 - share).abs();
            assert!(
                off <= deviation(runs),
                "{first} of {self:?}: {seen} of {runs}"
            );
        }
    }
}

#[test]
fn every_address_is_first_in_its_share_of_replies() {
    let harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    for set in Set::all() {
        let key = key(NAME, set.rtype, 0);
        put(&harness, &key, &set.response(), now(), NEVER);
        let mut firsts = BTreeMap::new();
        harness.inside(pod, |runner| {
            let query = udp(pod, true).with(|p| p.payload = set.query().bytes());
            let query = query.bytes();
            let mut out = [0; LONGEST];
            for _ in 0..repeated(20_000) {
                let (_, frame) = runner.run(&query, &mut out);
                *firsts.entry(set.first(&frame[14 + 20 + 8..])).or_insert(0) += 1;
            }
        });
        set.check(&firsts);
    }
}

#[test]
fn in_the_resolvers_replies_as_well() {
    let oracle = Oracle::new();
    let resolver = oracle.resolver();
    for set in Set::all() {
        let key = key(NAME, set.rtype, 0);
        let response = set.response().bytes();
        resolver
            .take_in(key.as_bytes(), &response, CAPS, now())
            .unwrap();
        let (query, mut firsts) = (set.query().bytes(), BTreeMap::new());
        let mut reply = Vec::new();
        for _ in 0..repeated(20_000) {
            reply.clear();
            let answer = resolver.answer_cached(&query, Transport::Udp, now(), &mut reply);
            assert!(matches!(answer, Answer::Reply(_)), "{answer:?}");
            *firsts.entry(set.first(&reply)).or_insert(0) += 1;
        }
        set.check(&firsts);
    }
}
