//! The checks of ISC's EDNS compliance tester (RFC 6891), by its names: what is asked, and what must come back. Each is
//! asked twice, so that the kernel gives the second answer where it can, over UDP and TCP, IPv4 and IPv6.

use dns_cache_tests::wire::{Edns, Message, flag, rtype};
use dns_cache_tests::{Family, Flavour, OrPanic, Query, Transport};

use crate::{WEB, WEB_A, lab_with_agent};

const BADVERS: u16 = 16;
const NOTIMP: u16 = 4;
/// Flags of the OPT record: all that RFC 6891 leaves undefined.
const UNDEFINED: u16 = 0x7fff;
const DO: u32 = 0x8000;
/// Flags of the header: all but QR.
const FLAGS: u16 = flag::AA | flag::TC | flag::RD | flag::RA | 0x0040 | flag::AD | flag::CD;
/// A TXT record set that does not fit into 512 bytes.
const LARGE: (&str, u16) = ("txt-big.types.svc.cluster.local", rtype::TXT);

/// Option 100, which means nothing.
const UNKNOWN: &[u8] = &[0, 100, 0, 0];
const NSID: &[u8] = &[0, 3, 0, 0];
const EXPIRE: &[u8] = &[0, 9, 0, 0];
const COOKIE: &[u8] = &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
const SUBNET: &[u8] = &[0, 8, 0, 4, 0, 1, 0, 0];

/// A check: its name, the query, and what the answer must be.
struct Check {
    name: &'static str,
    query: Query,
    /// Flags of the OPT record beside DO.
    flags: u16,
    expected: Expected,
}

enum Expected {
    /// The record; with EDNS if the query had it.
    Answer,
    /// There is such a name, and nothing of that type.
    NoData,
    /// An error of this number, without records.
    Error(u16),
    /// No more than 512 bytes over UDP, and TC; all of it over TCP.
    Truncated,
}

fn checks() -> Vec<Check> {
    let plain = || Query::new(WEB, rtype::A);
    let with = |edns: Edns| Query {
        edns: Some(edns),
        ..plain()
    };
    let edns = |version, options: &[&[u8]]| {
        with(Edns {
            size: 1232,
            version,
            options: options.concat(),
            ..Edns::default()
        })
    };
    let large = |size: Option<u16>| {
        let query = Query::new(LARGE.0, LARGE.1);
        match size {
            Some(size) => query.edns(size),
            None => query,
        }
    };
    let check = |name, query, expected| Check {
        name,
        query,
        flags: 0,
        expected,
    };
    use Expected::{Answer, Error, NoData, Truncated};
    vec![
        check("dns", plain(), Answer),
        check("aa", plain().flags(flag::RD | flag::AA), Answer),
        check("ad", plain().flags(flag::RD | flag::AD), Answer),
        check("cd", plain().flags(flag::RD | flag::CD), Answer),
        check("ra", plain().flags(flag::RD | flag::RA), Answer),
        check("zflag", plain().flags(flag::RD | 0x0040), Answer),
        check("tc", plain().flags(flag::RD | flag::TC), Answer),
        check("opcode", plain().flags(15 << 11), Error(NOTIMP)),
        check("opcodeflg", plain().flags(15 << 11 | FLAGS), Error(NOTIMP)),
        check(
            "opcode and edns",
            edns(0, &[]).flags(15 << 11),
            Error(NOTIMP),
        ),
        check("type666", Query::new(WEB, 666), NoData),
        check("dns@512", large(None), Truncated),
        check("edns", edns(0, &[]), Answer),
        check("do", plain().dnssec_ok(1232), Answer),
        check(
            "docd",
            plain().dnssec_ok(1232).flags(flag::RD | flag::CD),
            Answer,
        ),
        check("edns@512", large(Some(512)), Truncated),
        check("edns@0", large(Some(0)), Truncated),
        Check {
            flags: UNDEFINED,
            ..check("ednsflags", edns(0, &[]), Answer)
        },
        check("ednsopt", edns(0, &[UNKNOWN]), Answer),
        check("ednsnsid", edns(0, &[NSID]), Answer),
        check("ednscookie", edns(0, &[COOKIE]), Answer),
        check("ednsexpire", edns(0, &[EXPIRE]), Answer),
        check("ednssubnet", edns(0, &[SUBNET]), Answer),
        check("optlist", edns(0, &[NSID, SUBNET, EXPIRE, COOKIE]), Answer),
        check("edns1", edns(1, &[]), Error(BADVERS)),
        check("edns1opt", edns(1, &[UNKNOWN]), Error(BADVERS)),
        check("edns1nsid", edns(1, &[NSID]), Error(BADVERS)),
        check("edns1cookie", edns(1, &[COOKIE]), Error(BADVERS)),
        check("edns1expire", edns(1, &[EXPIRE]), Error(BADVERS)),
        check("edns1subnet", edns(1, &[SUBNET]), Error(BADVERS)),
        check(
            "edns1do",
            with(Edns {
                size: 1232,
                version: 1,
                dnssec_ok: true,
                ..Edns::default()
            }),
            Error(BADVERS),
        ),
        Check {
            flags: UNDEFINED,
            ..check("edns1flags", edns(1, &[]), Error(BADVERS))
        },
        check("edns255", edns(255, &[]), Error(BADVERS)),
    ]
}

impl Check {
    /// The query with its flags in the OPT record, which stands at its end.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.query.to_bytes();
        if let Some(edns) = &self.query.edns {
            // Before the flags' end: a length and the options.
            let end = bytes.len() - edns.options.len() - 2;
            bytes[end - 2] |= (self.flags >> 8) as u8;
            bytes[end - 1] |= self.flags as u8;
        }
        bytes
    }

    #[track_caller]
    fn assert(&self, bytes: &[u8], transport: Transport) {
        let name = self.name;
        let message = Message::read(bytes).or_panic(format_args!("{name}: no message"));
        assert_eq!(message.id, self.query.id, "{name}");
        assert!(message.has(flag::QR), "{name}");
        assert_eq!(message.flags & 0x0040, 0, "{name}: the header's Z is clear");
        match self.expected {
            Expected::Answer => {
                assert_eq!(message.rcode(), 0, "{name}");
                assert_eq!(message.data(), [WEB_A], "{name}");
                assert!(!message.has(flag::TC), "{name}");
            }
            Expected::NoData => {
                assert_eq!(message.rcode(), 0, "{name}");
                assert!(message.answers.is_empty(), "{name}");
            }
            Expected::Error(rcode) => {
                assert_eq!(message.rcode(), rcode, "{name}");
                assert!(message.answers.is_empty(), "{name}");
            }
            Expected::Truncated => {
                assert_eq!(message.rcode(), 0, "{name}");
                let over_udp = transport != Transport::Tcp;
                assert_eq!(message.has(flag::TC), over_udp, "{name}");
                assert!(!over_udp || bytes.len() <= 512, "{name}: {}", bytes.len());
            }
        }
        let Some(edns) = &self.query.edns else {
            return assert!(message.opt.is_none(), "{name}: EDNS without being asked");
        };
        let opt = message.opt.as_ref();
        let opt = opt.or_panic(format_args!("{name}: no EDNS"));
        assert_eq!(opt.ttl >> 16 & 0xff, 0, "{name}: the version");
        assert!(opt.class >= 512, "{name}: a size of {}", opt.class);
        let is_error = matches!(self.expected, Expected::Error(_));
        let asked = if edns.dnssec_ok { DO } else { 0 };
        assert!(is_error || opt.ttl & DO == asked, "{name}: DO is copied");
        assert_eq!(opt.ttl & u32::from(UNDEFINED), 0, "{name}: undefined flags");
        assert!(
            opt.data.starts_with("\\# 0"),
            "{name}: options {}",
            opt.data
        );
    }
}

#[test]
fn every_check_of_the_compliance_tester() {
    let (lab, agent) = lab_with_agent(Flavour::Routed);
    let before = agent.counters();
    for family in Family::BOTH {
        let client = lab.pod(0).client(family);
        for check in checks() {
            for transport in Transport::ALL {
                for _ in 0..2 {
                    let (reply, _) = client
                        .exchange(transport, &check.to_bytes())
                        .or_panic(format_args!("{}, {transport:?}: silence", check.name));
                    check.assert(&reply, transport);
                }
            }
        }
    }
    assert!(before.answered(&agent.counters()) > 0, "none by the kernel");
    lab.node().conntrack().assert_no_pod_dns();
}
