//! CPU time: of the servers' processes, and what the hypervisor took.
//!
//! Not of the whole machine: `/proc/stat` counts what runs at each tick, which says nothing of work that
//! comes in bursts of microseconds.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::neighbours::Neighbours;
use super::threads::Activity;

/// CPU time between two moments.
#[derive(Debug)]
pub(super) struct Meter {
    pids: Vec<i32>,
    /// Seconds.
    processes: f64,
    machine: Machine,
    neighbours: Neighbours,
}

/// What was used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// Seconds of the processes, user and system.
    pub(super) processes: f64,
    /// How much of all CPU time the hypervisor gave to others, in percent.
    pub(super) steal_percent: f64,
    /// How much of it processes used that have nothing to do with the benchmark, in percent.
    pub(super) others_percent: f64,
}

impl Meter {
    /// Starts now.
    pub(super) fn start(pids: &[i32]) -> Result<Self> {
        Ok(Self {
            processes: processes(pids)?,
            machine: Machine::now()?,
            neighbours: Neighbours::now(),
            pids: pids.to_vec(),
        })
    }

    /// Seconds of the processes until now.
    fn used_by_processes(&self) -> Result<f64> {
        Ok(processes(&self.pids)? - self.processes)
    }

    /// What was used until now.
    pub(super) fn stop(self) -> Result<Used> {
        let machine = Machine::now()?;
        let all = machine.all.saturating_sub(self.machine.all).max(1) as f64;
        let others = Neighbours::now().since(self.neighbours) as f64;
        let stolen = machine.steal.saturating_sub(self.machine.steal) as f64;
        Ok(Used {
            processes: self.used_by_processes()?,
            steal_percent: stolen / all * 100.0,
            others_percent: others / all * 100.0,
        })
    }
}

/// Resident memory of processes, in bytes.
pub(super) fn resident(pids: &[i32]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/status");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            parse_resident(&text).with_context(|| format!("{path} has no VmRSS"))
        })
        .sum()
}

fn ticks_per_second() -> Result<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the system does not say its clock tick")?;
    Ok(ticks as f64)
}

/// Seconds of processes, by the scheduler's account of their threads; where the kernel keeps none, in whole ticks, one of
/// which is more than what an agent uses in a second in which the kernel answers.
fn processes(pids: &[i32]) -> Result<f64> {
    if let Some(activity) = Activity::of(pids) {
        return Ok(activity.run_nanos as f64 / 1e9);
    }
    Ok(ticks(pids)? as f64 / ticks_per_second()?)
}

fn ticks(pids: &[i32]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/stat");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            parse_process(&text).with_context(|| format!("{path} is not as proc(5) has it"))
        })
        .sum()
}

/// `utime` and `stime` of `/proc/PID/stat`, in clock ticks.
fn parse_process(stat: &str) -> Option<u64> {
    // The command's name may hold anything, blanks and brackets too: the fields follow its last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The first line of `/proc/stat`, in clock ticks over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    all: u64,
    steal: u64,
}

impl Machine {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text).context("/proc/stat is not as proc(5) has it")
    }

    /// From `cpu  user nice system idle iowait irq softirq steal guest guest_nice`.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Option<Vec<u64>> = line
            .split_whitespace()
            .map(|field| field.parse().ok())
            .collect();
        // Guest time is in user time already.
        let fields: Vec<_> = fields?.into_iter().take(8).collect();
        Some(Self {
            all: fields.iter().sum(),
            steal: *fields.get(7)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_with_an_awkward_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 120 30 0 0 20 0 7 0 1234 99 5";
        assert_eq!(parse_process(stat), Some(150));
        assert_eq!(parse_process("42 (short) S 1 2"), None);
        assert_eq!(parse_process(""), None);
    }

    #[test]
    fn the_machine() {
        let text = "cpu  100 1 50 800 20 3 6 20 90 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let machine = Machine::parse(text).unwrap();
        assert_eq!(
            machine,
            Machine {
                all: 1000,
                steal: 20
            }
        );
        assert_eq!(Machine::parse("cpu  1 2 x 4 5 6 7 8\n"), None);
        assert_eq!(Machine::parse("intr 1\n"), None);
    }

    #[test]
    fn resident_memory() {
        assert_eq!(
            parse_resident("Name:\tx\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    /// A process that does nothing but work. Not this one: its account shrinks when another test's thread ends.
    struct Busy(Child);

    impl Busy {
        fn start() -> Self {
            let mut shell = Command::new("sh");
            Self(shell.args(["-c", "while :; do :; done"]).spawn().unwrap())
        }

        fn pids(&self) -> [i32; 1] {
            [self.0.id().cast_signed()]
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_uses_time_and_memory() {
        let busy = Busy::start();
        let pids = busy.pids();
        assert!(resident(&pids).unwrap() > 0);
        let used = Meter::start(&pids).unwrap().stop().unwrap();
        assert!(used.processes >= 0.0 && used.steal_percent >= 0.0);
        assert!(ticks(&pids).is_ok() && ticks_per_second().unwrap() > 0.0);
        let none = Meter::start(&[]).unwrap().stop().unwrap();
        assert_eq!(none.processes, 0.0);
    }

    /// Work is not counted in whole ticks.
    #[test]
    fn less_than_a_tick_is_seen() {
        let busy = Busy::start();
        let pids = busy.pids();
        if Activity::of(&pids).is_none() {
            println!("skipped: this kernel has no schedstat (CONFIG_SCHED_INFO)");
            return;
        }
        let meter = Meter::start(&pids).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let used = loop {
            let used = meter.used_by_processes().unwrap();
            if used > 0.0 {
                break used;
            }
            assert!(Instant::now() < end, "it does not work");
            thread::sleep(Duration::from_millis(1));
        };
        let ticks = used * ticks_per_second().unwrap();
        assert!(ticks.fract() != 0.0, "{ticks} whole ticks");
    }
}
