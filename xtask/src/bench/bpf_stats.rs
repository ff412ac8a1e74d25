//! The kernel's own account of how long eBPF programs run (Linux 5.1, commit 492ecee892c2).

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// What the switch was before; nothing while it is not ours.
static BEFORE: Mutex<Option<String>> = Mutex::new(None);

/// The account is kept while this lives: it costs each run of a program two looks at the clock.
#[derive(Debug)]
pub(super) struct Enabled(());

impl Enabled {
    /// `None` where the kernel has no such account.
    pub(super) fn on() -> Option<Self> {
        let before = fs::read_to_string(SWITCH).ok()?;
        *lock() = Some(before);
        let enabled = Self(());
        fs::write(SWITCH, "1").ok()?;
        Some(enabled)
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the switch back: also for a handler of signals, where no destructor runs.
pub(super) fn restore() {
    if let Some(before) = lock().take() {
        // Nobody is left to hear of a failure.
        let _ = fs::write(SWITCH, before.trim());
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<String>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What programs did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) nanos: u64,
    pub(super) count: u64,
}

impl Runs {
    /// Of the programs that a process holds.
    pub(super) fn of(pid: i32) -> Self {
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"));
        let texts = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok());
        // A program that it holds twice ran once.
        let programs: BTreeMap<u64, Self> = texts.filter_map(|text| parse(&text)).collect();
        Self {
            nanos: programs.values().map(|runs| runs.nanos).sum(),
            count: programs.values().map(|runs| runs.count).sum(),
        }
    }

    /// What they did since an earlier moment.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(earlier.nanos),
            count: self.count.saturating_sub(earlier.count),
        }
    }
}

/// A program's id and runs from its descriptor's `fdinfo`; `None` for other descriptors.
fn parse(fdinfo: &str) -> Option<(u64, Runs)> {
    let field = |name: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    let id = field("prog_id:")?;
    let (nanos, count) = (field("run_time_ns:")?, field("run_cnt:")?);
    Some((id, Runs { nanos, count }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_programs_and_of_others() {
        let program =
            "pos:\t0\nflags:\t02\nprog_type:\t3\nprog_id:\t17\nrun_time_ns:\t1234\nrun_cnt:\t5\n";
        let (nanos, count) = (1234, 5);
        assert_eq!(parse(program), Some((17, Runs { nanos, count })));
        let link = "pos:\t0\nlink_type:\ttcx\nlink_id:\t4\nprog_id:\t17\n";
        assert_eq!(parse(link), None);
        assert_eq!(parse("pos:\t0\nflags:\t02\n"), None);
    }
}
