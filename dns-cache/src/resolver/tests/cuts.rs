//! One "no such name" answers for every name below it (RFC 8020).

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::presentation;

/// NODATA or NXDOMAIN with an SOA record of the root: TTL 9, minimum 9.
fn nothing(query: &[u8], flags: u16) -> Vec<u8> {
    let numbers = [1, 1, 1, 1, 9].map(u32::to_be_bytes).concat();
    let soa = [&b"\0\0\x06\0\x01\0\0\0\x09\0\x16\0\0"[..], &numbers].concat();
    fake::respond(query, flags, [0, 1, 0], &soa)
}

fn name_of(query: &[u8]) -> String {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name += std::str::from_utf8(&query[at + 1..end]).unwrap();
        name.push('.');
        at = end;
    }
    name.trim_end_matches(".cluster.local.").to_owned()
}

/// A cluster whose names below its domain have an address, nothing (NODATA), or do not exist; and what it was
/// asked for.
struct Cluster {
    bench: Bench,
    config: Config,
    _fake: Fake,
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<HashMap<&'static str, u16>>>,
}

const ADDRESS: u16 = 1;
const NODATA: u16 = 0x8580;

impl Cluster {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let asked = Arc::new(Mutex::new(vec![]));
        let answers = Arc::new(Mutex::new(HashMap::from([
            ("default.svc", NODATA),
            ("db.default.svc", ADDRESS),
            ("db-0.db.default.svc", ADDRESS),
        ])));
        let (log, known) = (Arc::clone(&asked), Arc::clone(&answers));
        let (fake, _) = upstream(move |query| {
            let name = name_of(query);
            let answer = known.lock().unwrap().get(name.as_str()).copied();
            log.lock().unwrap().push(name);
            match answer {
                Some(ADDRESS) => fake::address(query),
                Some(flags) => nothing(query, flags),
                None => nothing(query, 0x8583),
            }
        })
        .await;
        let mut config = config(&[fake.address]);
        change(&mut config);
        Self {
            bench: Bench::with(&config, LONG),
            config,
            _fake: fake,
            asked,
            answers,
        }
    }

    /// The rcode for a name below the domain, and what the cluster was asked for, in alphabetical order.
    async fn ask(&self, name: &str, rtype: u16) -> (u16, Vec<String>) {
        let query = query(1, &format!("{name}.cluster.local"), rtype, 0x0100);
        let (reply, _) = self.bench.ask(&query, Transport::Udp).await;
        self.bench.settled().await;
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        (flags(&reply) & 15, asked)
    }
}

#[tokio::test]
async fn a_search_list_ends_on_the_node() {
    let cluster = Cluster::new().await;
    for (name, asked) in [
        // The namespace is asked about once, then the service.
        (
            "google.com.default.svc",
            &["default.svc", "google.com.default.svc"][..],
        ),
        (
            "github.com.default.svc",
            &["com.default.svc", "github.com.default.svc"],
        ),
        ("google.com.svc", &["com.svc", "google.com.svc"]),
        ("google.com", &["com", "google.com"]),
    ] {
        assert_eq!(
            cluster.ask(name, 1).await,
            (3, asked.iter().map(|&n| n.to_owned()).collect())
        );
    }
    for name in ["redis.com", "a.b.c.example.com"] {
        for domain in [".default.svc", ".svc", ""] {
            for rtype in [1, 28, 33] {
                let answer = cluster.ask(&format!("{name}{domain}"), rtype).await;
                assert_eq!(answer, (3, vec![]), "{name}{domain}");
            }
        }
    }
    assert_eq!(cluster.bench.count("cuts"), 18);
    // The negative TTL is capped at 5 s.
    cluster.bench.pass(5.0);
    assert!(!cluster.ask("redis.com", 1).await.1.is_empty());
}

#[tokio::test]
async fn a_cut_in_use_is_refreshed() {
    let cluster = Cluster::new().await;
    cluster.ask("google.com", 1).await;
    cluster.bench.pass(4.1);
    assert_eq!(
        cluster.ask("redis.com", 1).await,
        (3, vec!["com".to_owned()])
    );
    cluster.bench.pass(3.0);
    assert_eq!(cluster.ask("redis.com", 1).await, (3, vec![]));
}

#[tokio::test]
async fn names_below_an_existing_one_are_asked_for() {
    let cluster = Cluster::new().await;
    cluster.ask("x.com.default.svc", 1).await;
    assert_eq!(cluster.ask("nope.db.default.svc", 1).await.0, 3);
    // NODATA is no cut, and NXDOMAIN below a service is none.
    cluster
        .answers
        .lock()
        .unwrap()
        .insert("_tcp.db.default.svc", 0x8583);
    assert_eq!(cluster.ask("_tcp.db.default.svc", 1).await.0, 3);
    cluster
        .answers
        .lock()
        .unwrap()
        .insert("_sql._tcp.db.default.svc", ADDRESS);
    for name in ["db-0.db.default.svc", "_sql._tcp.db.default.svc"] {
        assert_eq!(cluster.ask(name, 1).await, (0, vec![name.to_owned()]));
    }
}

#[tokio::test]
async fn a_positive_longer_name_refutes_a_cut() {
    let cluster = Cluster::new().await;
    cluster.answers.lock().unwrap().insert("www.com", ADDRESS);
    // The cut first, then a name below it with an address: by another client's DO bit, say.
    cluster.ask("google.com", 1).await;
    assert_eq!(cluster.ask("redis.com", 1).await.1.len(), 0);
    let query = with_opt(query(1, "www.com.cluster.local", 1, 0x0100), true);
    let (reply, _) = cluster.bench.ask(&query, Transport::Udp).await;
    assert_eq!(flags(&reply) & 15, 0);
    cluster.bench.settled().await;
    cluster.asked.lock().unwrap().clear();
    assert_eq!(
        cluster.ask("other.com", 1).await,
        (3, vec!["other.com".to_owned()])
    );
    // Nor does a new NXDOMAIN for `com` cut anything as long as that address is cached.
    assert_eq!(cluster.ask("com", 1).await.0, 3);
    assert_eq!(cluster.ask("another.com", 1).await.1, ["another.com"]);
}

/// A server that says of a name that it does not exist, and then that it has an address of another family.
#[tokio::test]
async fn a_name_that_exists_is_no_cut() {
    let cluster = Cluster::new().await;
    cluster.ask("google.com", 1).await;
    assert_eq!(cluster.ask("redis.com", 1).await.1.len(), 0);
    cluster.answers.lock().unwrap().insert("com", ADDRESS);
    assert_eq!(cluster.ask("com", 28).await.0, 0);
    assert_eq!(cluster.ask("other.com", 1).await.1, ["other.com"]);
}

#[tokio::test]
async fn a_longer_name_leaves_the_shorter_ones_answer_alone() {
    let cluster = Cluster::new().await;
    for _ in 0..2 {
        assert_eq!(cluster.ask("db.default.svc", 1).await.0, 0);
        cluster.ask("db-0.db.default.svc", 1).await;
    }
    assert_eq!(cluster.ask("db.default.svc", 1).await, (0, vec![]));
    assert_eq!(cluster.bench.count("hits"), 3);
}

#[tokio::test]
async fn a_flush_of_a_name_takes_out_the_cut_above_it() {
    let cluster = Cluster::new().await;
    cluster.ask("google.com", 1).await;
    cluster.answers.lock().unwrap().insert("www.com", ADDRESS);
    assert_eq!(cluster.ask("www.com", 1).await, (3, vec![]));
    let name = presentation::name("www.com.cluster.local").unwrap();
    assert_eq!(
        cluster.bench.resolver.flush(&Selection::Name(name)).entries,
        1
    );
    assert_eq!(cluster.ask("www.com", 1).await.0, 0);
}

#[tokio::test]
async fn a_longer_name_leaves_the_entry_of_one_above_that_exists() {
    let cluster = Cluster::new().await;
    assert_eq!(cluster.ask("db.default.svc", 1).await.0, 0);
    assert_eq!(cluster.ask("db-0.db.default.svc", 1).await.0, 0);
    assert_eq!(cluster.ask("db.default.svc", 1).await, (0, vec![]));
}

#[tokio::test]
async fn a_longer_name_in_the_cache_is_not_hidden() {
    let cluster = Cluster::new().await;
    cluster.answers.lock().unwrap().insert("www.com", ADDRESS);
    assert_eq!(cluster.ask("www.com", 1).await.0, 0);
    assert_eq!(cluster.ask("com", 1).await.0, 3);
    assert_eq!(cluster.ask("www.com", 1).await, (0, vec![]));
}

/// Meanwhile a name below may have come to be, which nobody could note.
#[tokio::test]
async fn switching_them_forgets_them() {
    let cluster = Cluster::new().await;
    cluster.ask("google.com", 1).await;
    assert_eq!(cluster.ask("redis.com", 1).await.1.len(), 0);
    let mut config = cluster.config.clone();
    let mut switch = |on| {
        config.cluster.nxdomain_cut = on;
        cluster.bench.resolver.reload(&config).unwrap();
    };
    switch(false);
    for name in ["a.com", "b.com"] {
        assert_eq!(cluster.ask(name, 1).await.1, [name]);
    }
    switch(true);
    assert_eq!(cluster.ask("c.com", 1).await.1, ["c.com", "com"]);
    assert_eq!(cluster.ask("d.com", 1).await.1.len(), 0);
    // The answers of names themselves stayed.
    assert_eq!(cluster.ask("google.com", 1).await.1.len(), 0);
}

#[tokio::test]
async fn not_where_it_is_off_and_not_in_other_zones() {
    let off = Cluster::with(|config| config.cluster.nxdomain_cut = false).await;
    for name in ["google.com", "redis.com"] {
        assert_eq!(off.ask(name, 1).await, (3, vec![name.to_owned()]));
    }
    let stub = Cluster::with(|config| {
        config.zones = vec![config::Zone {
            zone: "corp.com.cluster.local".to_owned(),
            transport: config::Transport::Tcp,
            upstreams: config.cluster.upstreams.clone(),
            ttl: config.cluster.ttl,
        }];
    })
    .await;
    stub.answers.lock().unwrap().insert("www.corp.com", ADDRESS);
    // No cut stands above a zone of others: whoever goes by the cut alone would hide it.
    stub.ask("google.com", 1).await;
    assert_eq!(stub.ask("redis.com", 1).await.1.len(), 1);
    assert_eq!(
        stub.ask("www.corp.com", 1).await,
        (0, vec!["www.corp.com".to_owned()])
    );
    // Reverse names go to the cluster's servers and are never cut.
    for name in ["1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"] {
        let query = query(1, name, 12, 0x0100);
        stub.bench.ask(&query, Transport::Udp).await;
        assert_eq!(std::mem::take(&mut *stub.asked.lock().unwrap()).len(), 1);
    }
}

/// New names cost no query of their own then.
#[tokio::test]
async fn a_cut_outlives_its_time_where_its_servers_fail() {
    for is_on in [true, false] {
        let cluster = Cluster::with(|config| config.serve_stale.enabled = is_on).await;
        cluster.ask("google.com", 1).await;
        cluster.bench.pass(5.0);
        let say = |answer| {
            for name in ["com", "redis.com", "mysql.com"] {
                cluster.answers.lock().unwrap().insert(name, answer);
            }
        };
        say(0x8182);
        let (rcode, _) = cluster.ask("redis.com", 1).await;
        if !is_on {
            assert_eq!(rcode, 2);
            continue;
        }
        assert_eq!((rcode, cluster.bench.count("stale")), (3, 1));
        assert_eq!(cluster.ask("mysql.com", 28).await, (3, vec![]));
        cluster.bench.pass(1.0);
        // Its servers are asked for it on the side, for all that is below.
        assert_eq!(
            cluster.ask("mysql.com", 1).await,
            (3, vec!["com".to_owned()])
        );
        say(0x8583);
        cluster.bench.pass(2.0);
        for (asked, stale) in [(vec!["com".to_owned()], 4), (vec![], 4)] {
            assert_eq!(cluster.ask("ldap.com", 1).await, (3, asked));
            assert_eq!(cluster.bench.count("stale"), stale);
        }
    }
}

#[tokio::test]
async fn an_overloaded_resolver_gives_a_cut_after_its_time() {
    let cluster = Cluster::new().await;
    cluster.ask("google.com", 1).await;
    cluster.bench.pass(5.0);
    let (mut out, now) = (vec![], cluster.bench.resolver.clock().now());
    let query = query(1, "redis.com.cluster.local", 1, 0x0100);
    let answer = cluster
        .bench
        .resolver
        .answer_cached(&query, Transport::Udp, now, &mut out);
    let Answer::Miss(miss) = answer else { panic!() };
    let reply = cluster.bench.resolver.turn_away(&miss, Failure::Overload);
    assert_eq!(flags(&reply) & 15, 3);
}
