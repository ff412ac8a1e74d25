//! One "no such name" answers for every name below it (RFC 8020), in the kernel as in the resolver.

use dns_cache::resolver::{Entry, Terms, Time};
use dns_cache_common::question::KeyParts;
use dns_cache_common::types::rtype;

use super::super::harness::{Harness, Outcome};
use super::super::packet::udp;
use super::message::{Opt, QUESTION, Query, Record, Response};
use super::oracle::Oracle;
use super::{CAPS, NEVER, SECOND, SIZE, ZONE, key, now};

const NXDOMAIN: u16 = 0x8583;
const CUT: &str = "cache_cuts";
const ABSENT: &str = "cache_misses_absent";

/// A kernel cache with cuts in [`ZONE`], and a resolver with the same entries.
struct Bench {
    harness: Harness,
    /// Of what is put in, in seconds.
    ttl: u32,
    oracle: Oracle,
}

/// A name below [`ZONE`] in wire form.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let wire = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    wire.chain(ZONE.iter().copied()).collect()
}

impl Bench {
    fn new() -> Self {
        let harness = Harness::with_cache(SIZE);
        harness.cache().set_cut_zone(Some(ZONE));
        Self {
            harness,
            ttl: 300,
            oracle: Oracle::new(),
        }
    }

    /// Puts in what an upstream says of a name, on both sides; whether it is a cut is said, too, where the resolver
    /// would not take it for one.
    fn put(&mut self, name: &str, rtype: u16, bits: u8, flags: u16, cut: bool, stored: Time) {
        let name = wire(name);
        let mut response = Response::new(&name, rtype, Vec::new());
        response.flags = flags;
        if flags == NXDOMAIN || cut {
            response.sections[1].push(Record::soa(self.ttl));
        } else {
            response.sections[0].push(Record::new(QUESTION, rtype, self.ttl, &[10, 0, 0, 1]));
        }
        let key = key(&name, rtype, bits);
        let terms = Terms {
            caps: CAPS,
            cut,
            now: stored,
        };
        let parts = KeyParts::read(key.as_bytes()).unwrap();
        let entry = || Entry::new(&response.bytes(), &parts, terms).unwrap();
        self.harness.cache().put(key.as_bytes(), &entry(), NEVER);
        self.oracle.resolver().put(key.as_bytes(), entry());
    }

    fn cut(&mut self, name: &str) {
        self.put(name, rtype::A, 0, NXDOMAIN, true, now());
    }

    /// Asks over both families; what comes of it is what the resolver would say. The last one's outcome.
    fn send(&mut self, query: &Query) -> Outcome {
        let pod = self.harness.pod('a');
        let mut last = None;
        for v4 in [false, true] {
            let query = udp(pod, v4)
                .with(|p| p.payload = query.bytes())
                .with_partial_checksum();
            let before = now();
            let outcome = self.harness.sent_by_pod(pod, &query);
            let expected = self.oracle.expected(&query, [before, now()]);
            expected.check(&query, &outcome);
            last = Some(outcome);
        }
        last.unwrap()
    }

    fn ask(&mut self, name: &str, rtype: u16) -> Outcome {
        self.send(&Query::new(&wire(name), rtype))
    }

    /// Whether a name's A is answered from a cut.
    fn is_cut(&mut self, name: &str) -> bool {
        self.ask(name, rtype::A).counted.contains_key(CUT)
    }
}

#[test]
fn every_name_below_is_answered() {
    for cut in ["com", "com.svc", "com.default.svc"] {
        let mut bench = Bench::new();
        bench.cut(cut);
        for below in ["google", "a.b.c.d.google", "_tcp", "x._udp", "*"] {
            for rtype in [1, 28, 33, 16, 65_280] {
                let outcome = bench.ask(&format!("{below}.{cut}"), rtype);
                assert_eq!(outcome.counted.get(CUT), Some(&1), "{below}.{cut} {rtype}");
                assert_eq!(outcome.counted.get("cache_hits_nxdomain"), Some(&1));
            }
        }
        // As long as a name can be.
        let long = format!(
            "{}.{cut}",
            ["x".repeat(63), "y".repeat(63), "z".repeat(63)].join(".")
        );
        assert!(bench.is_cut(&long));
        assert!(bench.ask(cut, rtype::AAAA).counted.contains_key(ABSENT));
        for beside in [
            "google.org",
            "xcom",
            "google.org.svc",
            "com.other.svc",
            "google.x.default.svc",
            "",
        ] {
            assert!(!bench.is_cut(beside), "{beside} beside {cut}");
        }
    }
}

/// Whatever the entries say: the rule of the places is not the agent's alone.
#[test]
fn at_no_other_place() {
    let mut bench = Bench::new();
    for cut in [
        "svc",
        "pod",
        "dns",
        "_tcp",
        "_x.svc",
        "_tcp.default.svc",
        "default.pod",
        "a.web.default.svc",
    ] {
        bench.cut(cut);
        for below in ["x", "x.y", "_http._tcp"] {
            assert!(!bench.is_cut(&format!("{below}.{cut}")), "{below}.{cut}");
        }
    }
}

#[test]
fn an_entry_of_the_names_own_wins() {
    let mut bench = Bench::new();
    bench.cut("db.default.svc");
    bench.put("db-0.db.default.svc", 1, 0, 0x8580, false, now());
    let own = bench.ask("db-0.db.default.svc", 1);
    assert_eq!(own.counted.get("cache_hits_noerror"), Some(&1));
    assert!(bench.is_cut("db-1.db.default.svc"));
    // One that has expired does not.
    bench.ttl = 2;
    let before = Time::from_nanos(now().nanos() - 3 * SECOND);
    bench.put("db-2.db.default.svc", 1, 0, 0x8580, false, before);
    assert!(bench.is_cut("db-2.db.default.svc"));
}

#[test]
fn denials_that_are_no_cuts_answer_for_themselves() {
    let mut bench = Bench::new();
    // NODATA, which is what namespaces get; and an NXDOMAIN that was not taken for a cut.
    bench.put("default.svc", 1, 0, 0x8580, true, now());
    bench.put("com.default.svc", 1, 0, NXDOMAIN, false, now());
    assert!(!bench.is_cut("google.com.default.svc"));
    assert!(!bench.is_cut("web.default.svc"));
    // The longer one is found behind the shorter.
    bench.cut("com.default.svc");
    assert!(bench.is_cut("google.com.default.svc"));
    // An address takes the cut's place.
    bench.put("com.default.svc", 1, 0, 0x8580, false, now());
    assert!(!bench.is_cut("google.com.default.svc"));
}

#[test]
fn dnssec_and_case_and_edns() {
    let mut bench = Bench::new();
    let dnssec = |q: &mut Query| {
        q.opt = Some(Opt {
            dnssec_ok: true,
            ..Opt::of_size(1232)
        });
    };
    let ask = || Query::new(&wire("google.com"), 1);
    for bits in 0..4u8 {
        let mut bench = Bench::new();
        bench.put("com", 1, bits, NXDOMAIN, true, now());
        for other in 0..4u8 {
            let query = ask().with(|q| {
                q.flags |= u16::from(other >> 1) << 4;
                if other & 1 == 1 {
                    dnssec(q);
                }
            });
            let outcome = bench.send(&query);
            assert_eq!(outcome.counted.contains_key(CUT), bits == other);
        }
    }
    bench.cut("com");
    for query in [
        ask().with(|q| q.name.make_ascii_uppercase()),
        ask().with(|q| q.opt = Some(Opt::of_size(1232))),
        ask().with(|q| {
            q.opt = Some(Opt {
                options: vec![(10, vec![7; 8])],
                ..Opt::of_size(512)
            })
        }),
    ] {
        assert!(bench.send(&query).counted.contains_key(CUT), "{query:?}");
    }
    let subnet = ask().with(|q| {
        q.opt = Some(Opt {
            options: vec![(8, vec![0, 1, 0, 0])],
            ..Opt::of_size(1232)
        });
    });
    assert!(!bench.send(&subnet).counted.contains_key(CUT));
}

#[test]
fn until_it_expires_or_is_taken_out() {
    let mut bench = Bench::new();
    let ago = |seconds| Time::from_nanos(now().nanos() - seconds * SECOND);
    for (ttl, age, answered) in [(300, 0, true), (300, 3, true), (2, 3, false)] {
        let mut bench = Bench::new();
        bench.ttl = ttl;
        bench.put("com", 1, 0, NXDOMAIN, true, ago(age));
        let outcome = bench.ask("google.com", 1);
        assert_eq!(outcome.counted.contains_key(CUT), answered, "{age}");
    }
    bench.cut("com");
    bench
        .harness
        .cache()
        .remove_cut(key(&wire("com"), 1, 0).as_bytes());
    bench.oracle = Oracle::new();
    assert!(!bench.is_cut("google.com"));
    bench.put("com", 1, 0, NXDOMAIN, false, now());
    bench
        .harness
        .cache()
        .remove_cut(key(&wire("com"), 1, 0).as_bytes());
    assert_eq!(bench.harness.cache().usage().entries, 1, "it was no cut");
}

#[test]
fn in_its_zone_alone() {
    let mut bench = Bench::new();
    bench.cut("com");
    let (mut harness, query) = (bench.harness, Query::new(&wire("google.com"), 1));
    let pod = harness.pod('a');
    // Where there are no cuts, or in another zone, the same entry answers for itself alone.
    for zone in [None, Some(&b"\x05local\0"[..]), Some(b"\x07example\0")] {
        harness.cache().set_cut_zone(zone);
        let query = udp(pod, true).with(|p| p.payload = query.bytes());
        let outcome = harness.sent_by_pod(pod, &query);
        assert!(
            outcome.counted.contains_key(ABSENT),
            "{zone:?}: {outcome:?}"
        );
    }
}
