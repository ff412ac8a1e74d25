//! `cargo xtask test`: all tests, those in namespaces among them.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::procfs::ProcessId;
use dns_cache_tests::{scope, signals, tools};

use crate::build::{self, Executable};
use crate::cluster;
use crate::kernel::{Version, suite};
use crate::programs::{cargo, workspace};
use crate::replay::AGAINST;
use crate::root;
use crate::setup::{self, Want};

/// For all of one kernel's tests, on a machine that has other things to do.
const KERNEL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Run all tests: units, eBPF programs, and the whole path in network namespaces
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this
    #[arg(long, value_name = "STR")]
    filter: Option<String>,
    /// Without the tests in network namespaces and those on other kernels
    #[arg(long)]
    quick: bool,
    /// The tests in a real cluster in the place of all others: Kubernetes is built if need be, and none is skipped
    #[arg(long, conflicts_with_all = ["quick", "filter", "kernel"])]
    require_cluster: bool,
    /// Only the eBPF part, on this kernel under qemu; may be given again
    #[arg(long, value_name = "VERSION", conflicts_with = "quick")]
    kernel: Vec<Version>,
    /// Without the tests on other kernels under qemu, which are run at the end of all
    #[arg(long, conflicts_with = "kernel")]
    no_kernels: bool,
}

impl Args {
    /// The kernels that are tested beside this machine's: also those by default, if all tests are run.
    fn kernels(&self) -> &[Version] {
        if !self.kernel.is_empty() || self.quick || self.no_kernels || self.filter.is_some() {
            &self.kernel
        } else {
            &Version::DEFAULT
        }
    }
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.require_cluster {
        return in_cluster();
    }
    setup::ensure(if args.quick {
        Want::WithoutCoreDns
    } else {
        Want::Everything
    })?;
    if !args.kernels().is_empty() {
        setup::ensure_kernels(args.kernels())?;
    }
    let agent = build::agent()?;
    let tests = build::tests()?;
    let child = Arc::new(Running::default());
    if root::is_root() {
        let child = Arc::clone(&child);
        signals::clean_up_on_signals(move || end(&child)).context("listening to signals")?;
    }
    let mut sum = Counts::default();
    if args.kernel.is_empty() {
        for test in tests.iter().filter(|test| here(test, args)) {
            println!("\n── {} ({})", test.name, test.kind);
            let counts = run(test, args, &agent, &child)?;
            sum.add(counts.of(&format!("{} ({})", test.name, test.kind)));
        }
        if args.filter.is_none() {
            println!("\n── examples in the documentation");
            sum.add(documentation(&child)?.of("documentation"));
        }
    }
    for version in args.kernels() {
        println!("\n── on Linux {version}");
        let counts = on_kernel(*version, &tests, args, &agent, &child)?;
        sum.add(counts.of(&format!("Linux {version}")));
    }
    println!();
    for failure in &sum.failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    );
    // Empty is unset, as for the variables of cargo.
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    if let Some(problem) = sum.problem(args.filter.as_deref(), ci) {
        bail!(problem);
    }
    Ok(ExitCode::SUCCESS)
}

/// The tests that want a real API server, none of which is skipped now, and the chart in one kind of cluster.
fn in_cluster() -> Result<ExitCode> {
    setup::ensure(Want::Cluster)?;
    let with_api_server = Args {
        filter: Some("kubernetes::".to_owned()),
        ..Args::default()
    };
    main(&with_api_server)?;
    cluster::main(&cluster::Args::test_one())
}

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Which ones failed.
    failures: Vec<String>,
}

impl Counts {
    /// The same, whose failures tell where they were.
    fn of(mut self, place: &str) -> Self {
        for failure in &mut self.failures {
            *failure = format!("{place}: {failure}");
        }
        self
    }

    fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Why these counts are no success.
    fn problem(&self, filter: Option<&str>, ci: bool) -> Option<String> {
        if self.failed > 0 {
            return Some(format!("{} tests failed", self.failed));
        }
        if self.passed + self.skipped == 0 {
            return Some(match filter {
                Some(filter) => format!("no test's name contains {filter:?}: nothing was tested"),
                None => "there was no test to run".to_owned(),
            });
        }
        if ci && self.skipped > 0 {
            return Some(format!(
                "{} tests were skipped, and CI is set, where all of them can run",
                self.skipped
            ));
        }
        None
    }

    /// From libtest's `test result: ok. 1 passed; 2 failed; 3 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let part = counts
                .split("; ")
                .find_map(|part| part.strip_suffix(what))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
            failures: Vec::new(),
        })
    }
}

/// The names in libtest's last list of failures. The first one holds what the tests printed.
#[derive(Debug, Default)]
struct Failures {
    inside: bool,
    names: Vec<String>,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if line == "failures:" {
            self.inside = true;
            self.names.clear();
        } else if self.inside {
            self.names
                .extend(line.strip_prefix("    ").map(str::to_owned));
        }
    }

    /// The names, once the list is over.
    fn take(&mut self) -> Vec<String> {
        self.inside = false;
        std::mem::take(&mut self.names)
    }
}

fn run(test: &Executable, args: &Args, agent: &Path, child: &Running) -> Result<Counts> {
    let program = test
        .path
        .to_str()
        .context("the target folder's path is no UTF-8")?;
    let mut command = root::command("env", "running the namespace tests")?;
    command.arg(assignment("CARGO_MANIFEST_DIR", test.dir.as_os_str())?);
    command.arg(assignment(
        tools::TOOLS_VARIABLE,
        tools::folder().as_os_str(),
    )?);
    command.arg(assignment(tools::BINARY_VARIABLE, agent.as_os_str())?);
    let against = if args.quick {
        "unbound"
    } else {
        "unbound coredns"
    };
    command.arg(assignment(AGAINST, against.as_ref())?);
    command
        .arg(program)
        .args(&args.filter)
        .current_dir(&test.dir);
    counted(&mut command, child)
}

/// Whether a test program is run on this machine's kernel.
fn here(test: &Executable, args: &Args) -> bool {
    test.name != suite::IPVS && !(args.quick && test.kind == "test")
}

/// Runs the eBPF part in a guest.
fn on_kernel(
    version: Version,
    tests: &[Executable],
    args: &Args,
    agent: &Path,
    child: &Running,
) -> Result<Counts> {
    let script = suite::script(tests, agent, args.filter.as_deref())?;
    let own = env::current_exe().context("finding this program's own path")?;
    let own = own
        .to_str()
        .context("the target folder's path is no UTF-8")?;
    let mut command = root::command(own, "sharing this machine's files with a guest")?;
    let version = version.to_string();
    let limit = KERNEL_LIMIT.as_secs().to_string();
    command.args(["kernel", &version, "--limit", &limit, "--"]);
    command.args(["bash", "-c", &script]);
    counted(&mut command, child)
}

fn documentation(child: &Running) -> Result<Counts> {
    let mut command = cargo();
    command.args([
        "test",
        "--doc",
        "--workspace",
        "--exclude",
        "dns-cache-ebpf",
        "--locked",
        "--quiet",
        "--no-fail-fast",
    ]);
    command
        .current_dir(workspace())
        .env(tools::TOOLS_VARIABLE, tools::folder());
    counted(&mut command, child)
}

/// Runs a command, shows what it prints, and sums up what libtest says.
fn counted(command: &mut Command, child: &Running) -> Result<Counts> {
    let mut running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("running a test program")?;
    child
        .pid
        .store(i32::try_from(running.id())?, Ordering::SeqCst);
    let stdout = running.stdout.take().context("a pipe was asked for")?;
    let mut sum = Counts::default();
    let mut failures = Failures::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let mut line = line?;
        let text = String::from_utf8_lossy(&line);
        failures.read(text.trim_end());
        if let Some(counts) = Counts::parse(&text) {
            sum.add(counts);
            sum.failures.extend(failures.take());
        }
        line.push(b'\n');
        std::io::stdout().write_all(&line)?;
    }
    let status = running.wait()?;
    while child.ended_by_signal.load(Ordering::SeqCst) {
        // The signal's handler ends this process when it has cleaned up.
        thread::park();
    }
    if !status.success() && sum.failed == 0 {
        println!("it ended with {status} without saying why: counted as one failure");
        sum.failed += 1;
        sum.failures.push(format!("ended with {status}"));
    }
    Ok(sum)
}

fn assignment(name: &str, value: &OsStr) -> Result<String> {
    Ok(format!(
        "{name}={}",
        value
            .to_str()
            .with_context(|| format!("the value of {name} is no UTF-8"))?
    ))
}

/// The test program that runs just now.
#[derive(Debug, Default)]
struct Running {
    pid: AtomicI32,
    ended_by_signal: AtomicBool,
}

/// Ends the running test program and removes its labs.
fn end(child: &Running) {
    child.ended_by_signal.store(true, Ordering::SeqCst);
    if let Some(child) = ProcessId::of(child.pid.load(Ordering::SeqCst)) {
        let _ = child.kill(Duration::from_secs(5));
    }
    let _ = scope::sweep();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_libtest() {
        let line = "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        let counts = Counts::parse(line).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (12, 3, 4));
        assert!(Counts::parse("running 3 tests").is_none());
    }

    #[test]
    fn failures_of_libtest() {
        let printed = "\
test a::b ... FAILED

failures:

---- a::b stdout ----
failures:
    printed by the test itself

failures:
    a::b
    c

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
    after the list";
        let mut failures = Failures::default();
        let mut names = Vec::new();
        for line in printed.lines() {
            failures.read(line);
            if Counts::parse(line).is_some() {
                names.extend(failures.take());
            }
        }
        assert_eq!(names, ["a::b", "c"]);
        assert_eq!(failures.take(), [""; 0]);
    }

    #[test]
    fn failures_tell_where_they_were() {
        let counts = Counts {
            failures: vec!["a::b".to_owned()],
            ..Counts::default()
        };
        assert_eq!(counts.of("agent (test)").failures, ["agent (test): a::b"]);
    }

    #[test]
    fn counts_that_are_no_success() {
        let problem = |passed, failed, skipped, filter, ci| {
            let counts = Counts {
                passed,
                failed,
                skipped,
                failures: Vec::new(),
            };
            counts.problem(filter, ci)
        };
        assert_eq!(problem(3, 0, 0, None, true), None);
        assert_eq!(problem(3, 0, 1, Some("x"), false), None);
        for (bad, word) in [
            (problem(3, 1, 0, None, false), "1 tests failed"),
            (problem(3, 0, 2, None, true), "2 tests were skipped"),
            (problem(0, 0, 0, Some("x"), false), "contains \"x\""),
            (problem(0, 0, 0, None, false), "no test"),
        ] {
            assert!(
                bad.as_ref().is_some_and(|bad| bad.contains(word)),
                "{bad:?}"
            );
        }
    }
}
