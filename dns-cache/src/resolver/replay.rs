//! Plays the files of `dns-cache/replay`: what upstreams say over time, what clients ask, what they must get.
//!
//! The clock is tokio's, paused: it jumps to the next thing that waits, so an hour takes no time, and what is said
//! to take 1.8 s takes exactly that. `dns-cache/replay/README.md` has the format.

mod against;
mod message;
mod script;
mod upstream;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::{Answer, Clock, Resolver};
use crate::config;
use crate::upstream::Timings;
use message::Reply;
use script::{Ask, Script, Step};
pub(super) use upstream::Scripted;

/// Every setting that a file does not give has its default; what is sent nowhere needs no address.
const CONFIG: &str = "listen: [10.96.0.10]\nresolvConf: /nonexistent\n";
const CLUSTER: &str = "cluster: {upstreams: [192.0.2.1]}\n";
const OTHERS: &str = "zones: [{zone: ., upstreams: [192.0.2.2]}]\n";

struct Player {
    resolver: Arc<Resolver>,
    upstream: Arc<Scripted>,
    began: Instant,
}

/// What was found wrong, and in which line.
type Wrong = (usize, String);

impl Player {
    fn new(script: &Script) -> Result<Self, Wrong> {
        let mut text = format!("{CONFIG}{}", script.config);
        for (key, default) in [("cluster:", CLUSTER), ("zones:", OTHERS)] {
            if !script.config.lines().any(|line| line.starts_with(key)) {
                text += default;
            }
        }
        let config = config::parse(&text, Path::new("config"))
            .map_err(|errors| (1, format!("{errors}\n{text}")))?;
        let clock = Clock::Tokio(Instant::now());
        let resolver = Resolver::with(&config, clock, Timings::default(), super::DEADLINE)
            .map_err(|error| (1, error.to_string()))?;
        let upstream = Arc::<Scripted>::default();
        let _ = resolver.script.set(Arc::clone(&upstream));
        Ok(Self {
            resolver,
            upstream,
            began: Instant::now(),
        })
    }

    async fn play(&self, script: &Script) -> Result<(), Wrong> {
        for (line, step) in &script.steps {
            self.step(step).await.map_err(|wrong| (*line, wrong))?;
        }
        Ok(())
    }

    async fn step(&self, step: &Step) -> Result<(), String> {
        match step {
            Step::At(time) => {
                let then = self.began + *time;
                if then < Instant::now() {
                    return Err(format!("it is {:?} already", self.began.elapsed()));
                }
                sleep_until(then).await;
                settle().await;
                Ok(())
            }
            Step::Upstream(rule) => {
                self.upstream.learn(rule.clone());
                Ok(())
            }
            Step::Asked(expected) => {
                let asked = self.upstream.take_asked();
                equal("the upstream was asked", &asked, expected)
            }
            Step::Ask(ask) => self.ask(ask).await,
        }
    }

    /// All clients ask at once, and all must get the same.
    async fn ask(&self, ask: &Ask) -> Result<(), String> {
        let began = Instant::now();
        let clients = (0..ask.clients).map(|_| async {
            let reply = self.exchange(ask).await;
            (reply, began.elapsed())
        });
        for (reply, took) in join_all(clients).await {
            let Some(reply) = reply else {
                equal("reply", &"silence".to_owned(), &ask.expected.summary)?;
                continue;
            };
            if reply.len() > ask.limit() {
                return Err(format!("{} bytes are too many", reply.len()));
            }
            let reply = Reply::read(&reply, &ask.query)?;
            equal("reply", &reply.summary, &ask.expected.summary)?;
            match &ask.expected.counts {
                Some(counts) => equal("records", &reply.counts, counts)?,
                None => equal("records", &reply.records, &ask.expected.records)?,
            }
            equal("time", &took, &ask.expected.took)?;
        }
        settle().await;
        Ok(())
    }

    async fn exchange(&self, ask: &Ask) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let now = self.resolver.clock().now();
        match self
            .resolver
            .answer_cached(&ask.query, ask.transport, now, &mut out)
        {
            Answer::Reply(_) => Some(out),
            Answer::Miss(miss) => Some(self.resolver.resolve(miss).await),
            Answer::Drop => None,
        }
    }
}

/// Lets what needs no time come to its end.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{what}\n     found {found:?}\n  expected {expected:?}"
    ))
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "replay")
        })
        .collect();
    files.sort();
    files
}

#[tokio::test(start_paused = true)]
async fn every_file_holds() {
    let mut wrong = String::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let result = async {
            let script = Script::read(&text)?;
            Player::new(&script)?.play(&script).await
        };
        if let Err((line, what)) = result.await {
            let _ = writeln!(wrong, "{}:{line}: {what}", path.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn there_are_files_and_each_says_what_it_claims() {
    let files = files();
    assert!(files.len() >= 80, "{}", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}", path.display());
        assert!(text.contains("\nask "), "{} asks nothing", path.display());
    }
}

/// The files are of use only if a wrong one fails.
#[tokio::test(start_paused = true)]
async fn a_wrong_file_fails() {
    let right = "# x\nupstream a.example. A\n  answer a.example. 9 IN A 192.0.2.1\nask a.example. A\n  \
                 NOERROR rd ra\n  answer a.example. 9 IN A 192.0.2.1\nasked a.example. A\n";
    let play = async |text: String| {
        let script = Script::read(&text)?;
        Player::new(&script)?.play(&script).await
    };
    assert_eq!(play(right.to_owned()).await, Ok(()));
    for (from, to, line) in [
        ("  NOERROR", "  NXDOMAIN", 4),
        ("rd ra", "rd ra aa", 4),
        ("rd ra", "rd ra in 1s", 4),
        ("ra\n  answer a.example. 9", "ra\n  answer a.example. 8", 4),
        ("asked a.example. A", "asked nothing", 7),
    ] {
        let (at, _) = play(right.replace(from, to)).await.unwrap_err();
        assert_eq!(at, line, "{to}");
    }
    assert!(play("# x\nbanana\n".to_owned()).await.is_err());
}

/// How long a thing takes, as a file says it: `1.8s`.
fn duration(word: &str) -> Option<Duration> {
    let seconds: f64 = word.strip_suffix('s').unwrap_or(word).parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
