//! Processes by pid *and* start time: a pid alone may have been given to someone else since.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::or_panic::OrPanic;

/// Where the unified hierarchy is on this machine.
#[must_use]
pub fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").or_panic("reading the mounts");
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| at.into())
    })
}

/// The path, below the root of its hierarchy, of a process's control group for a controller (none: of the unified one), by the
/// text of its `/proc/PID/cgroup`.
#[must_use]
pub fn cgroup_of<'a>(cgroups: &'a str, controller: &str) -> Option<&'a str> {
    cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_it = controllers.split(',').any(|name| name == controller);
        is_it.then(|| path.trim_start_matches('/'))
    })
}

/// A process that can be told from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// The pid.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start: u64,
}

impl ProcessId {
    /// The process that has this pid now; `None` if there is none or it is a zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name may hold anything, blanks and brackets too: the fields follow its last one.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// This process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// From a record's `PID START …`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        Some(Self {
            pid: fields.next()?.parse().ok()?,
            start: fields.next()?.parse().ok()?,
        })
    }

    /// As a record's `PID START`.
    #[must_use]
    pub fn record(self) -> String {
        format!("{} {}", self.pid, self.start)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal if it still runs.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // Gone in between is what was wanted, too.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it and waits until it is gone; true if it is.
    #[must_use]
    pub fn kill(self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        self.signal(Signal::SIGKILL);
        while self.is_alive() {
            if Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// Bytes of a process's resident memory.
#[must_use]
pub fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .or_panic(format_args!("reading the memory of {pid}"));
    let kib: u64 = status
        .lines()
        .find_map(|line| {
            let size = line.strip_prefix("VmRSS:")?.trim();
            size.strip_suffix(" kB")?.parse().ok()
        })
        .or_panic("no VmRSS");
    kib * 1024
}

/// The part of [`resident`] that is memory of eBPF maps, which [`map_memory`] has as well.
#[must_use]
pub fn resident_in_maps(pid: i32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))
        .or_panic(format_args!("reading the mappings of {pid}"));
    let (mut is_map, mut kib) = (false, 0);
    for line in smaps.lines() {
        // A mapping's first line ends with its name; all others begin with a field's.
        if let Some(size) = line.strip_prefix("Rss:") {
            let size = size.trim().strip_suffix(" kB").map(str::parse::<u64>);
            kib += match (is_map, size) {
                (true, Some(Ok(size))) => size,
                _ => 0,
            };
        } else if line.contains('-') {
            is_map = line.ends_with("anon_inode:bpf-map");
        }
    }
    kib * 1024
}

/// Whether any of a process's threads is neither stopped nor gone.
#[must_use]
pub fn has_running_threads(pid: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let mut states = tasks.into_iter().flatten().filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        // Behind the name, which may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    });
    states.any(|state| !matches!(state, 'T' | 'Z' | 'X'))
}

/// Bytes of the eBPF maps that a process holds, as the kernel accounts for them.
#[must_use]
pub fn map_memory(pid: i32) -> u64 {
    let mut seen = HashSet::new();
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).or_panic("reading fdinfo");
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let field = |name: &str| -> Option<u64> {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse().ok()
            };
            seen.insert(field("map_id:")?).then(|| field("memlock:"))?
        })
        .sum()
}

/// IP packets, but for ICMP's, that the calling thread's network namespace has sent, and those that it has taken in.
#[must_use]
pub fn ip_packets() -> (u64, u64) {
    let read = |name: &str| {
        let path = format!("/proc/thread-self/net/{name}");
        fs::read_to_string(&path).or_panic(path)
    };
    // A line of names, and one of values.
    let v4 = read("snmp");
    let v4 = |protocol: &str, name: &str| -> Option<u64> {
        let mut lines = v4.lines().filter(|line| line.starts_with(protocol));
        let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
        let (_, value) = names.zip(values).find(|(n, _)| *n == name)?;
        value.parse().ok()
    };
    let v6 = read("snmp6");
    let v6 = |name: &str| -> Option<u64> {
        let mut lines = v6.lines().map(|line| line.split_whitespace());
        lines.find_map(|mut words| {
            (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
        })
    };
    let counted = |v4: Option<u64>, v6: Option<u64>| {
        v4.or_panic("IP is not counted") + v6.or_panic("IPv6 is not counted")
    };
    let sent = counted(v4("Ip:", "OutRequests"), v6("Ip6OutRequests"));
    let received = counted(v4("Ip:", "InDelivers"), v6("Ip6InDelivers"));
    (
        sent - counted(v4("Icmp:", "OutMsgs"), v6("Icmp6OutMsgs")),
        received - counted(v4("Icmp:", "InMsgs"), v6("Icmp6InMsgs")),
    )
}

/// The running kernel's version.
#[must_use]
pub fn linux() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").or_panic("reading the release");
    let mut numbers = release.split('.').map_while(|part| part.parse().ok());
    let (major, minor) = (numbers.next(), numbers.next());
    let what = format_args!("the release {release}");
    (major.or_panic(what), minor.or_panic(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_survives_its_record() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert_eq!(ProcessId::parse(&own.record()), Some(own));
    }

    #[test]
    fn same_pid_with_another_start_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(
            !ProcessId {
                start: own.start + 1,
                ..own
            }
            .is_alive()
        );
    }
}
