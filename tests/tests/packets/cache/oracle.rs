//! What must come of a query: what a resolver with the same entries says, or the query as it was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dns_cache::config;
use dns_cache::kernel_cache::KernelCache;
use dns_cache::resolver::{Answer, Resolver, Time};
use dns_cache_common::cached::{MAX_BODY, MAX_RECORDS};
use dns_cache_common::cut;
use dns_cache_common::header::{self, Flags, Header};
use dns_cache_common::question::{self, Key, KeyParts, Parsed, Scanned, Transport};
use dns_cache_common::reply::Rotation;

use super::super::harness::{Outcome, RESOLVER_MAC, Verdict};
use super::super::packet::Packet;
use super::{ZONE, headers};

/// The programs read no more EDNS options, and no longer messages.
const MAX_OPTIONS: usize = 4;
const MAX_QUERY: usize = 512;

/// Nobody is ever asked: nothing is refreshed. A zone within the cluster's is another server's, so that what is above it
/// may not be cut.
const CONFIG: &str = "
listen: [192.0.2.1]
cluster: {upstreams: [192.0.2.2]}
zones:
  - {zone: ., upstreams: [192.0.2.3]}
  - {zone: stub.label7.svc.cluster.local, upstreams: [192.0.2.4]}
cache: {maxEntries: 100000, maxBytes: 256Mi, kernel: false, prefetch: {percent: 0}}
";

/// The resolver that is asked as well.
pub(super) struct Oracle(Arc<Resolver>);

/// What may come of a query.
#[derive(Debug)]
pub(super) struct Expected {
    /// One of these replies, if there are any.
    replies: BTreeSet<Vec<u8>>,
    /// The resolver gets it as it is.
    handed_over: bool,
    /// They come from a name above.
    by_cut: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    HandedOver,
    Answered { by_cut: bool },
}

impl Oracle {
    /// One that knows nothing yet.
    pub(super) fn new() -> Self {
        let config = config::parse(CONFIG, Path::new("oracle")).unwrap();
        Self(Resolver::new(&config).unwrap())
    }

    /// One that gives what it takes in to the kernel as well.
    pub(super) fn mirroring(kernel: &Arc<KernelCache>) -> Self {
        let oracle = Self::new();
        oracle.0.mirror_into(Arc::clone(kernel));
        oracle
    }

    pub(super) fn resolver(&self) -> &Arc<Resolver> {
        &self.0
    }

    /// What may come of a query that is sent between two times.
    pub(super) fn expected(&self, query: &Packet, sent: [Time; 2]) -> Expected {
        let mut expected = Expected {
            replies: BTreeSet::new(),
            handed_over: true,
            by_cut: false,
        };
        let Some(asked) = answerable(query) else {
            return expected;
        };
        let own = self.0.entry(asked.key.as_bytes());
        expected.handed_over = false;
        for time in moments(sent) {
            let reply = self.reply(query, Transport::Udp, time);
            let whole = self.reply(query, Transport::Tcp, time);
            let is_whole = reply.as_ref().map(Vec::len) == whole.map(|whole| whole.len());
            let Some(reply) = reply.filter(|reply| is_whole && fits(&asked, reply)) else {
                expected.handed_over = true;
                continue;
            };
            let own = own.as_ref().filter(|entry| entry.age(time).is_some());
            expected.by_cut = own.is_none();
            expected.handed_over |= own.is_none() && self.is_masked(asked.key.as_bytes(), time);
            let rotation = own.and_then(|entry| entry.stored().rotation);
            let set_at = header::LEN + asked.question.len();
            expected.replies.extend(turned(&reply, rotation, set_at));
        }
        expected
    }

    /// Whether the kernel leaves a name below a cut to the resolver: it goes by the first one above the name, though that may
    /// have expired.
    fn is_masked(&self, key: &[u8], time: Time) -> bool {
        let name = KeyParts::read(key).unwrap().name;
        let above = cut::points(name, ZONE).above();
        let mut above = above.filter_map(|at| self.0.entry(Key::of_ancestor(key, at)?.as_bytes()));
        let first = above.find(|entry| entry.covers_below());
        first.is_some_and(|first| first.age(time).is_none())
    }

    /// The resolver's own reply, if it has one at hand; over TCP it has room for all.
    fn reply(&self, query: &Packet, transport: Transport, time: Time) -> Option<Vec<u8>> {
        let (message, mut reply) = (&query.payload, Vec::new());
        match self.0.answer_cached(message, transport, time, &mut reply) {
            Answer::Reply(len) => {
                assert_eq!(len, reply.len());
                Some(reply)
            }
            Answer::Miss(_) => None,
            Answer::Drop => panic!("a sound query is dropped: {message:x?}"),
        }
    }
}

/// Moments of which each second between these two has one: answers age by whole seconds.
fn moments([from, to]: [Time; 2]) -> impl Iterator<Item = Time> {
    let seconds = (0..).map(move |seconds| from.after(Duration::from_secs(seconds)));
    seconds.take_while(move |time| *time < to).chain([to])
}

/// Whether the kernel has room for such an answer.
fn fits(asked: &question::Query<'_>, reply: &[u8]) -> bool {
    let opt = asked.client.edns.map(|_| dns_cache_common::edns::OPT_LEN);
    let around = header::LEN + asked.question.len() + opt.unwrap_or(0);
    let header = Header::read(reply).unwrap();
    let records: usize = header.records.iter().copied().map(usize::from).sum();
    reply.len() - around <= MAX_BODY && records - usize::from(opt.is_some()) <= MAX_RECORDS
}

/// A reply with its addresses in every order in which they may be; the body begins there.
fn turned(reply: &[u8], rotation: Option<Rotation>, body_at: usize) -> Vec<Vec<u8>> {
    let Some(Rotation { start, len, count }) = rotation else {
        return vec![reply.to_vec()];
    };
    let [start, len, count] = [start, len, count].map(usize::from);
    let set = body_at + start..body_at + start + len * count;
    let turn = |turn| {
        let mut reply = reply.to_vec();
        reply[set.clone()].rotate_left(turn * len);
        reply
    };
    (0..count).map(turn).collect()
}

/// The question, if the kernel is to answer it where it can.
fn answerable(query: &Packet) -> Option<question::Query<'_>> {
    let message = &query.payload;
    let Parsed::Query(asked) = question::parse(message, Transport::Udp) else {
        return None;
    };
    let scanned = question::scan(&message[..], Transport::Udp, MAX_OPTIONS);
    let parts = KeyParts::read(asked.key.as_bytes())?;
    let answerable = asked.client.flags.has(Flags::RD)
        && !asked.client.edns.is_some_and(|edns| edns.client_subnet)
        && parts.is_cacheable()
        && message.len() <= MAX_QUERY
        && scanned != Scanned::Long
        && !query.checksum_is_ambiguous();
    answerable.then_some(asked)
}

impl Expected {
    /// Checks what came of the query, and says it.
    pub(super) fn check(&self, query: &Packet, outcome: &Outcome) -> Came {
        assert_eq!(outcome.verdict, Verdict::Redirect, "{outcome:?}");
        let moved = |start| {
            let names = outcome.counted.keys();
            names.filter(|name| name.starts_with(start)).count()
        };
        let answered = moved("cache_hits_") > 0;
        let cut = moved("cache_cuts");
        assert_eq!(moved("cache_") - cut, 1, "{outcome:?}");
        assert_eq!(cut == 1, answered && self.by_cut, "{outcome:?}");
        assert_eq!(moved("to_resolver_udp"), usize::from(!answered));
        if answered {
            let message = headers::message(query, &outcome.packet);
            assert!(
                self.replies.contains(&message),
                "{:x?}\nis answered with\n{message:x?}\nnot one of\n{:x?}",
                query.payload,
                self.replies
            );
            Came::Answered { by_cut: cut == 1 }
        } else {
            assert!(self.handed_over, "not answered: {outcome:?}");
            untouched(query, outcome);
            Came::HandedOver
        }
    }
}

/// Checks that the query went to the resolver as it was.
pub(super) fn untouched(query: &Packet, outcome: &Outcome) {
    let bytes = query.bytes();
    assert_eq!(outcome.packet[..6], RESOLVER_MAC);
    assert_eq!(outcome.packet[12..], bytes[12..]);
}
