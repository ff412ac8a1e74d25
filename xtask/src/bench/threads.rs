//! What threads did, by the scheduler's own account: nanoseconds, where `/proc/PID/stat` has ticks.

use std::fs;
use std::ops::AddAssign;
use std::path::Path;

use nix::unistd::Pid;

/// What threads did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Activity {
    /// Time on a CPU.
    pub(super) run_nanos: u64,
    /// Time between a wake-up, or a turn's end, and the next turn on a CPU.
    pub(super) wait_nanos: u64,
    /// How often they went to sleep by themselves.
    pub(super) sleeps: u64,
}

impl Activity {
    /// Of all threads of these processes; `None` if the kernel keeps no account (`CONFIG_SCHED_INFO`).
    pub(super) fn of(pids: &[i32]) -> Option<Self> {
        let mut all = Self::default();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
                // A thread may end while the folder is read.
                if let Some(activity) = Self::read(&task.ok()?.path()) {
                    all += activity;
                }
            }
        }
        (all.run_nanos > 0).then_some(all)
    }

    /// Of a thread of this process.
    pub(super) fn of_own(thread: Pid) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/self/task/{thread}")))
    }

    fn read(task: &Path) -> Option<Self> {
        let read = |name| fs::read_to_string(task.join(name)).ok();
        parse(&read("schedstat")?, &read("status")?)
    }

    /// What they did since an earlier moment.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            run_nanos: self.run_nanos.saturating_sub(earlier.run_nanos),
            wait_nanos: self.wait_nanos.saturating_sub(earlier.wait_nanos),
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
        }
    }
}

impl AddAssign for Activity {
    fn add_assign(&mut self, other: Self) {
        self.run_nanos += other.run_nanos;
        self.wait_nanos += other.wait_nanos;
        self.sleeps += other.sleeps;
    }
}

fn parse(schedstat: &str, status: &str) -> Option<Activity> {
    let mut times = schedstat.split_whitespace();
    let mut time = || times.next()?.parse().ok();
    let (run_nanos, wait_nanos) = (time()?, time()?);
    let mut lines = status.lines();
    let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    Some(Activity {
        run_nanos,
        wait_nanos,
        sleeps: sleeps.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_and_its_sleeps() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        let expected = Activity {
            run_nanos: 1234,
            wait_nanos: 56,
            sleeps: 7,
        };
        assert_eq!(parse("1234 56 3\n", status), Some(expected));
        assert_eq!(parse("1234\n", status), None);
        assert_eq!(parse("1234 56 3\n", "Name:\tx\n"), None);
    }

    #[test]
    fn own_sleeps_are_counted() {
        let own = nix::unistd::gettid();
        let Some(before) = Activity::of_own(own) else {
            println!("skipped: this kernel has no schedstat (CONFIG_SCHED_INFO)");
            return;
        };
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(1));
        }
        let after = Activity::of_own(own).unwrap();
        assert!(after.since(before).sleeps >= 5, "{before:?} {after:?}");
        assert!(Activity::of(&[nix::unistd::getpid().as_raw()]).is_some());
        assert_eq!(Activity::of(&[]), None);
    }
}
