//! The agent as a process: it starts, is looked into, and ends as it is told to.
#![expect(clippy::unwrap_used, reason = "a test panics, to keep the backtrace")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dns_cache::control::{self, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

fn dns_cache() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dns-cache"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// The command in a network namespace of its own: the agent makes interfaces in the one it runs in.
/// (`unshare` becomes the command; the process is the same.)
fn isolated(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null());
    command
        .args(["--net", "--", env!("CARGO_BIN_EXE_dns-cache")])
        .args(arguments);
    command
}

/// A directory for one test; what agents left in it is taken away by `dns-cache detach`.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let config = self.path().join("config.yaml");
        let output = isolated(&["detach", "--config"]).arg(config).output();
        if !std::thread::panicking() {
            stdout(output.unwrap());
            assert!(
                !self.path().join("state").exists(),
                "detach leaves no state directory"
            );
            assert!(!self.path().join("bpf").exists(), "detach leaves no pins");
        }
    }
}

fn run_in(dir: &Path) -> Command {
    let file = dir.join("config.yaml");
    let text = format!(
        "listen: [10.96.0.10]\ncluster: {{upstreams: [10.244.0.2]}}\nstateDir: {dir}/state\nbpffs: {dir}/bpf\n",
        dir = dir.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = isolated(&["run", "--config"]);
    command.arg(file).stderr(Stdio::piped());
    command
}

/// A running agent; killed if the test leaves it behind.
struct Agent(Child);

impl Agent {
    fn start(mut command: Command, dir: &Dir) -> Self {
        let agent = Self(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while status(dir).is_none_or(|status| status.pid != agent.0.id()) {
            assert!(Instant::now() < deadline, "the agent does not answer");
            sleep(Duration::from_millis(10));
        }
        agent
    }

    /// Ends it; its exit code and its log.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
        let mut log = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(dir: &Dir) -> Option<Status> {
    control::status(&dir.path().join("state"), PATIENCE).ok()
}

fn stdout(
    Output {
        status,
        stdout,
        stderr,
    }: Output,
) -> String {
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn status_shows_the_agent_as_text_and_as_json() {
    let dir = Dir::new();
    let state_dir = dir.path().join("state");
    let agent = Agent::start(run_in(dir.path()), &dir);
    let text = stdout(
        dns_cache()
            .arg("status")
            .env("DNS_CACHE_STATE_DIR", &state_dir)
            .output()
            .unwrap(),
    );
    assert!(
        text.contains(&format!("pid {}, for ", agent.0.id())),
        "{text}"
    );
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(
        text.lines()
            .any(|line| words(line) == ["listening", "10.96.0.10"]),
        "{text}"
    );
    let mut command = dns_cache();
    let json = command
        .args(["status", "--output", "json", "--state-dir"])
        .arg(&state_dir);
    let json: serde_json::Value = serde_json::from_str(&stdout(json.output().unwrap())).unwrap();
    assert_eq!(json["pid"], agent.0.id());
    assert_eq!(
        json["config_path"],
        dir.path().join("config.yaml").to_str().unwrap()
    );
    assert_eq!(json["listen"][0], "10.96.0.10");
}

#[test]
fn a_signal_ends_it_in_good_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = Dir::new();
        let agent = Agent::start(run_in(dir.path()), &dir);
        let (code, log) = agent.end(signal);
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(log.contains("started") && log.contains("stopping"), "{log}");
        assert!(!dir.path().join("state/control.sock").exists());
    }
}

#[test]
fn a_second_one_is_refused_until_the_first_is_dead() {
    let dir = Dir::new();
    let first = Agent::start(run_in(dir.path()), &dir);
    let second = run_in(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another agent runs with stateDir"), "{said}");
    assert!(said.contains(&format!("pid {}", first.0.id())), "{said}");
    first.end(Signal::SIGKILL);
    assert!(dir.path().join("state/control.sock").exists());
    let (code, log) = Agent::start(run_in(dir.path()), &dir).end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let dir = Dir::new();
    let mut command = run_in(dir.path());
    command.env("DNS_CACHE_LOG_FORMAT", "json");
    let (_, log) = Agent::start(command, &dir).end(Signal::SIGTERM);
    let started = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|event| event["message"] == "started")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(started["level"], "INFO");
    assert_eq!(started["target"], "dns_cache::agent");
}

#[test]
fn the_log_is_as_quiet_as_is_asked_for() {
    let dir = Dir::new();
    let mut command = run_in(dir.path());
    command.args(["--log-level", "error"]);
    let (_, log) = Agent::start(command, &dir).end(Signal::SIGTERM);
    assert_eq!(log, "");
}
