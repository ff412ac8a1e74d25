//! The files that are marked `common`, played against real Unbound or CoreDNS: what they expect is not only ours.
//!
//! The clock is the machine's, and the upstream a real one on this machine's loopback. AA and Extended DNS Errors are left
//! out of the comparison, as are RA of a refusal and what is in a truncated reply: each server has its own rule for
//! them. A TTL may be two seconds less or more.

mod server;
mod upstream;
mod wire;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::message::Reply;
use super::script::{Ask, Expected, Script, Step};
use super::upstream::Scripted;
use super::{Wrong, equal, files};
use server::Server;
use upstream::serve;

/// Whom to play against: `unbound`, `coredns`, or both.
const AGAINST: &str = "DNS_CACHE_AGAINST";
/// A file may move the clock so far: it takes that long.
const LONGEST: Duration = Duration::from_secs(4);
/// So many seconds a TTL may be off: servers count in whole ones, and the machine may be busy.
const SLACK: u32 = 2;
/// After this, silence is silence; and what was to be asked of the upstream has been.
const QUIET: Duration = Duration::from_millis(200);

fn play(script: &Script, name: &str) -> Result<(), Wrong> {
    if !script.config.is_empty() {
        return Err((1, "a common file cannot have settings of ours".to_owned()));
    }
    let upstream = Arc::<Scripted>::default();
    let wrong = |error: io::Error| (1, error.to_string());
    let address = serve(&upstream).map_err(wrong)?;
    let server = Server::start(name, address, negative_cap(script)).map_err(wrong)?;
    let began = Instant::now();
    for (line, step) in &script.steps {
        let result = match step {
            Step::At(time) if *time > LONGEST => {
                Err("a common file cannot wait so long".to_owned())
            }
            Step::At(time) => {
                thread::sleep(time.saturating_sub(began.elapsed()));
                Ok(())
            }
            Step::Upstream(rule) => {
                upstream.learn(rule.clone());
                Ok(())
            }
            Step::Asked(expected) => {
                thread::sleep(QUIET);
                equal("the upstream was asked", &upstream.take_asked(), expected)
            }
            Step::Ask(ask) => thread::scope(|scope| {
                let clients: Vec<_> = (0..ask.clients)
                    .map(|_| scope.spawn(|| check(&server, ask)))
                    .collect();
                clients
                    .into_iter()
                    .try_for_each(|client| client.join().unwrap())
            }),
        };
        result.map_err(|what| (*line, what))?;
    }
    Ok(())
}

/// As our defaults have it: a file speaks either of the cluster's zones or of others.
fn negative_cap(script: &Script) -> u32 {
    let of_the_cluster = script.steps.iter().any(|(_, step)| match step {
        Step::Upstream(rule) => ["cluster.local.", "in-addr.arpa."]
            .iter()
            .any(|zone| rule.question.contains(zone)),
        _ => false,
    });
    if of_the_cluster { 5 } else { 30 }
}

fn check(server: &Server, ask: &Ask) -> Result<(), String> {
    let Some(reply) = server.exchange(ask).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    if reply.len() > ask.limit() {
        return Err(format!("{} bytes are too many", reply.len()));
    }
    let reply = Reply::read(&reply, &ask.query)?;
    let Expected {
        summary,
        counts,
        records,
        ..
    } = &ask.expected;
    equal("reply", &common(&reply.summary), &common(summary))?;
    match counts {
        // How much of it is given besides is not said.
        _ if summary.ends_with(" tc") => Ok(()),
        Some(counts) => equal("records", &reply.counts, counts),
        None if same(&reply.records, records) => Ok(()),
        None => equal("records", &reply.records, records),
    }
}

/// The part of a reply's summary that is compared.
fn common(summary: &str) -> Vec<&str> {
    let is_answer = ["NOERROR", "NXDOMAIN", "SERVFAIL"]
        .contains(&summary.split(' ').next().unwrap_or_default());
    let words = summary.split(' ');
    words
        .filter(|word| *word != "aa" && !word.starts_with("ede=") && (is_answer || *word != "ra"))
        .collect()
}

/// Whether these are the same records, but for little of their TTLs.
fn same(found: &[String], expected: &[String]) -> bool {
    let parts = |record: &String| -> Option<(u32, Vec<String>)> {
        let mut words: Vec<_> = record.split(' ').map(str::to_owned).collect();
        let ttl = words.get(2)?.parse().ok()?;
        words.remove(2);
        Some((ttl, words))
    };
    let sorted = |records: &[String]| {
        let mut all: Vec<_> = records.iter().filter_map(parts).collect();
        all.sort_by(|one, other| one.1.cmp(&other.1));
        all
    };
    let (found, expected) = (sorted(found), sorted(expected));
    let pairs = found.iter().zip(&expected);
    found.len() == expected.len()
        && pairs
            .into_iter()
            .all(|(one, other)| one.1 == other.1 && one.0.abs_diff(other.0) <= SLACK)
}

/// All marked files against this server, some at a time.
fn play_all(name: &str) -> (usize, String) {
    let marked: Vec<_> = files()
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let script = Script::read(&text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
            script
                .common
                .iter()
                .any(|common| common == name)
                .then_some((path, script))
        })
        .collect();
    let mut wrong = String::new();
    for some in marked.chunks(8) {
        thread::scope(|scope| {
            let playing: Vec<_> = some
                .iter()
                .map(|(path, script)| (path, scope.spawn(|| play(script, name))))
                .collect();
            for (path, playing) in playing {
                if let Err((line, what)) = playing.join().unwrap() {
                    let file = path.file_name().map(Path::new).unwrap_or(path);
                    let _ = writeln!(wrong, "{}:{line}: {name}: {what}", file.display());
                }
            }
        });
    }
    (marked.len(), wrong)
}

#[test]
fn common_files_hold_against_other_servers() {
    let servers = env::var(AGAINST).unwrap_or_else(|_| "unbound".to_owned());
    for name in servers.split_whitespace() {
        let (count, wrong) = play_all(name);
        println!("{count} files against {name}");
        assert!(
            count >= 20,
            "{count} files are marked as common with {name}"
        );
        assert!(wrong.is_empty(), "\n{wrong}");
    }
}
