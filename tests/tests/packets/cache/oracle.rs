//! What must come of a query: what the resolver says by the same entry, or the query as it was.

use std::collections::{BTreeSet, HashMap};

use dns_cache::resolver::{Entry, Time};
use dns_cache_common::cached::{MAX_BODY, MAX_RECORDS};
use dns_cache_common::cut;
use dns_cache_common::header::{self, Flags};
use dns_cache_common::question::{self, Key, KeyParts, Parsed, Scanned, Transport};
use dns_cache_common::reply::{Reply, Source, is_fresh};

use super::super::harness::{Outcome, RESOLVER_MAC, Verdict};
use super::super::packet::Packet;
use super::{ZONE, headers};

/// The programs read no more EDNS options, and no longer messages.
const MAX_OPTIONS: usize = 4;
const MAX_QUERY: usize = 512;

/// What is in the cache, by its key.
pub(super) type Contents = HashMap<Vec<u8>, Entry>;

/// Puts an entry in as the kernel cache does: one that it cannot give takes the old one out, a newer one stays.
pub(super) fn put(contents: &mut Contents, key: &[u8], entry: Entry) {
    let stored = entry.stored();
    let fits = stored.body.len() <= MAX_BODY && stored.records.len() <= MAX_RECORDS;
    let is_newer = |old: &Entry| old.stored_at() > entry.stored_at();
    if entry.ttl().is_none() || !fits {
        contents.remove(key);
    } else if !contents.get(key).is_some_and(is_newer) {
        contents.insert(key.to_vec(), entry);
    }
}

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

/// What may come of a query that is sent between two times.
pub(super) fn expected(contents: &Contents, query: &Packet, sent: [Time; 2]) -> Expected {
    let mut expected = Expected {
        replies: BTreeSet::new(),
        handed_over: true,
        by_cut: false,
    };
    let Some(asked) = answerable(query) else {
        return expected;
    };
    let Some((entry, by_cut)) = entry(contents, asked.key.as_bytes(), sent[1]) else {
        return expected;
    };
    let opt = asked
        .client
        .edns
        .map_or(0, |_| dns_cache_common::edns::OPT_LEN);
    let whole = header::LEN + asked.question.len() + entry.stored().body.len() + opt;
    if whole > asked.client.limit {
        return expected;
    }
    expected.by_cut = by_cut;
    let Some(ttl) = entry.ttl() else {
        return expected;
    };
    let [from, to] = sent.map(|time| entry.seconds_old(time));
    expected.handed_over = !is_fresh(ttl, to);
    let turns = entry.stored().rotation.map_or(1, |set| set.count);
    for age in (from..=to).take_while(|age| is_fresh(ttl, *age)) {
        let replies = (0..turns).map(|turn| reply(&asked, entry, age, turn.into()));
        expected.replies.extend(replies);
    }
    expected
}

/// The resolver's reply, as `Resolver::answer_cached` makes it.
fn reply(asked: &question::Query<'_>, entry: &Entry, age: u32, turn: u32) -> Vec<u8> {
    let source = Source::Cache { age };
    let reply = Reply::new(&asked.client, asked.question, entry.stored(), source).turned(turn);
    let mut out = vec![0; reply.size()];
    reply.write(&mut out).unwrap();
    out
}

/// The entry that a key is answered by, and whether that is a cut: as `Resolver::at_hand` looks them up.
fn entry<'a>(contents: &'a Contents, key: &[u8], now: Time) -> Option<(&'a Entry, bool)> {
    let own = contents.get(key);
    if let Some(entry) = own.filter(|entry| entry.age(now).is_some()) {
        return Some((entry, false));
    }
    let name = KeyParts::read(key)?.name;
    let cut = cut::points(name, ZONE).above().find_map(|at| {
        let entry = contents.get(Key::of_ancestor(key, at)?.as_bytes())?;
        entry.covers_below().then_some(entry)
    });
    cut.map(|entry| (entry, true))
        .or(own.map(|entry| (entry, false)))
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
    /// Checks what came of the query; whether that is an answer.
    pub(super) fn check(&self, query: &Packet, outcome: &Outcome) -> bool {
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
        } else {
            assert!(self.handed_over, "not answered: {outcome:?}");
            untouched(query, outcome);
        }
        answered
    }
}

/// Checks that the query went to the resolver as it was.
pub(super) fn untouched(query: &Packet, outcome: &Outcome) {
    let bytes = query.bytes();
    assert_eq!(outcome.packet[..6], RESOLVER_MAC);
    assert_eq!(outcome.packet[12..], bytes[12..]);
}
