//! Why a query is not answered in the kernel: each reason has its counter, and leaves the query as it was.

use dns_cache::resolver::Time;
use dns_cache_common::cached::{CELL, WORD, word};
use dns_cache_common::hits::{self, Code, Hit};

use super::super::harness::{Harness, Outcome, Verdict};
use super::super::packet::{Packet, tcp, udp};
use super::message::{Opt, QUESTION, Query, Record, Response};
use super::oracle::untouched;
use super::{NAME, NEVER, SECOND, SIZE, headers, key, now, put, put_addresses};

/// Checks that the query went to the resolver for this reason.
fn check(what: &str, query: &Packet, outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.verdict, Verdict::Redirect, "{what}: {outcome:?}");
    let counted: Vec<_> = outcome
        .counted
        .iter()
        .filter(|(name, _)| **name != "learnt")
        .collect();
    assert_eq!(counted, [(&reason, &1), (&"to_resolver_udp", &1)], "{what}");
    untouched(query, outcome);
}

fn edns(change: impl FnOnce(&mut Opt)) -> Query {
    let mut opt = Opt::of_size(1232);
    change(&mut opt);
    Query::new(NAME, 1).with(|q| q.opt = Some(opt))
}

fn options(options: Vec<(u16, Vec<u8>)>) -> Query {
    edns(|opt| opt.options = options)
}

#[test]
fn what_is_not_looked_up() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    put_addresses(&harness, 3, 300);
    let plain = || Query::new(NAME, 1);
    let raw = |bytes: &[u8]| Query {
        name: bytes.to_vec(),
        ..plain()
    };
    let rows = [
        (
            "a response",
            plain().with(|q| q.flags |= 0x8000),
            "malformed",
        ),
        (
            "no question",
            plain().with(|q| q.questions = 0),
            "malformed",
        ),
        (
            "two questions",
            plain().with(|q| q.questions = 2),
            "malformed",
        ),
        ("a pointer for a name", raw(&[0xc0, 12]), "malformed"),
        ("an endless label", raw(&[63]), "malformed"),
        ("a reserved label type", raw(b"\x41\x03www\0"), "malformed"),
        (
            "bytes behind it",
            plain().with(|q| q.junk = vec![0]),
            "malformed",
        ),
        (
            "bytes behind OPT",
            edns(|_| ()).with(|q| q.junk = vec![0]),
            "malformed",
        ),
        (
            "a broken option",
            options(vec![(10, vec![0; 8])]).with(|q| q.junk = vec![0, 10]),
            "malformed",
        ),
        ("TSIG", Query::new(NAME, 250), "malformed"),
        ("a long message", options(vec![(12, vec![0; 512])]), "long"),
        ("five options", options(vec![(12, vec![]); 5]), "long"),
        ("NOTIFY", plain().with(|q| q.flags |= 4 << 11), "opcode"),
        (
            "EDNS version 1",
            edns(|opt| opt.version = 1),
            "edns_version",
        ),
        (
            "client subnet",
            options(vec![(8, vec![0, 1, 0, 0])]),
            "client_subnet",
        ),
        (
            "client subnet behind a cookie",
            options(vec![(10, vec![7; 8]), (8, vec![0, 1, 0, 0])]),
            "client_subnet",
        ),
        ("class CH", plain().with(|q| q.class = 3), "type"),
        ("class ANY", plain().with(|q| q.class = 255), "type"),
        ("ANY", Query::new(NAME, 255), "type"),
        ("AXFR", Query::new(NAME, 252), "type"),
        ("IXFR", Query::new(NAME, 251), "type"),
        ("type 0", Query::new(NAME, 0), "type"),
        ("type 128", Query::new(NAME, 128), "type"),
        ("no RD", plain().with(|q| q.flags = 0), "no_recursion"),
    ];
    let before = harness.traffic(pod);
    let mut bypasses = 0;
    for (what, query, reason) in rows {
        for v4 in [true, false] {
            let query = udp(pod, v4)
                .with(|p| p.payload = query.bytes())
                .with_partial_checksum();
            let outcome = harness.sent_by_pod(pod, &query);
            check(what, &query, &outcome, &format!("cache_bypasses_{reason}"));
            bypasses += 1;
        }
    }
    for len in [0, 1, 12, 16] {
        let query = udp(pod, true).with(|p| p.payload.truncate(len));
        let outcome = harness.sent_by_pod(pod, &query);
        check("too short", &query, &outcome, "cache_bypasses_malformed");
        bypasses += 1;
    }
    let query = udp(pod, true);
    let outcome = harness.sent_together(pod, &query);
    check("GSO", &query, &outcome, "cache_bypasses_packet");
    bypasses += 1;
    // TCP is nobody's bypass.
    assert_eq!(
        harness.sent_by_pod(pod, &tcp(pod, true)).counted["to_resolver_tcp"],
        1
    );

    let [hits, misses, all] = before;
    assert_eq!(harness.traffic(pod), [hits, misses, all + bypasses]);
    assert_eq!(harness.traffic(harness.pod('b')), [0; 3]);
}

#[test]
fn what_is_looked_up_and_not_answered() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('b');
    let query = udp(pod, false).with_partial_checksum();
    let missed = |harness: &mut Harness, reason| {
        let outcome = harness.sent_by_pod(pod, &query);
        check(reason, &query, &outcome, reason);
    };
    missed(&mut harness, "cache_misses_absent");
    let response = Response::addresses(NAME, 1, 3);
    let key = key(NAME, 1, 0);
    let stored = Time::from_nanos(now().nanos() - 3 * SECOND);
    put(&harness, &key, &response, stored, NEVER);
    missed(&mut harness, "cache_misses_expired");
    // Header, question, an address and another record's head take 57 of 512 bytes.
    let address = Record::new(QUESTION, 1, 300, &[10, 0, 0, 1]);
    let filled = |bytes| {
        let filling = Record::new(QUESTION, 65_280, 300, &vec![1; bytes]);
        Response::new(NAME, 1, vec![address.clone(), filling])
    };
    put(&harness, &key, &filled(512 - 57 + 1), now(), NEVER);
    missed(&mut harness, "cache_misses_too_long");
    put(&harness, &key, &filled(512 - 57), now(), NEVER);
    let outcome = harness.sent_by_pod(pod, &query);
    assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
    assert_eq!(headers::message(&query, &outcome.packet).len(), 512);
    let mut whole = Vec::new();
    harness.change_arena(|arena| {
        whole = arena.to_vec();
        for cell in arena.chunks_mut(CELL) {
            cell[word::GENERATION * WORD..][..WORD].fill(0);
        }
    });
    missed(&mut harness, "cache_misses_changed");
    harness.change_arena(|arena| arena.copy_from_slice(&whole));
    harness.cache().remove(key.as_bytes());
    missed(&mut harness, "cache_misses_absent");

    assert_eq!(harness.traffic(pod), [1, 5, 0]);
    assert_eq!(harness.traffic(harness.pod('a')), [0; 3]);
}

/// The agent has not registered the interface: no reply can be sent through it, and the resolver is not asked
/// either.
#[test]
fn an_interface_that_is_not_registered_is_not_answered() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    put_addresses(&harness, 1, 300);
    harness.forget_interface(pod.ifindex);
    let query = udp(pod, true);
    let outcome = harness.sent_by_pod(pod, &query);
    assert_eq!(outcome.verdict, Verdict::Unspec);
    assert_eq!(outcome.counted.get("cache_misses_packet"), Some(&1));
    assert_eq!(outcome.packet, query.bytes());
}

/// Rcodes are counted each for themselves.
#[test]
fn hits_are_counted_by_rcode() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    let key = key(NAME, 1, 0);
    for (flags, counted) in [
        (0x8180, "cache_hits_noerror"),
        (0x8183, "cache_hits_nxdomain"),
    ] {
        let mut response = Response::new(NAME, 1, Vec::new());
        response.flags = flags;
        response.sections[1].push(Record::soa(300));
        put(&harness, &key, &response, now(), NEVER);
        let query = udp(pod, true);
        let outcome = harness.sent_by_pod(pod, &query);
        assert_eq!(outcome.counted, [(counted, 1)].into());
    }
    assert_eq!(harness.traffic(pod), [2, 0, 0]);
}

/// As the resolver counts its own: by family, type, and what was said.
#[test]
fn hits_are_counted_by_kind() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    let outcome = |code, is_denial| hits::Outcome { code, is_denial };
    let mut expected = Vec::new();
    for (n, (rtype, flags, data, outcome)) in [
        (
            1,
            0x8180,
            &[[10, 0, 0, 1]][..],
            outcome(Code::NoError, false),
        ),
        (28, 0x8180, &[], outcome(Code::NoError, true)),
        (65, 0x8183, &[], outcome(Code::NxDomain, true)),
        (65_280, 0x8180, &[[7; 4]], outcome(Code::NoError, false)),
        (
            16,
            0x8180,
            &[[3, b'a', b'b', b'c']],
            outcome(Code::NoError, false),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut response = Response::new(NAME, rtype, Vec::new());
        response.flags = flags;
        let record = |data: &[u8; 4]| Record::new(QUESTION, rtype, 300, data);
        response.sections[0].extend(data.iter().map(record));
        response.sections[1].push(Record::soa(300));
        let key = key(NAME, rtype, 0);
        put(&harness, &key, &response, now(), NEVER);
        for is_ipv6 in [false, true] {
            let query = udp(pod, !is_ipv6)
                .with(|p| p.payload = Query::new(NAME, rtype).bytes())
                .with_partial_checksum();
            for _ in 0..=n {
                harness.sent_by_pod(pod, &query);
            }
            let kind = hits::kind(rtype);
            let hit = Hit {
                is_ipv6,
                dnssec_ok: false,
                kind,
                outcome,
            };
            expected.push((hit, n as u64 + 1));
        }
    }
    expected.sort_by_key(|(hit, _)| hit.slot());
    assert_eq!(harness.hits(), expected);
}

#[test]
fn hits_with_do_are_counted_apart() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    for bits in [0, 1] {
        let mut response = Response::new(NAME, 1, Vec::new());
        response.sections[0].push(Record::new(QUESTION, 1, 300, &[10, 0, 0, 1]));
        put(&harness, &key(NAME, 1, bits), &response, now(), NEVER);
    }
    // Without EDNS, with it, and with DO.
    for (query, times) in [
        (Query::new(NAME, 1), 1),
        (edns(|_| {}), 2),
        (edns(|opt| opt.dnssec_ok = true), 4),
    ] {
        let query = udp(pod, true)
            .with(|p| p.payload = query.bytes())
            .with_partial_checksum();
        for _ in 0..times {
            harness.sent_by_pod(pod, &query);
        }
    }
    let counted: Vec<_> = harness
        .hits()
        .into_iter()
        .map(|(hit, n)| (hit.dnssec_ok, n))
        .collect();
    assert_eq!(counted, [(false, 3), (true, 4)]);
}

/// Without a resolver's socket the kernel still answers what it has.
#[test]
fn hits_need_no_resolver() {
    let mut harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    put_addresses(&harness, 1, 300);
    harness.clear_resolver();
    let outcome = harness.sent_by_pod(pod, &udp(pod, true));
    assert_eq!(outcome.counted.get("cache_hits_noerror"), Some(&1));
}
