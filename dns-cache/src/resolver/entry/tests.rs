use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dns_cache_common::edns::Edns;
use dns_cache_common::question::Client;
use dns_cache_common::reply::{Reply, Source};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NAPTR, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as Rr, RecordType};
use proptest::prelude::*;

use super::*;
use crate::resolver::clock::Clock;

const CAPS: TtlCaps = TtlCaps {
    positive: 30,
    negative: 5,
    minimum: 0,
};
const OPEN: TtlCaps = TtlCaps {
    positive: u32::MAX,
    negative: u32::MAX,
    minimum: 0,
};
const QUESTION: &[u8] = b"\x03www\x07example\0";

fn now() -> Time {
    Clock::Manual(Arc::new(AtomicU64::new(1_000_000_000_000))).now()
}

fn key(rtype: u16) -> KeyParts<'static> {
    KeyParts {
        name: QUESTION,
        rtype,
        class: 1,
        dnssec_ok: false,
        checking_disabled: false,
    }
}

/// A response with the question above, from the bytes of its records.
fn response(flags: u16, rtype: u16, counts: [u16; 3], records: &[&[u8]]) -> Vec<u8> {
    let header = Header {
        id: 1,
        flags: Flags(flags),
        questions: 1,
        records: counts,
    };
    [
        &header.bytes()[..],
        b"\x03wWw\x07exAmple\0",
        &rtype.to_be_bytes(),
        &[0, 1],
        &records.concat(),
    ]
    .concat()
}

fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
    [
        owner,
        &rtype.to_be_bytes(),
        &[0, 1],
        &ttl.to_be_bytes(),
        &length,
        rdata,
    ]
    .concat()
}

fn a(ttl: u32) -> Vec<u8> {
    record(b"\xc0\x0c", 1, ttl, &[10, 0, 0, 1])
}

fn cname(ttl: u32) -> Vec<u8> {
    record(b"\xc0\x0c", 5, ttl, b"\x01x\xc0\x10")
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers = [1, 2, 3, 4, minimum].map(u32::to_be_bytes).concat();
    record(
        b"\xc0\x10",
        6,
        ttl,
        &[b"\x02ns\xc0\x10\x01m\xc0\x10", &numbers[..]].concat(),
    )
}

fn ingest(rtype: u16, response: &[u8]) -> Result<Entry, BadResponse> {
    Entry::new(response, &key(rtype), terms(CAPS))
}

fn terms(caps: TtlCaps) -> Terms {
    Terms {
        caps,
        cut: false,
        now: now(),
    }
}

fn client() -> Client {
    let edns = Some(Edns {
        udp_size: 1232,
        version: 0,
        dnssec_ok: false,
        client_subnet: false,
    });
    Client {
        id: 7,
        flags: Flags::RD,
        edns,
        limit: 65_535,
    }
}

fn reply(entry: &Entry, question: &[u8], source: Source) -> Vec<u8> {
    let reply = Reply::new(&client(), question, entry.stored(), source);
    let mut out = vec![0; reply.size()];
    reply.write(&mut out).unwrap();
    out
}

/// TTLs of all records, in order.
fn ttls(entry: &Entry) -> Vec<u32> {
    let stored = entry.stored();
    stored
        .records
        .iter()
        .map(|r| u32_at(stored.body, r.ttl_at.into()).unwrap())
        .collect()
}

#[test]
fn owners_equal_to_the_question_are_pointers_to_it() {
    let whole = record(b"\x03WWW\x07example\0", 1, 9, &[10, 0, 0, 1]);
    let entry = ingest(1, &response(0x8180, 1, [1, 0, 0], &[&whole])).unwrap();
    assert_eq!(*entry.body, a(9)[..]);
    assert_eq!(*entry.records, [Record { ttl_at: 6, end: 16 }]);
}

#[test]
fn names_in_old_rdata_are_compressed_and_in_newer_rdata_are_not() {
    let srv = record(b"\xc0\x0c", 33, 9, b"\0\x01\0\x02\0\x35\x01x\xc0\x10");
    let entry = ingest(33, &response(0x8180, 33, [1, 0, 0], &[&srv])).unwrap();
    assert_eq!(
        *entry.body,
        record(b"\xc0\x0c", 33, 9, b"\0\x01\0\x02\0\x35\x01x\x07exAmple\0")[..]
    );
    let mx = record(b"\xc0\x0c", 15, 9, b"\0\x01\x01x\x07EXAMPLE\0");
    let entry = ingest(15, &response(0x8180, 15, [1, 0, 0], &[&mx])).unwrap();
    assert_eq!(
        *entry.body,
        record(b"\xc0\x0c", 15, 9, b"\0\x01\x01x\xc0\x10")[..]
    );
}

#[test]
fn types_from_the_future_are_kept_as_they_are() {
    let rdata = b"\xc0\x0c\xff\x00\x3f".repeat(50);
    let future = record(b"\xc0\x0c", 65_280, 9, &rdata);
    let entry = ingest(65_280, &response(0x8180, 65_280, [1, 0, 0], &[&future])).unwrap();
    assert_eq!(*entry.body, future[..]);
    assert_eq!(entry.ttl(), Some(9));
}

#[test]
fn opt_is_taken_out() {
    let opt = [
        &[0][..],
        &[0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 4, 0, 10, 0, 0],
    ]
    .concat();
    let entry = ingest(1, &response(0x8180, 1, [1, 0, 2], &[&a(9), &opt, &a(8)])).unwrap();
    assert_eq!(
        (entry.counts, &*entry.body),
        ([1, 0, 1], &[a(8), a(8)].concat()[..])
    );
    let mut badcookie = opt;
    badcookie[5] = 1;
    let refused = ingest(1, &response(0x8187, 1, [1, 0, 1], &[&a(9), &badcookie]));
    assert_eq!(refused.err(), Some(Error(rcode::SERVFAIL)));
}

/// What it is; flags, counts and records of the response; the lifetime; the TTLs shown.
type Case = (
    &'static str,
    u16,
    [u16; 3],
    Vec<Vec<u8>>,
    Option<u32>,
    Vec<u32>,
);

/// What is kept, for how long, and which TTLs it shows.
#[test]
fn lifetimes() {
    let x: &[u8] = b"\x01x\x07example\0";
    let target = record(x, 1, 20, &[10, 0, 0, 1]);
    let ns = record(b"\xc0\x10", 2, 9, b"\x02ns\xc0\x10");
    let table: [Case; 17] = [
        ("data", 0x8180, [1, 0, 0], vec![a(9)], Some(9), vec![9]),
        (
            "data, capped",
            0x8180,
            [1, 0, 0],
            vec![a(3600)],
            Some(30),
            vec![30],
        ),
        (
            "the lowest TTL decides",
            0x8180,
            [2, 0, 1],
            vec![a(20), a(9), a(12)],
            Some(9),
            vec![9, 9, 9],
        ),
        (
            "a chain",
            0x8180,
            [2, 0, 0],
            vec![cname(25), target],
            Some(20),
            vec![25, 20],
        ),
        (
            "TTL 0",
            0x8180,
            [2, 0, 0],
            vec![a(9), a(0)],
            None,
            vec![0, 0],
        ),
        (
            "TTL with the highest bit (RFC 2181 §8)",
            0x8180,
            [1, 0, 0],
            vec![a(1 << 31)],
            None,
            vec![0],
        ),
        (
            "NXDOMAIN",
            0x8183,
            [0, 1, 0],
            vec![soa(900, 3)],
            Some(3),
            vec![3],
        ),
        (
            "NXDOMAIN, SOA's own TTL",
            0x8183,
            [0, 1, 0],
            vec![soa(2, 300)],
            Some(2),
            vec![2],
        ),
        (
            "NXDOMAIN, capped",
            0x8183,
            [0, 1, 0],
            vec![soa(900, 300)],
            Some(5),
            vec![5],
        ),
        (
            "NXDOMAIN, SOA minimum 0",
            0x8183,
            [0, 1, 0],
            vec![soa(900, 0)],
            None,
            vec![0],
        ),
        (
            "NXDOMAIN behind a chain",
            0x8183,
            [1, 1, 0],
            vec![cname(25), soa(900, 300)],
            Some(5),
            vec![5, 5],
        ),
        (
            "NXDOMAIN without SOA",
            0x8183,
            [0, 0, 0],
            vec![],
            None,
            vec![],
        ),
        (
            "NODATA",
            0x8180,
            [0, 1, 0],
            vec![soa(900, 300)],
            Some(5),
            vec![5],
        ),
        (
            "NODATA without SOA",
            0x8180,
            [0, 0, 0],
            vec![],
            None,
            vec![],
        ),
        ("a referral", 0x8180, [0, 1, 0], vec![ns], None, vec![9]),
        (
            "a chain to nowhere",
            0x8180,
            [1, 0, 0],
            vec![cname(25)],
            Some(5),
            vec![5],
        ),
        ("truncated", 0x8380, [1, 0, 0], vec![a(9)], None, vec![9]),
    ];
    for (what, flags, counts, records, ttl, shown) in table {
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let entry = ingest(1, &response(flags, 1, counts, &records)).unwrap();
        assert_eq!(entry.ttl(), ttl, "{what}");
        assert_eq!(ttls(&entry), shown, "{what}");
        assert_eq!(entry.flags.rcode(), flags & 15, "{what}");
    }
}

#[test]
fn a_minimum_raises_ttls_up_to_the_caps_but_not_from_nought() {
    let caps = TtlCaps {
        minimum: 10,
        ..CAPS
    };
    for (records, counts, flags, ttl, shown) in [
        (vec![a(3), a(20)], [2, 0, 0], 0x8180, Some(10), vec![10, 10]),
        (vec![a(60)], [1, 0, 0], 0x8180, Some(30), vec![30]),
        (vec![a(0), a(20)], [2, 0, 0], 0x8180, None, vec![0, 0]),
        (vec![soa(60, 2)], [0, 1, 0], 0x8183, Some(5), vec![5]),
        (vec![soa(60, 0)], [0, 1, 0], 0x8183, None, vec![0]),
    ] {
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let response = response(flags, 1, counts, &records);
        let entry = Entry::new(&response, &key(1), terms(caps)).unwrap();
        assert_eq!((entry.ttl(), ttls(&entry)), (ttl, shown), "{records:?}");
    }
}

#[test]
fn a_cut_stands_behind_a_longer_question() {
    let cut = Terms {
        cut: true,
        ..terms(CAPS)
    };
    let gone = response(0x8183, 1, [0, 1, 0], &[&soa(60, 60)]);
    let entry = Entry::new(&gone, &key(1), cut).unwrap();
    assert!(entry.covers_below() && !ingest(1, &gone).unwrap().covers_below());
    let client = client();
    let question = b"\x04what\x04ever\x03www\x07example\0\0\x1c\0\x01";
    let reply = Reply::new(&client, question, entry.stored(), Source::Cache { age: 1 });
    let mut out = vec![0; reply.size()];
    reply.write(&mut out).unwrap();
    let message = Message::from_vec(&out).unwrap();
    let soa = &message.authorities[0];
    assert_eq!(soa.name, Name::from_ascii("example.").unwrap());
    assert_eq!(soa.ttl, 4);

    // NODATA covers nothing, nor does the NXDOMAIN of an alias's target.
    let nodata = response(0x8180, 1, [0, 1, 0], &[&soa_of_example()]);
    assert!(!Entry::new(&nodata, &key(1), cut).unwrap().covers_below());
    let alias = response(0x8183, 1, [1, 1, 0], &[&cname(20), &soa_of_example()]);
    assert!(!Entry::new(&alias, &key(1), cut).unwrap().covers_below());
}

fn soa_of_example() -> Vec<u8> {
    soa(60, 60)
}

#[test]
fn only_data_types_of_class_in_are_kept() {
    let any = response(0x8180, 255, [1, 0, 0], &[&a(9)]);
    let entry = ingest(255, &any).unwrap();
    assert_eq!((entry.ttl(), entry.counts), (None, [1, 0, 0]));
    let mut chaos = response(0x8180, 16, [0, 0, 0], &[]);
    let class_at = chaos.len() - 1;
    chaos[class_at] = 3;
    let key = KeyParts {
        class: 3,
        ..key(16)
    };
    assert_eq!(Entry::new(&chaos, &key, terms(CAPS)).unwrap().ttl(), None);
}

/// RFC 9267 and what else can be wrong; none may be kept, none may panic.
#[test]
fn malformed_responses() {
    let good = response(0x8180, 1, [1, 0, 0], &[&a(9)]);
    let one = |bytes: &[u8]| response(0x8180, 1, [1, 0, 0], &[bytes]);
    let of = |rtype, rdata: &[u8]| one(&record(b"\xc0\x0c", rtype, 9, rdata));
    let opt: &[u8] = &edns::opt(false, 0);
    let at = |i: u8| [0xc0, i];
    // The first record's owner lies behind header and question, at 12 + 13 + 4.
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("no header", good[..11].to_vec()),
        ("a query", response(0x0100, 1, [1, 0, 0], &[&a(9)])),
        ("another opcode", response(0xa180, 1, [1, 0, 0], &[&a(9)])),
        ("another type", response(0x8180, 28, [0; 3], &[])),
        ("count lies", response(0x8180, 1, [2, 0, 0], &[&a(9)])),
        (
            "count lies a lot",
            response(0x8180, 1, [65_535; 3], &[&a(9)]),
        ),
        (
            "owner points to itself",
            one(&record(&at(29), 1, 9, &[1, 2, 3, 4])),
        ),
        (
            "owner loops",
            one(&record(b"\x01a\xc0\x1d", 1, 9, &[1, 2, 3, 4])),
        ),
        (
            "owner points forward",
            one(&record(&at(40), 1, 9, &[1, 2, 3, 4])),
        ),
        (
            "owner points past the end",
            one(&record(&[0xff, 0xff], 1, 9, &[1, 2, 3, 4])),
        ),
        (
            "owner has a reserved label type",
            one(&record(&[0x41, 0], 1, 9, &[1, 2, 3, 4])),
        ),
        ("owner's label past the end", one(&[63])),
        (
            "owner over 255",
            one(&record(
                &[&[1; 254][..], &at(12)].concat(),
                1,
                9,
                &[1, 2, 3, 4],
            )),
        ),
        ("RDATA past the end", good[..good.len() - 1].to_vec()),
        ("A of 3 bytes", of(1, &[1, 2, 3])),
        ("A of 5 bytes", of(1, &[1, 2, 3, 4, 5])),
        ("AAAA of 4 bytes", of(28, &[1, 2, 3, 4])),
        ("CNAME without RDATA", of(5, &[])),
        ("CNAME that ends early", of(5, b"\x01x\xc0\x10zz")),
        (
            "CNAME that runs on",
            [of(5, b"\x03"), b"abc\0".to_vec()].concat(),
        ),
        ("CNAME that loops", of(5, &at(41))),
        ("MX of 2 bytes", of(15, &[0, 1])),
        ("SRV of 6 bytes", of(33, &[0; 6])),
        ("SOA without numbers", of(6, b"\0\0")),
        ("SOA with too few numbers", of(6, &[0; 21])),
        ("NAPTR with a string past the end", of(35, b"\0\0\0\0\xff")),
        ("RRSIG of 10 bytes", of(46, &[0; 10])),
        ("OPT among the answers", one(opt)),
        ("two OPT", response(0x8180, 1, [0, 0, 2], &[opt, opt])),
        (
            "OPT that has a name",
            response(0x8180, 1, [0, 0, 1], &[b"\xc0\x0c", &opt[1..]]),
        ),
    ];
    assert!(ingest(1, &good).is_ok());
    for (what, response) in table {
        assert_eq!(ingest(1, &response).err(), Some(Malformed), "{what}");
    }
    for len in 0..good.len() {
        assert!(ingest(1, &good[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn another_name_is_malformed() {
    let mut other = response(0x8180, 1, [0; 3], &[]);
    other[14] = b'v';
    assert_eq!(ingest(1, &other).err(), Some(Malformed));
}

#[test]
fn an_error_is_an_error_with_or_without_question() {
    let header = Header {
        id: 1,
        flags: Flags(0x8185),
        questions: 0,
        records: [0; 3],
    };
    assert_eq!(
        ingest(1, &header.bytes()).err(),
        Some(Error(rcode::REFUSED))
    );
    let question = response(0x8182, 1, [0, 1, 0], &[&soa(900, 300)]);
    assert_eq!(ingest(1, &question).err(), Some(Error(rcode::SERVFAIL)));
}

#[test]
fn a_response_that_grows_too_large_is_refused() {
    // 4000 SRV records whose targets are pointers to a name of 200 bytes: 800 K without compression.
    let long = [
        &[63; 1][..],
        &[b'x'; 63],
        &[63],
        &[b'y'; 63],
        &[63],
        &[b'z'; 63],
        &[0],
    ]
    .concat();
    let first = record(&long, 1, 9, &[1, 2, 3, 4]);
    let srv = record(b"\xc0\x1d", 33, 9, b"\0\0\0\0\0\0\xc0\x1d");
    let records: Vec<&[u8]> = std::iter::once(&first[..])
        .chain(std::iter::repeat_n(&srv[..], 2500))
        .collect();
    let bomb = response(0x8180, 33, [2501, 0, 0], &records);
    assert!(bomb.len() < 65_536);
    assert_eq!(ingest(33, &bomb).err(), Some(TooLarge));
}

#[test]
fn an_answer_ages() {
    let nanos = Arc::new(AtomicU64::new(5_500_000_000));
    let clock = Clock::Manual(Arc::clone(&nanos));
    let response = response(0x8180, 1, [2, 0, 0], &[&a(9), &a(20)]);
    let entry = Entry::new(
        &response,
        &key(1),
        Terms {
            now: clock.now(),
            ..terms(CAPS)
        },
    )
    .unwrap();
    for (after, age) in [
        (0, Some(0)),
        (999, Some(0)),
        (1000, Some(1)),
        (8999, Some(8)),
        (9000, None),
        (u64::MAX / 2_000_000, None),
    ] {
        nanos.store(5_500_000_000 + after * 1_000_000, Relaxed);
        assert_eq!(entry.age(clock.now()), age, "after {after} ms");
    }
    let question = &response[12..29];
    let message = Message::from_vec(&reply(&entry, question, Source::Cache { age: 8 })).unwrap();
    assert_eq!(
        message.answers.iter().map(|rr| rr.ttl).collect::<Vec<_>>(),
        [1, 1]
    );
}

fn names() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        Just("www"),
        Just("example"),
        Just("EXAMPLE"),
        Just("a"),
        Just("b"),
        "[a-z]{1,20}".prop_map(|s| &*s.leak())
    ];
    proptest::collection::vec(label, 0..5)
        .prop_map(|labels| Name::from_labels(labels.iter().map(|l| l.as_bytes())).unwrap())
}

fn rdata() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|b| RData::A(A(b.into()))),
        any::<[u8; 16]>().prop_map(|b| RData::AAAA(AAAA(b.into()))),
        names().prop_map(|n| RData::CNAME(CNAME(n))),
        names().prop_map(|n| RData::NS(NS(n))),
        names().prop_map(|n| RData::PTR(PTR(n))),
        (any::<u16>(), names()).prop_map(|(p, n)| RData::MX(MX::new(p, n))),
        (any::<[u16; 3]>(), names()).prop_map(|(x, n)| RData::SRV(SRV::new(x[0], x[1], x[2], n))),
        (names(), names(), any::<u32>())
            .prop_map(|(m, r, s)| RData::SOA(SOA::new(m, r, s, 1, 2, 3, 4))),
        "[ -~]{0,40}".prop_map(|s| RData::TXT(TXT::new(vec![s]))),
        names().prop_map(|n| RData::NAPTR(NAPTR::new(
            1,
            2,
            b"s".to_vec().into(),
            b"SIP".to_vec().into(),
            Box::default(),
            n
        ))),
        (
            300u16..60_000,
            proptest::collection::vec(any::<u8>(), 1..50)
        )
            .prop_map(|(code, bytes)| RData::Unknown {
                code: RecordType::from(code),
                rdata: NULL::with(bytes),
            }),
    ]
}

fn records(count: usize) -> impl Strategy<Value = Vec<Rr>> {
    proptest::collection::vec(
        (names(), 1..10_000u32, rdata()).prop_map(|(n, ttl, r)| Rr::from_rdata(n, ttl, r)),
        0..count,
    )
}

fn without_ttls(records: &[Rr]) -> Vec<Rr> {
    let mut records = records.to_vec();
    records.iter_mut().for_each(|rr| rr.ttl = 0);
    records
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = ingest(1, &bytes);
    }

    #[test]
    fn arbitrary_records_never_panic(
        counts in [0..4u16, 0..4u16, 0..4u16],
        rtype in prop_oneof![0..50u16, any::<u16>()],
        parts in proptest::collection::vec((0..60u8, prop_oneof![0..50u16, any::<u16>()], proptest::collection::vec(prop_oneof![Just(0xc0u8), 0..40u8, any::<u8>()], 0..40)), 0..8),
        cut in 0..400usize,
    ) {
        let records: Vec<_> = parts.iter().map(|(at, rtype, rdata)| record(&[0xc0, *at], *rtype, 9, rdata)).collect();
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let mut bytes = response(0x8180, rtype, counts, &records);
        bytes.truncate(cut.max(29));
        if let Ok(entry) = ingest(rtype, &bytes) {
            // Whatever is accepted is sound: its records can be walked, and truncated anywhere.
            let whole = reply(&entry, &bytes[12..29], Source::Cache { age: 3 });
            for limit in 29..whole.len() {
                let limited = Client { limit, ..client() };
                let short = Reply::new(&limited, &bytes[12..29], entry.stored(), Source::Upstream);
                let mut out = vec![0; short.size()];
                prop_assert!(short.write(&mut out).is_some());
                prop_assert!(out.len() <= limit.max(12 + 17 + 11));
            }
        }
    }

    /// What hickory writes is, after a stay in the cache, what hickory reads.
    #[test]
    fn round_trip(
        answers in records(8), authorities in records(5), additionals in records(5),
        question in names(), rtype in prop_oneof![Just(1u16), Just(33), Just(6)], nxdomain: bool,
    ) {
        let mut message = Message::new(99, MessageType::Response, OpCode::Query);
        message.metadata.response_code = if nxdomain { ResponseCode::NXDomain } else { ResponseCode::NoError };
        message.add_query(Query::query(question, RecordType::from(rtype)));
        message.answers = answers;
        message.authorities = authorities;
        message.additionals = additionals;
        let bytes = message.to_vec().unwrap();
        let (asked, _) = split_question(&bytes).unwrap();
        let name = asked[..asked.len() - 4].to_ascii_lowercase();
        let key = KeyParts { name: &name, rtype, ..key(rtype) };
        let entry = Entry::new(&bytes, &key, terms(OPEN)).unwrap();

        let decoded = Message::from_vec(&reply(&entry, &asked.to_ascii_uppercase(), Source::Cache { age: 0 })).unwrap();
        prop_assert_eq!(&decoded.queries, &message.queries);
        prop_assert_eq!(decoded.metadata.response_code, message.metadata.response_code);
        prop_assert_eq!(without_ttls(&decoded.answers), without_ttls(&message.answers));
        prop_assert_eq!(without_ttls(&decoded.authorities), without_ttls(&message.authorities));
        prop_assert_eq!(without_ttls(&decoded.additionals), without_ttls(&message.additionals));

        // Every shorter reply is whole records, too.
        for limit in (512..bytes.len()).step_by(37) {
            let limited = Client { limit, ..client() };
            let short = Reply::new(&limited, asked, entry.stored(), Source::Upstream);
            let mut out = vec![0; short.size()];
            short.write(&mut out).unwrap();
            let decoded = Message::from_vec(&out).unwrap();
            prop_assert!(out.len() <= limit);
            prop_assert_eq!(&without_ttls(&decoded.answers)[..], &without_ttls(&message.answers)[..decoded.answers.len()]);
        }
    }
}
