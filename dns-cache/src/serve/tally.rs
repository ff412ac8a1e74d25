//! What is counted of each query and its reply.
//!
//! Threads count in shards of their own, as far as there are enough, so that no core waits for another's cache
//! line. All that is counted is read off the reply, which has the question.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dns_cache_common::edns::OPT_LEN;
use dns_cache_common::header::{self, Header, u16_at};
use dns_cache_common::hits::{self, KINDS};
use dns_cache_common::name;
use dns_cache_common::question::{Transport, split_question};
use dns_cache_common::types::rtype;

use crate::metrics::histogram::{DURATIONS, Histogram, SIZES, Snapshot};

/// Threads that count without sharing.
const SHARDS: usize = 16;
/// Codes that fit into the header, and BADVERS.
pub(crate) const RCODES: usize = 17;
/// Where an OPT record has the upper part of the code, and the DO bit (RFC 6891 §6.1.3).
const EXTENDED_RCODE_AT: usize = 5;
const DO_AT: usize = 7;

/// The counts of all queries.
#[derive(Debug)]
pub(crate) struct Tally {
    shards: Box<[Shard]>,
}

/// How a query came, and what answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) transport: Transport,
    pub(crate) is_ipv6: bool,
    /// An upstream was asked.
    pub(crate) forwarded: bool,
}

/// Counts by manner and type, or by manner and code.
type Table<const N: usize> = [[AtomicU64; N]; MANNERS];
const MANNERS: usize = 8;

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    requests: Table<KINDS>,
    responses: Table<RCODES>,
    dnssec_ok: AtomicU64,
    query_size: [Histogram<{ SIZES.len() }>; 2],
    reply_size: [Histogram<{ SIZES.len() }>; 2],
    duration: Histogram<{ DURATIONS.len() }>,
}

/// All counts at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Totals {
    /// By manner (see [`Manner::ALL`]) and [`hits::kind`] of type.
    pub(crate) requests: [[u64; KINDS]; MANNERS],
    /// By manner and code; the last is BADVERS.
    pub(crate) responses: [[u64; RCODES]; MANNERS],
    pub(crate) dnssec_ok: u64,
    /// Bytes: UDP, TCP.
    pub(crate) query_size: [Snapshot<{ SIZES.len() }>; 2],
    pub(crate) reply_size: [Snapshot<{ SIZES.len() }>; 2],
    /// Nanoseconds.
    pub(crate) duration: Snapshot<{ DURATIONS.len() }>,
}

impl Manner {
    /// All of them, by their index.
    pub(crate) const ALL: [Self; MANNERS] = {
        let mut all = [Self {
            transport: Transport::Udp,
            is_ipv6: false,
            forwarded: false,
        }; MANNERS];
        let mut n = 0;
        while n < MANNERS {
            if n & 1 != 0 {
                all[n].transport = Transport::Tcp;
            }
            all[n].is_ipv6 = n & 2 != 0;
            all[n].forwarded = n & 4 != 0;
            n += 1;
        }
        all
    };

    fn index(self) -> usize {
        usize::from(self.is_tcp())
            | usize::from(self.is_ipv6) << 1
            | usize::from(self.forwarded) << 2
    }

    fn is_tcp(self) -> bool {
        self.transport == Transport::Tcp
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }
}

impl Tally {
    /// Counts a query of so many bytes and its reply.
    pub(crate) fn answered(&self, manner: Manner, query: usize, reply: &[u8]) {
        let Some(header) = Header::read(reply) else {
            return;
        };
        let shard = self.shard();
        let asked = split_question(reply).and_then(|(question, _)| question.last_chunk::<4>());
        let asked = asked.map(|numbers| u16::from_be_bytes([numbers[0], numbers[1]]));
        let kind = asked.map_or(KINDS - 1, hits::kind);
        let mut rcode = usize::from(header.flags.rcode());
        if let Some(opt) = opt(reply, header.records) {
            rcode |= usize::from(opt[EXTENDED_RCODE_AT]) << 4;
            shard
                .dnssec_ok
                .fetch_add(u64::from(opt[DO_AT] >> 7), Relaxed);
        }
        let (manner, transport) = (manner.index(), usize::from(manner.is_tcp()));
        shard.requests[manner][kind].fetch_add(1, Relaxed);
        shard.responses[manner][rcode.min(RCODES - 1)].fetch_add(1, Relaxed);
        shard.query_size[transport].observe(query as u64, 1);
        shard.reply_size[transport].observe(reply.len() as u64, 1);
    }

    /// Counts the time that so many queries took, in nanoseconds.
    pub(crate) fn took(&self, nanos: u64, queries: u64) {
        if queries > 0 {
            self.shard().duration.observe(nanos, queries);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals {
            requests: [[0; KINDS]; MANNERS],
            responses: [[0; RCODES]; MANNERS],
            dnssec_ok: 0,
            query_size: [&SIZES, &SIZES].map(|bounds| Histogram::new(bounds).snapshot()),
            reply_size: [&SIZES, &SIZES].map(|bounds| Histogram::new(bounds).snapshot()),
            duration: Histogram::new(&DURATIONS).snapshot(),
        };
        for shard in &self.shards {
            add(&mut totals.requests, &shard.requests);
            add(&mut totals.responses, &shard.responses);
            totals.dnssec_ok += shard.dnssec_ok.load(Relaxed);
            for n in 0..2 {
                totals.query_size[n] = totals.query_size[n]
                    .clone()
                    .plus(&shard.query_size[n].snapshot());
                totals.reply_size[n] = totals.reply_size[n]
                    .clone()
                    .plus(&shard.reply_size[n].snapshot());
            }
            totals.duration = totals.duration.plus(&shard.duration.snapshot());
        }
        totals
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed)));
        // There is a remainder for each shard.
        &self.shards[OWN.get() % SHARDS]
    }
}

/// The OPT record of a reply of ours without its options: the last record, if there is one.
fn opt(reply: &[u8], records: [u16; 3]) -> Option<&[u8; OPT_LEN]> {
    let is_opt = |record: &[u8; OPT_LEN]| record[..3] == [0, 0, rtype::OPT as u8];
    if records[2] == 0 {
        return None;
    }
    // With an option (RFC 8914) where the answer is not what it should be; seldom enough to look at all records.
    reply.last_chunk().filter(|last| is_opt(last)).or_else(|| {
        let (question, _) = split_question(reply)?;
        let mut at = header::LEN + question.len();
        for _ in 1..records.into_iter().map(u32::from).sum() {
            let fixed = name::skip(reply, at)?;
            at = fixed + 10 + usize::from(u16_at(reply, fixed + 8)?);
        }
        reply.get(at..)?.first_chunk().filter(|last| is_opt(last))
    })
}

fn add<const N: usize>(sums: &mut [[u64; N]; MANNERS], table: &Table<N>) {
    let counts = table.iter().flatten();
    for (sum, count) in sums.iter_mut().flatten().zip(counts) {
        *sum += count.load(Relaxed);
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: [const { [const { AtomicU64::new(0) }; _] }; _],
            responses: [const { [const { AtomicU64::new(0) }; _] }; _],
            dnssec_ok: AtomicU64::new(0),
            query_size: [Histogram::new(&SIZES), Histogram::new(&SIZES)],
            reply_size: [Histogram::new(&SIZES), Histogram::new(&SIZES)],
            duration: Histogram::new(&DURATIONS),
        }
    }
}

#[cfg(test)]
mod tests {
    use dns_cache_common::edns::{self, ExtendedError};
    use dns_cache_common::question::{self, KeyParts, Parsed};
    use dns_cache_common::reply::{Reply, Source};
    use dns_cache_common::types::ede;

    use super::*;
    use crate::config::TtlCaps;
    use crate::resolver::tests::query;
    use crate::resolver::{Clock, Entry, Terms};
    use crate::upstream::fake;

    #[test]
    fn replies_tell_all_that_is_counted() {
        let tally = Tally::default();
        let a = fake::address(&query(1, "web", 1, 0x0100));
        let unusual = fake::address(&query(1, "web", 99, 0x0100));
        let mut wanted = query(1, "web", 28, 0x0100);
        wanted[11] = 1;
        wanted.extend(edns::opt(true, 0));
        let version = wanted.len() - 5;
        wanted[version] = 9;
        let Parsed::Refuse(refusal) = question::parse(&wanted, Transport::Udp) else {
            panic!("BADVERS");
        };
        let mut bad_version = vec![0; refusal.size()];
        refusal.write(&mut bad_version).unwrap();
        for (n, manner) in Manner::ALL.into_iter().enumerate() {
            assert_eq!(manner.index(), n);
            tally.answered(manner, 30, &a);
        }
        tally.answered(Manner::ALL[3], 30, &unusual);
        tally.answered(Manner::ALL[3], 41, &bad_version);
        tally.answered(Manner::ALL[3], 0, b"short");
        tally.took(1_000, 3);
        tally.took(1_000, 0);
        let totals = tally.totals();
        let (rtype, rcode) = (totals.requests[3], totals.responses[3]);
        assert_eq!((rtype[0], rtype[1], rtype[KINDS - 1]), (1, 1, 1));
        assert_eq!((rcode[0], rcode[16]), (2, 1));
        assert_eq!(totals.requests.iter().flatten().sum::<u64>(), 10);
        assert_eq!(totals.dnssec_ok, 1);
        assert_eq!(totals.query_size[0].counts[..2], [0, 4]);
        assert_eq!(totals.query_size[1].count(), 6);
        assert_eq!((totals.duration.counts[0], totals.duration.sum), (3, 3_000));
    }

    /// Such a reply's OPT record is not its last bytes.
    #[test]
    fn replies_with_an_extended_error_tell_no_less() {
        let plain = query(1, "web", 1, 0x0100);
        let mut wanted = plain.clone();
        wanted[11] = 1;
        wanted.extend(edns::opt(true, 0));
        let Parsed::Query(query) = question::parse(&wanted, Transport::Udp) else {
            panic!("a query");
        };
        let key = KeyParts::read(query.key.as_bytes()).unwrap();
        let caps = TtlCaps {
            positive: 30,
            negative: 5,
            minimum: 0,
        };
        let terms = Terms {
            caps,
            cut: false,
            now: Clock::Boot.now(),
        };
        let entry = Entry::new(&fake::address(&plain), &key, terms).unwrap();
        let error = ExtendedError {
            code: ede::STALE_ANSWER,
            text: "",
        };
        let source = Source::Stale { ttl: 5 };
        let reply = Reply::explained(
            &query.client,
            query.question,
            entry.stored(),
            source,
            Some(error),
        );
        let mut message = vec![0; reply.size()];
        reply.write(&mut message).unwrap();
        let tally = Tally::default();
        tally.answered(Manner::ALL[0], wanted.len(), &message);
        assert_eq!(tally.totals().dnssec_ok, 1);
    }
}
