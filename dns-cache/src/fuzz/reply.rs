//! The replies that are made of a stored answer: at every limit, with every address first.
#![expect(clippy::expect_used, reason = "a target panics if something is wrong")]

use std::net::Ipv6Addr;

use dns_cache_common::edns::{ExtendedError, OPT_LEN};
use dns_cache_common::header;
use dns_cache_common::question::{Client, Query};
use dns_cache_common::reply::{Record, Reply, Rotation, Source, Stored};
use dns_cache_common::types::ede;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NULL};
use hickory_proto::rr::{Name, RData, Record as Rr, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Of all records, in seconds.
const TTL: u32 = 30;
/// A type that no parser reads more of than its length (RFC 6895 §3.1: private use).
const OPAQUE: u16 = 65_280;

const ERROR: ExtendedError = ExtendedError {
    code: ede::STALE_ANSWER,
    text: "why",
};

/// Each reply is as long as it says and within the limit, well-formed, truncated exactly if it lacks a record that TC is
/// for, and lacks none that would have had room. Addresses change places among themselves, and nothing else does.
pub(super) fn check_all(query: &Query<'_>, shape: u32) {
    let mut shape = Shape(shape);
    let answer = Answer::new(query.question, &mut shape);
    let error = [None, Some(ERROR)][shape.below(2)];
    let source = [
        (Source::Upstream, TTL),
        (Source::Cache { age: TTL - 1 }, 1),
        (Source::Stale { ttl: 5 }, 5),
    ][shape.below(3)];
    let edns = query.client.edns.map_or(0, |_| {
        OPT_LEN + error.map_or(0, |error: ExtendedError| error.size())
    });
    let bare = header::LEN + query.question.len() + edns;
    let ends = answer.records.iter().map(|record| usize::from(record.end));
    let limits = std::iter::once(0)
        .chain(ends)
        .flat_map(|end| [end.saturating_sub(1), end, end + 1])
        .map(|room| bare + room);
    for limit in limits.chain([query.client.limit]) {
        let client = Client {
            limit,
            ..query.client
        };
        // One more: the set's number is not the turn's bound.
        for turn in 0..=answer.addresses.len() {
            let reply = Reply::explained(&client, query.question, answer.stored(), source.0, error);
            answer.check(&client, reply.turned(turn as u32), bare, turn, source.1);
        }
    }
}

/// Digits of a number: which answer it is.
struct Shape(u32);

impl Shape {
    fn below(&mut self, bound: u32) -> usize {
        let digit = self.0 % bound;
        self.0 /= bound;
        digit as usize
    }
}

/// An answer as it is stored, and what a client is to read in it.
struct Answer {
    name: Name,
    /// Where a new record's name begins in a reply.
    offset: usize,
    body: Vec<u8>,
    records: Vec<Record>,
    meaning: Vec<Rr>,
    counts: [usize; 3],
    /// Which of the records change places.
    addresses: std::ops::Range<usize>,
}

impl Answer {
    /// CNAMEs, addresses of the last one's name, what signs them, authority and additional records: some of each, or none.
    fn new(question: &[u8], shape: &mut Shape) -> Self {
        let name = Name::read(&mut BinDecoder::new(question)).expect("a question has a name");
        let mut answer = Self {
            name: name.clone(),
            offset: header::LEN + question.len(),
            body: Vec::new(),
            records: Vec::new(),
            meaning: Vec::new(),
            counts: [0; 3],
            addresses: 0..0,
        };
        let mut owner = (header::LEN, name.clone());
        for label in b'a'..b'a' + shape.below(4) as u8 {
            let target = Name::from_labels([&[label][..]]).expect("a name of one label");
            let data = RData::CNAME(CNAME(target.clone()));
            let at = answer.push(0, &owner, data, &[1, label, 0]);
            owner = (at, target);
        }
        let (first, count, v6) = (answer.records.len(), shape.below(8), shape.below(2) == 1);
        for number in 0..count as u8 {
            let address = Ipv6Addr::from([number; 16]);
            if v6 {
                answer.push(0, &owner, RData::AAAA(AAAA(address)), &address.octets());
            } else {
                answer.push(
                    0,
                    &owner,
                    RData::A(A::new(10, 0, 0, number)),
                    &[10, 0, 0, number],
                );
            }
        }
        answer.addresses = first..first + count;
        for (section, count) in [(0, 2), (1, 3), (2, 3)] {
            for number in 0..shape.below(count) {
                let data = [(section * 10 + number) as u8; 40];
                let meaning = RData::Unknown {
                    code: RecordType::from(OPAQUE),
                    rdata: NULL::with(data.to_vec()),
                };
                answer.push(section, &(header::LEN, name.clone()), meaning, &data);
            }
        }
        answer
    }

    /// Where the data begins in a reply.
    fn push(
        &mut self,
        section: usize,
        owner: &(usize, Name),
        meaning: RData,
        data: &[u8],
    ) -> usize {
        let start = self.body.len();
        let (pointer, rtype) = (0xc000 | owner.0 as u16, u16::from(meaning.record_type()));
        for number in [pointer, rtype, 1] {
            self.body.extend(number.to_be_bytes());
        }
        self.body.extend(TTL.to_be_bytes());
        self.body.extend((data.len() as u16).to_be_bytes());
        let at = self.offset + self.body.len();
        self.body.extend(data);
        self.records.push(Record {
            ttl_at: start as u16 + 6,
            end: self.body.len() as u16,
        });
        self.meaning
            .push(Rr::from_rdata(owner.1.clone(), TTL, meaning));
        self.counts[section] += 1;
        at
    }

    fn stored(&self) -> Stored<'_> {
        let counts = self.counts.map(|count| count as u16);
        Stored {
            flags: header::Flags(0x8580),
            counts,
            records: &self.records,
            body: &self.body,
            rotation: Rotation::find(counts[0], &self.records, &self.body),
        }
    }

    /// What the records before `count` take in the body.
    fn len_of(&self, count: usize) -> usize {
        count
            .checked_sub(1)
            .map_or(0, |last| usize::from(self.records[last].end))
    }

    fn check(&self, client: &Client, reply: Reply<'_>, bare: usize, turn: usize, ttl: u32) {
        let mut out = vec![0xff; reply.size()];
        reply.write(&mut out).expect("it has the size that it says");
        assert!(out.len() <= client.limit, "longer than the client takes");
        let message = Message::from_vec(&out).expect("a reply is well-formed");
        assert_eq!(message.metadata.id, client.id);
        assert_eq!(message.queries[0].name(), &self.name);
        assert_eq!(message.edns.is_some(), client.edns.is_some());

        let mut all = self.meaning.clone();
        let set = &mut all[self.addresses.clone()];
        set.rotate_left(turn % set.len().max(1));
        let (needed, additional) = all.split_at(self.counts[0] + self.counts[1]);
        let given = [&message.answers[..], &message.authorities].concat();
        assert!(
            needed.starts_with(&given),
            "other records, or another order"
        );
        assert_eq!(message.answers.len(), given.len().min(self.counts[0]));
        let lacks = given.len() < needed.len();
        assert_eq!(message.metadata.truncation, lacks, "TC");

        let has_additional = !message.additionals.is_empty();
        if has_additional {
            assert_eq!((&message.additionals[..], lacks), (additional, false));
        }
        let count = given.len() + message.additionals.len();
        assert_eq!(
            out.len(),
            bare + self.len_of(count),
            "bytes that are no record"
        );
        // Additional records go together.
        let next = if lacks { count + 1 } else { all.len() };
        let is_whole = count == all.len();
        assert!(
            is_whole || bare + self.len_of(next) > client.limit,
            "there was room for more"
        );
        let mut records = given.iter().chain(&message.additionals);
        assert!(records.all(|record| record.ttl == ttl), "TTL");
    }
}
