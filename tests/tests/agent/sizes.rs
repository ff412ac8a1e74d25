//! How large an answer may be, and EDNS.

use dns_cache_tests::wire::{Edns, flag, rtype};
use dns_cache_tests::zones::HUGE;
use dns_cache_tests::{Client, Family, Flavour, Message, OrPanic, Query, Reply, Transport};

use crate::{WEB, lab_with_agent};

const MANY_A: &str = "huge.types.svc.cluster.local";

fn ask(client: &Client, transport: Transport, query: &Query) -> Reply {
    client
        .ask(transport, query)
        .or_panic(format_args!("{} over {transport:?}", query.name))
}

/// As many whole records as fit: musl before 1.2.4 has no TCP and lives on them.
#[test]
fn too_large_answers_are_truncated_to_whole_records() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        let query = Query::new(MANY_A, rtype::A);
        for (query, size, opt) in [
            (query.clone(), 512, 0),
            // Less than 512 means 512 (RFC 6891, 6.2.3).
            (query.clone().edns(100), 512, 11),
            (query.clone().edns(1232), 1232, 11),
        ] {
            for round in 0..3 {
                let Reply { message, bytes, .. } = ask(&client, Transport::Connected, &query);
                assert!(message.has(flag::TC), "{size}, round {round}: no TC");
                assert!(
                    bytes.len() <= size,
                    "{size}, round {round}: {} bytes",
                    bytes.len()
                );
                assert!(
                    bytes.len() + 16 > size - opt,
                    "{size}, round {round}: one more A record would have fitted into {}",
                    bytes.len()
                );
            }
        }
        let Reply { message, .. } = ask(&client, Transport::Connected, &query.edns(4096));
        if !message.has(flag::TC) {
            assert_eq!(message.answers.len(), usize::from(HUGE));
        }
        for _ in 0..2 {
            let Reply { message, .. } = ask(&client, Transport::Tcp, &Query::new(MANY_A, rtype::A));
            assert_eq!(
                (message.answers.len(), message.has(flag::TC)),
                (usize::from(HUGE), false)
            );
        }
        // 24 strings of 72 octets: whole records, not torn ones (the client reads every byte).
        let Reply { message, bytes, .. } = ask(
            &client,
            Transport::Connected,
            &Query::new("txt-big.types.svc.cluster.local", rtype::TXT),
        );
        assert!(message.has(flag::TC) && !message.answers.is_empty() && bytes.len() <= 512);
    }
}

#[test]
fn edns_is_answered_with_edns_and_only_then() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let client = lab.pod(0).client(Family::V4);
    for _ in 0..2 {
        let plain = ask(&client, Transport::Connected, &Query::new(WEB, rtype::A)).message;
        assert!(plain.opt.is_none());
        for query in [
            Query::new(WEB, rtype::A).edns(1232),
            Query::new(WEB, rtype::A).dnssec_ok(1232),
        ] {
            let message = ask(&client, Transport::Connected, &query).message;
            let opt = message.opt.as_ref().or_panic("no OPT");
            assert_eq!(message.data(), [crate::WEB_A]);
            assert!(opt.class >= 512, "a size of {}", opt.class);
            assert_eq!(opt.ttl >> 16 & 0xff, 0, "version");
            let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
            assert_eq!(opt.ttl & 0x8000 != 0, dnssec_ok, "DO is copied (RFC 3225)");
        }
    }
}

#[test]
fn unknown_edns_version_is_badvers() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let edns = Edns {
        size: 1232,
        version: 1,
        ..Edns::default()
    };
    let query = Query {
        edns: Some(edns),
        ..Query::new(WEB, rtype::A)
    };
    for transport in Transport::ALL {
        let client = lab.pod(0).client(Family::V4);
        let (bytes, _) = client
            .exchange(transport, &query.to_bytes())
            .or_panic("silence");
        let message = Message::read(&bytes).or_panic("no message");
        assert_eq!(
            (message.id, message.rcode(), message.answers.len()),
            (query.id, 16, 0)
        );
        // With the question or without: RFC 6891 asks for neither.
        assert!(message.question.is_empty() || message.question == query.question());
    }
}

/// What it does not know it must not mind (RFC 6891, 6.1.2).
#[test]
fn unknown_edns_options_are_ignored() {
    let (lab, _agent) = lab_with_agent(Flavour::Routed);
    let options = vec![0xfd, 0xe9, 0, 3, 1, 2, 3];
    let edns = Edns {
        size: 1232,
        options,
        ..Edns::default()
    };
    let query = Query {
        edns: Some(edns),
        ..Query::new(WEB, rtype::A)
    };
    for transport in Transport::ALL {
        assert_eq!(
            ask(&lab.pod(0).client(Family::V6), transport, &query)
                .message
                .data(),
            [crate::WEB_A]
        );
    }
}
