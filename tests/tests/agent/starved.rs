//! An agent that lives and does not answer, other than by SIGSTOP: its readers hang, or it gets next to no CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dns_cache_tests::patience::slowness;
use dns_cache_tests::procfs::cgroup_of;
use dns_cache_tests::wire::rtype;
use dns_cache_tests::zones::BULK;
use dns_cache_tests::{AgentConfig, Family, Lab, OrPanic, Query, Transport};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::{PASSED_BY, WEB, assert_web, fresh, wait_until_passed_by, warm};

const UDP: [Transport; 2] = [Transport::Connected, Transport::Unconnected];

/// Some of a process's threads, which do not run until this is dropped, by the thread that made it.
struct Held(Vec<Pid>);

impl Held {
    /// Those of this name.
    fn named(name: &str, process: i32) -> Self {
        let threads = fs::read_dir(format!("/proc/{process}/task")).or_panic("listing threads");
        let meant = threads.flatten().filter(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        let number = |name: &str| name.parse().or_panic("a thread's number");
        let meant =
            meant.map(|thread| Pid::from_raw(number(&thread.file_name().to_string_lossy())));
        let held = Self(meant.collect());
        assert!(!held.0.is_empty(), "no thread {name}");
        for thread in &held.0 {
            ptrace::seize(*thread, Options::empty()).or_panic("attaching to a thread");
            ptrace::interrupt(*thread).or_panic("stopping a thread");
            waitpid(*thread, Some(WaitPidFlag::__WALL)).or_panic("waiting for a thread's stop");
        }
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for thread in &self.0 {
            // It may be gone.
            let _ = ptrace::detach(*thread, None);
        }
    }
}

/// As with a dead-locked runtime: what reads UDP hangs, and the rest of the process lives. A heartbeat that said no more
/// than that would show nothing.
#[test]
fn an_agent_whose_readers_hang_is_passed_by() {
    for family in Family::BOTH {
        let lab = Lab::builder().start();
        let agent = lab.agent(&AgentConfig::default().soon_passed_by());
        let client = lab.pod(0).client(family).timeout(Duration::from_secs(1));
        let hasty = client.clone().timeout(Duration::from_millis(100));
        warm(&agent, &client, WEB);
        let mut numbers = (0..BULK).cycle();
        let mut query = || {
            let number = numbers.next().or_panic("it has no end");
            Query::new(&fresh(number), rtype::A)
        };
        let held = Held::named("udp", agent.process().pid());
        wait_until_passed_by(&[Transport::Connected], |transport| {
            hasty.ask(transport, &query()).is_ok()
        });
        let before = agent.counters();
        for _ in 0..20 {
            for transport in UDP {
                let reply = client.ask(transport, &query());
                reply.or_panic("while the readers hang");
                assert_web(&client, transport);
            }
        }
        assert_web(&client, Transport::Tcp);
        let after = agent.counters();
        let grown = |name| after.datapath(name) - before.datapath(name);
        assert!(grown("ordinary_wedged_udp") >= 40);
        assert_eq!(
            (grown("to_resolver_udp"), grown("ordinary_wedged_tcp")),
            (0, 0)
        );
        assert!(before.resolved(&after) > 0, "TCP has a reader of its own");
        drop(held);
        let (back, held) = (Instant::now(), after);
        while held.datapath("to_resolver_udp") == agent.counters().datapath("to_resolver_udp") {
            let _ = hasty.ask(Transport::Connected, &query());
            assert!(back.elapsed() < PASSED_BY * slowness(), "it stays away");
        }
        let reply = client.ask(Transport::Connected, &query());
        reply.or_panic("after the readers went on");
    }
}

/// A cgroup in which a process has a millisecond of CPU time a second. Dropping it puts the process back.
struct Starved {
    process: i32,
    cgroup: PathBuf,
    home: PathBuf,
}

impl Starved {
    /// `None`: there is no cgroup whose CPU time could be limited.
    fn new(process: i32) -> Option<Self> {
        let (root, is_v2) = hierarchy()?;
        let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup"));
        let cgroups = cgroups.or_panic("asking for a process's cgroups");
        let home = cgroup_of(&cgroups, if is_v2 { "" } else { "cpu" });
        let home = home.map(|path| root.join(path));
        let cgroup = root.join(format!("dnsc-starved-{process}"));
        fs::create_dir(&cgroup).or_panic("making a cgroup");
        let this = Self {
            process,
            cgroup,
            home: home.or_panic("a process is in a cgroup of each hierarchy"),
        };
        let set = |file: &str, value: &str| {
            fs::write(this.cgroup.join(file), value).or_panic(format_args!("writing {file}"));
        };
        if is_v2 {
            set("cpu.max", "1000 1000000");
        } else {
            set("cpu.cfs_period_us", "1000000");
            set("cpu.cfs_quota_us", "1000");
        }
        set("cgroup.procs", &process.to_string());
        Some(this)
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        // No panic here: this also runs while one unwinds.
        let _ = fs::write(self.home.join("cgroup.procs"), self.process.to_string());
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// Where cgroups are made whose CPU time can be limited, and whether they are of the second version.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/mounts").or_panic("reading the mounts");
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind, options) = (Path::new(words.next()?), words.next()?, words.next()?);
        let has = |text: &str, separator| text.split(separator).any(|word| word.trim() == "cpu");
        match kind {
            "cgroup" if has(options, ',') => Some((at.to_owned(), false)),
            "cgroup2" => {
                let enabled = fs::read_to_string(at.join("cgroup.subtree_control")).ok()?;
                has(&enabled, ' ').then(|| (at.to_owned(), true))
            }
            _ => None,
        }
    })
}

/// It wakes up once a second, for a moment: what comes within half a second after that waits for the next one, all else
/// takes the ordinary path.
#[test]
fn a_starved_agent_costs_no_lookup() {
    const STARVED: Duration = Duration::from_secs(10);
    let lab = Lab::builder().start();
    let agent = lab.agent(&AgentConfig::default().soon_passed_by());
    let client = lab
        .pod(0)
        .client(Family::V4)
        .timeout(Duration::from_secs(5));
    warm(&agent, &client, WEB);
    let before = agent.counters();
    let Some(starved) = Starved::new(agent.process().pid()) else {
        println!("not tried: there is no cgroup hierarchy here that limits CPU time");
        return;
    };
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < STARVED * slowness() {
        for transport in UDP {
            // It has just answered.
            sleep(Duration::from_millis(600) * slowness());
            let query = Query::new(&fresh(count % BULK), rtype::A);
            count += 1;
            // As glibc does it.
            let reply = client
                .ask(transport, &query)
                .or_else(|_| client.ask(transport, &query));
            reply.or_panic("a lookup while the agent starves");
            assert_web(&client, transport);
        }
    }
    drop(starved);
    let fed = agent.counters();
    let passed = fed.datapath("ordinary_wedged_udp") - before.datapath("ordinary_wedged_udp");
    println!("{count} names asked for, {passed} packets past the agent");
    assert!(passed > 0);
    let back = Instant::now();
    while fed.resolved(&agent.counters()) == 0 {
        assert_web(&client, Transport::Tcp);
        assert!(back.elapsed() < PASSED_BY * slowness(), "it stays away");
    }
}
