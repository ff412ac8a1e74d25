//! The agent's own process, by the names that every Prometheus client library gives.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use super::{Exposition, names};
use crate::limits;

/// Writes what is known about this process, which was `started` then.
pub(crate) fn process(out: &mut Exposition, started: Instant) {
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        (usage.user_time() + usage.system_time()).num_microseconds()
    });
    out.single(&names::PROCESS_CPU, cpu as f64 / 1e6);
    out.single(&names::PROCESS_MEMORY, resident_bytes().unwrap_or_default());
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    out.single(&names::PROCESS_FDS, descriptors);
    out.single(&names::PROCESS_MAX_FDS, limits::open_files());
    let start = SystemTime::now()
        .checked_sub(started.elapsed())
        .and_then(|start| start.duration_since(UNIX_EPOCH).ok());
    out.single(&names::PROCESS_START, start.unwrap_or_default().as_secs());
}

/// By proc_pid_statm(5): the second number, in pages.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_descriptors() {
        assert!(resident_bytes().unwrap() > 100_000);
        let mut out = Exposition::default();
        process(&mut out, Instant::now());
        let text = out.finish();
        assert!(!text.contains("process_open_fds 0\n"), "{text}");
    }
}
