//! The kernel says exactly what the resolver would say: generated contents, generated queries, both sides' replies.

use std::cell::{Cell, RefCell};

use dns_cache::config::TtlCaps;
use dns_cache::kernel_cache::Size;
use dns_cache::resolver::{Entry, Terms, Time};
use dns_cache_common::question::{Key, KeyParts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::harness::{Harness, Place};
use super::super::packet::{Packet, udp};
use super::message::{Opt, QUESTION, Query, Record, Response};
use super::oracle::{Came, Oracle};
use super::{ZONE, key, now, repeated};

/// Room for everything that is generated: what is in it is known.
const ROOMY: Size = Size {
    entries: 100_000,
    buckets: 50_000,
    elements: 64,
};
const CASES: u64 = 2_000;
const SEED: [u8; 32] = *b"the same cases in every test run";

/// What is put in, and what is then asked.
#[derive(Debug, Clone)]
struct Case {
    response: Response,
    /// DO and CD of the key.
    bits: u8,
    caps: TtlCaps,
    /// Thousandths of its TTL that have passed.
    age: i64,
    asks: Vec<Ask>,
}

/// A query, made from the question that the response answers.
#[derive(Debug, Clone)]
struct Ask {
    id: u16,
    /// AD, RD, Z; CD is the key's.
    flags: u16,
    /// Which letters are upper case.
    case: u64,
    size: EdnsSize,
    options: Vec<(u16, Vec<u8>)>,
    v4: bool,
    checksum: Checksum,
    oddity: Oddity,
}

#[derive(Debug, Clone, Copy)]
enum EdnsSize {
    /// No OPT record, unless DO wants one.
    None,
    Of(u16),
    /// So many bytes more than the answer needs.
    Needed(i16),
}

#[derive(Debug, Clone, Copy)]
enum Checksum {
    None,
    Partial,
    Whole,
}

/// What most queries do not have.
#[derive(Debug, Clone)]
enum Oddity {
    None,
    Bits(u8),
    Flags(u16),
    Version(u8),
    Questions(u16),
    Class(u16),
    Type(u16),
    Label(Vec<u8>),
    /// The name is so much below the response's, the type another one.
    Below(Vec<Vec<u8>>, u16),
    Junk(Vec<u8>),
    /// The byte at this place (modulo the length) becomes another one.
    Byte(usize, u8),
    Cut(usize),
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(select(&b"abcXYZ-019"[..]), 1..4),
        2 => vec(any::<u8>(), 1..12),
        1 => vec(select(&b"longLONG"[..]), 40..=63),
    ]
}

/// A name that is `behind` labels.
fn name(labels: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in labels {
        if name.len() + label.len() + 1 + behind.len() <= 255 {
            name.push(label.len() as u8);
            name.extend(label);
        }
    }
    name.extend(behind);
    name
}

fn wire_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(label(), 0..6),
        1 => vec(label(), 6..130),
    ]
    .prop_map(|labels| name(&labels, &[0]))
}

/// A name in the cluster's zone; the places at which cuts may stand are among them, and others that look like those.
fn cluster_name() -> impl Strategy<Value = Vec<u8>> {
    let own = || {
        let number = prop_oneof![1 => 0..8u16, 2 => 8..300u16];
        number.prop_map(|number| format!("label{number}").into_bytes())
    };
    let fixed = |label: &'static str| Just(label.as_bytes().to_vec());
    let place = || prop_oneof![6 => own(), 1 => fixed("_tcp"), 1 => fixed("stub")];
    let above = prop_oneof![4 => Just(None), 6 => fixed("svc").prop_map(Some), 1 => fixed("pod").prop_map(Some),
        1 => own().prop_map(Some)];
    let labels = prop_oneof![
        4 => vec(place(), 1),
        4 => (place(), own()).prop_map(|(place, namespace)| vec![place, namespace]),
        1 => vec(place(), 3..5),
    ];
    (labels, above).prop_map(|(mut labels, above)| {
        labels.extend(above);
        name(&labels, ZONE)
    })
}

/// A name in a response: the question's, one below it, or another.
fn owner() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(QUESTION.to_vec()),
        2 => vec(select(&b"abc"[..]), 1..4).prop_map(|label| name(&[label], QUESTION)),
        1 => wire_name(),
    ]
}

fn ttl() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0),
        1 => Just(u32::MAX),
        30 => 1..20u32,
        30 => 20..5000u32,
        2 => 0x7fff_fff0..0x7fff_ffffu32,
    ]
}

/// RDATA of a type.
fn data(rtype: u16) -> BoxedStrategy<Vec<u8>> {
    let behind =
        |len| (vec(any::<u8>(), len), owner()).prop_map(|(bytes, name)| [bytes, name].concat());
    match rtype {
        1 => vec(any::<u8>(), 4).boxed(),
        28 => vec(any::<u8>(), 16).boxed(),
        2 | 5 | 12 => owner().boxed(),
        15 => behind(2).boxed(),
        33 => behind(6).boxed(),
        6 => (owner(), owner(), vec(any::<u8>(), 20))
            .prop_map(|(server, mailbox, numbers)| [server, mailbox, numbers].concat())
            .boxed(),
        16 => vec(vec(any::<u8>(), 0..40), 1..4)
            .prop_map(|all| strings(&all))
            .boxed(),
        // HTTPS: priority, target (never compressed), parameters.
        65 => (wire_name(), vec(any::<u8>(), 0..30))
            .prop_map(|(target, rest)| [vec![0, 1], target, rest].concat())
            .boxed(),
        _ => vec(any::<u8>(), 0..60).boxed(),
    }
}

/// Strings with their lengths before them.
fn strings(all: &[Vec<u8>]) -> Vec<u8> {
    all.iter()
        .flat_map(|string| [&[string.len() as u8], &string[..]].concat())
        .collect()
}

fn record(rtype: u16) -> impl Strategy<Value = Record> {
    (owner(), ttl(), data(rtype)).prop_map(move |(owner, ttl, data)| Record {
        owner,
        rtype,
        ttl,
        data,
    })
}

/// Types that answers have; the last two are nobody's.
fn data_type() -> impl Strategy<Value = u16> {
    select(&[1u16, 28, 5, 33, 12, 16, 15, 6, 2, 65, 65_280, 300][..])
}

fn sections() -> impl Strategy<Value = (u16, [Vec<Record>; 3])> {
    let chain = |of: usize| {
        (0..of)
            .map(|i| {
                let at = |i: usize| name(&[vec![b'a' + i as u8]], QUESTION);
                let owner = if i == 0 { QUESTION.to_vec() } else { at(i) };
                Record::new(&owner, 5, 100, &at(i + 1))
            })
            .collect::<Vec<_>>()
    };
    let addresses = (
        select(&[1u16, 28][..]),
        0..4usize,
        prop_oneof![4 => 1..5usize, 2 => 5..40usize, 1 => 40..=110usize],
        1..5000u32,
        any::<[u8; 13]>(),
    )
        .prop_map(move |(rtype, aliases, count, ttl, bytes)| {
            let owner = chain(aliases)
                .last()
                .map_or_else(|| QUESTION.to_vec(), |alias| alias.data.clone());
            let mut answers = chain(aliases);
            answers.extend((0..count).map(|i| {
                let data = if rtype == 1 {
                    vec![10, 1, (i / 256) as u8, i as u8]
                } else {
                    [&bytes[..], &[0, 0, i as u8]].concat()
                };
                Record::new(&owner, rtype, ttl, &data)
            }));
            (rtype, [answers, Vec::new(), Vec::new()])
        });
    // What is left for RDATA in a reply of 512 or 1232 bytes, about.
    let filled = (any::<bool>(), -40..40i32, 1..20usize).prop_map(|(large, more, records)| {
        let room = if large { 1170 } else { 460 } + more - 12 * records as i32;
        let len = (room.max(0) as usize) / records;
        let record = |i| Record::new(QUESTION, 65_280, 100 + i as u32, &vec![i as u8; len]);
        (
            65_280,
            [(0..records).map(record).collect(), Vec::new(), Vec::new()],
        )
    });
    let any_records = |len| vec(data_type().prop_flat_map(record), len);
    let mixed = data_type().prop_flat_map(move |rtype| {
        let own = vec(record(rtype), 1..6);
        (own, any_records(0..4), any_records(0..3), any_records(0..4)).prop_map(
            move |(mut own, others, authority, additional)| {
                own.extend(others);
                (rtype, [own, authority, additional])
            },
        )
    });
    let denial = (data_type(), 0..3usize, 1..5000u32).prop_map(move |(rtype, aliases, ttl)| {
        (rtype, [chain(aliases), vec![Record::soa(ttl)], Vec::new()])
    });
    prop_oneof![4 => addresses, 2 => filled, 4 => mixed, 2 => denial]
}

fn response() -> impl Strategy<Value = Response> {
    let flags = prop_oneof![6 => Just(0x8180u16), 2 => Just(0x8580), 2 => Just(0x81a0), 2 => Just(0x8183),
        1 => any::<u16>().prop_map(|flags| flags & !0x7800 | 0x8000)];
    let names = prop_oneof![4 => wire_name(), 1 => cluster_name()];
    let any = (flags, names, sections()).prop_map(|(flags, name, (rtype, sections))| Response {
        flags,
        name,
        rtype,
        sections,
    });
    // Mostly a cut.
    let absent = (cluster_name(), select(&[1u16, 1, 1, 28][..]), 1..5000u32).prop_map(
        |(name, rtype, ttl)| {
            Response::new(&name, rtype, Vec::new()).with(|response| {
                response.flags = 0x8583;
                response.sections[1].push(Record::soa(ttl));
            })
        },
    );
    prop_oneof![2 => any, 1 => absent]
}

fn ask() -> impl Strategy<Value = Ask> {
    let size = prop_oneof![
        3 => Just(EdnsSize::None),
        4 => Just(EdnsSize::Of(1232)),
        2 => any::<u16>().prop_map(EdnsSize::Of),
        3 => (-2..3i16).prop_map(EdnsSize::Needed),
    ];
    // Cookie, padding, keepalive, NSID, something new.
    let option = (
        select(&[10u16, 12, 11, 3, 65_001][..]),
        vec(any::<u8>(), 0..40),
    );
    let options = prop_oneof![
        6 => Just(Vec::new()),
        4 => vec(option.clone(), 1..4),
        1 => vec(option, 4..7),
        1 => Just(vec![(8, vec![0, 1, 24, 0, 10, 0, 0])]),
        1 => (400..600usize).prop_map(|len| vec![(12, vec![0; len])]),
    ];
    let flags = prop_oneof![
        8 => Just(0x0100u16),
        4 => select(&[0x0120u16, 0x0140, 0x01a0, 0x0780][..]),
        1 => Just(0x0000),
    ];
    let checksum = select(&[Checksum::None, Checksum::Partial, Checksum::Whole][..]);
    let oddity = prop_oneof![
        30 => Just(Oddity::None),
        1 => (0..4u8).prop_map(Oddity::Bits),
        1 => any::<u16>().prop_map(Oddity::Flags),
        1 => any::<u8>().prop_map(Oddity::Version),
        1 => (0..3u16).prop_map(Oddity::Questions),
        1 => any::<u16>().prop_map(Oddity::Class),
        1 => any::<u16>().prop_map(Oddity::Type),
        1 => label().prop_map(Oddity::Label),
        10 => (vec(label(), 1..4), data_type()).prop_map(|(labels, rtype)| Oddity::Below(labels, rtype)),
        1 => vec(any::<u8>(), 1..20).prop_map(Oddity::Junk),
        4 => any::<(usize, u8)>().prop_map(|(at, byte)| Oddity::Byte(at, byte)),
        1 => any::<usize>().prop_map(Oddity::Cut),
    ];
    (
        any::<u16>(),
        flags,
        any::<u64>(),
        size,
        options,
        any::<bool>(),
        checksum,
        oddity,
    )
        .prop_map(
            |(id, flags, case, size, options, v4, checksum, oddity)| Ask {
                id,
                flags,
                case,
                size,
                options,
                v4,
                checksum,
                oddity,
            },
        )
}

fn case() -> impl Strategy<Value = Case> {
    let caps = select(
        &[
            (3600, 30, 0),
            (u32::MAX, u32::MAX, 0),
            (5, 1, 0),
            (60, 60, 10),
        ][..],
    );
    // Some are of the future, some have expired.
    let age = prop_oneof![3 => Just(0i64), 6 => 0..1000i64, 1 => -500..1500i64];
    (response(), 0..4u8, caps, age, vec(ask(), 8)).prop_map(
        |(response, bits, (positive, negative, minimum), age, asks)| Case {
            response,
            bits,
            caps: TtlCaps {
                positive,
                negative,
                minimum,
            },
            age,
            asks,
        },
    )
}

impl Ask {
    /// The query, for the question of `case`, whose whole answer without OPT has `needed` bytes.
    fn message(&self, case: &Case, needed: usize) -> Vec<u8> {
        let mut bits = case.bits;
        if let Oddity::Bits(other) = self.oddity {
            bits = other;
        }
        let upper = |(i, byte): (usize, u8)| {
            if self.case >> (i % 64) & 1 == 1 {
                byte.to_ascii_uppercase()
            } else {
                byte.to_ascii_lowercase()
            }
        };
        let as_sent = case.response.name.iter().copied().enumerate().map(upper);
        let mut query = Query::new(&as_sent.collect::<Vec<_>>(), case.response.rtype).with(|q| {
            q.id = self.id;
            q.flags = self.flags | u16::from(bits >> 1) << 4;
        });
        let dnssec_ok = bits & 1 == 1;
        let size = match self.size {
            EdnsSize::None => dnssec_ok.then_some(1232),
            EdnsSize::Of(size) => Some(size),
            EdnsSize::Needed(more) => Some(
                u16::try_from(needed + 11)
                    .unwrap_or(u16::MAX)
                    .saturating_add_signed(more),
            ),
        };
        query.opt = size.map(|size| Opt {
            dnssec_ok,
            options: self.options.clone(),
            ..Opt::of_size(size)
        });
        match (&self.oddity, &mut query.opt) {
            (Oddity::Flags(flags), _) => query.flags = *flags,
            (Oddity::Version(version), Some(opt)) => opt.version = *version,
            (Oddity::Questions(questions), _) => query.questions = *questions,
            (Oddity::Class(class), _) => query.class = *class,
            (Oddity::Type(rtype), _) => query.rtype = *rtype,
            (Oddity::Label(label), _) => {
                query.name = name(std::slice::from_ref(label), &query.name)
            }
            (Oddity::Below(labels, rtype), _) => {
                query.name = name(labels, &query.name);
                query.rtype = *rtype;
            }
            (Oddity::Junk(junk), _) => query.junk = junk.clone(),
            _ => {}
        }
        let mut message = query.bytes();
        let len = message.len();
        match self.oddity {
            Oddity::Byte(at, byte) => message[at % len] = byte,
            Oddity::Cut(at) => message.truncate(at % len),
            _ => {}
        }
        message
    }

    fn packet(&self, pod: Place, message: Vec<u8>) -> Packet {
        let query = udp(pod, self.v4).with(|p| p.payload = message);
        match self.checksum {
            Checksum::None if self.v4 => query,
            Checksum::Whole => query.with_whole_checksum(),
            Checksum::None | Checksum::Partial => query.with_partial_checksum(),
        }
    }
}

impl Case {
    fn key(&self) -> Key {
        key(&self.response.name, self.response.rtype, self.bits)
    }

    /// The entry that the resolver makes of the response, if it takes it.
    fn entry(&self) -> Option<Entry> {
        let key = self.key();
        let terms = Terms {
            caps: self.caps,
            cut: false,
            now: now(),
        };
        let parts = KeyParts::read(key.as_bytes()).unwrap();
        Entry::new(&self.response.bytes(), &parts, terms).ok()
    }

    /// Lets the resolver take the response in, and thereby the kernel; the bytes that the whole answer needs without OPT.
    fn comes_to(&self, oracle: &Oracle) -> usize {
        let key = self.key();
        let response = self.response.bytes();
        let Some(entry) = self.entry() else {
            let taken = oracle
                .resolver()
                .take_in(key.as_bytes(), &response, self.caps, now());
            assert!(taken.is_err(), "a response is taken that is none");
            return 0;
        };
        let ttl = i64::from(entry.ttl().unwrap_or_default());
        let age = ttl.saturating_mul(self.age * 1_000_000);
        let stored = Time::from_nanos(now().nanos().saturating_add_signed(-age));
        let known = oracle.resolver().entry(key.as_bytes());
        // Answers come in the order of their times: the kernel's newer one would stay.
        if known.is_none_or(|known| known.stored_at() <= stored) {
            let taken = oracle
                .resolver()
                .take_in(key.as_bytes(), &response, self.caps, stored);
            taken.unwrap();
        }
        12 + self.response.name.len() + 4 + entry.stored().body.len()
    }
}

#[test]
fn the_kernel_says_what_the_resolver_says() {
    let harness = Harness::with_cache(ROOMY);
    let pod = harness.pod('a');
    let oracle = Oracle::mirroring(harness.cache());
    let harness = RefCell::new(harness);
    let (asked, answered, cut) = (Cell::new(0u64), Cell::new(0u64), Cell::new(0u64));
    let more = |count: &Cell<u64>| count.set(count.get() + 1);
    let config = Config {
        cases: u32::try_from(repeated(CASES)).unwrap(),
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let result = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let mut harness = harness.borrow_mut();
        let needed = case.comes_to(&oracle);
        for ask in &case.asks {
            let query = ask.packet(pod, ask.message(&case, needed));
            let before = now();
            let outcome = harness.sent_by_pod(pod, &query);
            let expected = oracle.expected(&query, [before, now()]);
            more(&asked);
            match expected.check(&query, &outcome) {
                Came::HandedOver => {}
                Came::Answered { by_cut } => {
                    more(&answered);
                    cut.set(cut.get() + u64::from(by_cut));
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let (asked, answered, cut) = (asked.get(), answered.get(), cut.get());
    println!("{answered} of {asked} queries were answered in the kernel, {cut} by a name above");
    assert!(
        answered > asked / 4,
        "the cases are poor: {answered} of {asked}"
    );
    assert!(
        asked - answered > asked / 10,
        "the cases are easy: {answered} of {asked}"
    );
    assert!(cut > asked / 200, "hardly any cuts: {cut} of {asked}");
}
