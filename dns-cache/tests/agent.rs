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

/// `run` in this directory, with a resolv.conf of this text.
fn run_with(resolv_conf: &str, dir: &Path) -> Command {
    let mut command = run_in(dir);
    let (config, file) = (dir.join("config.yaml"), dir.join("resolv.conf"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}resolvConf: {}\n", file.display())).unwrap();
    fs::write(file, resolv_conf).unwrap();
    command.env("DNS_CACHE_LOG_FORMAT", "text");
    command
}

#[test]
fn a_resolv_conf_that_names_this_cache_alone_is_refused() {
    let dir = Dir::new();
    let output = run_with("nameserver 10.96.0.10\n", dir.path()).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let file = dir.path().join("resolv.conf");
    let loops = format!(
        "{}: a loop: it names no server but 10.96.0.10, this cache's own",
        file.display()
    );
    assert!(said.contains(&loops), "{said}");

    // One that comes to name it is told of; nobody is asked in the place of the servers of before.
    let agent = Agent::start(run_with("nameserver 192.0.2.53\n", dir.path()), &dir);
    assert_eq!(status(&dir).unwrap().resolver.resolv_conf_error, None);
    fs::write(file, "nameserver 10.96.0.10\n").unwrap();
    let deadline = Instant::now() + PATIENCE;
    let resolver = loop {
        let resolver = status(&dir).unwrap().resolver;
        if resolver.resolv_conf_error.is_some() {
            break resolver;
        }
        assert!(Instant::now() < deadline, "the change is not seen");
        sleep(Duration::from_millis(50));
    };
    assert!(resolver.resolv_conf_error.unwrap().starts_with(&loops));
    let mut others = resolver
        .upstreams
        .iter()
        .filter(|server| server.zone == ".");
    assert_eq!(
        others.next().unwrap().address,
        "192.0.2.53:53".parse().unwrap()
    );
    assert_eq!(others.next(), None);
    let mut command = dns_cache();
    let command = command.args(["status", "--state-dir"]);
    let text = stdout(command.arg(dir.path().join("state")).output().unwrap());
    assert!(
        text.contains(&format!("\nno servers      {loops}")),
        "{text}"
    );
    let (_, log) = agent.end(Signal::SIGTERM);
    let told = |line: &str| line.contains("ERROR") && line.contains(&loops);
    let mut told = log.lines().filter(|line| told(line));
    assert!(
        told.next()
            .is_some_and(|line| line.ends_with("; the servers of before stay")),
        "{log}"
    );
    assert_eq!(told.next(), None);
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
