//! Lookups from a pod at a steady rate, while something happens to the node.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::bench::dnsperf;
use crate::cluster::images::QUERIES;
use crate::cluster::node::{Node, wait};

/// Lookups a second.
const RATE: &str = "2000";
/// Seconds after which a lookup has failed: a pod's resolver asks again then.
const TIMEOUT: &str = "5";
/// Seconds of load before something happens, and after it was repaired.
const MARGIN: usize = 2;

/// Lookups that go on.
struct Load {
    child: Child,
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

/// Does something to the node while a pod looks names up; each lookup must be answered.
pub(super) fn under_load(
    node: &Node,
    pod: &str,
    server: &str,
    disturb: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let load = Load::start(node, pod, server)?;
    let disturbed = load
        .go_on(MARGIN)
        .and_then(|()| disturb())
        .and_then(|()| load.go_on(MARGIN));
    // What fails leaves no load to the next scenario.
    let told = load.end();
    disturbed.and(told)
}

impl Load {
    fn start(node: &Node, pod: &str, server: &str) -> Result<Self> {
        let mut command = node.in_pod(pod)?;
        // A line each second (-S) tells how far it is.
        command.args([
            "dnsperf", "-s", server, "-d", QUERIES, "-Q", RATE, "-t", TIMEOUT,
        ]);
        command.args(["-c", "20", "-S", "1", "-l", "3600"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0);
        let mut child = command.spawn().context("starting dnsperf")?;
        let output = BufReader::new(child.stdout.take().context("a pipe was asked for")?);
        let text = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&text);
        let reader = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut text = copy.lock().unwrap_or_else(PoisonError::into_inner);
                *text += &line;
                text.push('\n');
            }
        });
        Ok(Self {
            child,
            text,
            reader,
        })
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns after so many seconds more of load.
    fn go_on(&self, seconds: usize) -> Result<()> {
        let lines = || self.text().matches('\n').count();
        let wanted = lines() + seconds;
        wait("lookups under load", || {
            Ok(self.reader.is_finished() || lines() >= wanted)
        })
    }

    /// Ends it; a sentence about it, or which lookups failed.
    fn end(mut self) -> Result<String> {
        killpg(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?;
        self.child.wait()?;
        if self.reader.join().is_err() {
            bail!("the load's reader panicked");
        }
        let text = self
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let outcome = dnsperf::parse(&text)
            .with_context(|| format!("dnsperf printed no statistics:\n{text}"))?;
        let interrupted = number(&text, "Queries interrupted:").unwrap_or(0);
        let failed = outcome.sent - outcome.right - interrupted;
        let slowest = text
            .rsplit_once("max ")
            .and_then(|(_, rest)| rest.split(')').next())
            .unwrap_or("?");
        let sum = format!(
            "{} lookups, {failed} failed, the slowest took {slowest} s",
            outcome.sent
        );
        if failed > 0 {
            bail!("{sum}:\n{text}");
        }
        Ok(sum)
    }
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
