//! The agent's own process, by the names that every Prometheus client library gives.

use std::collections::BTreeMap;
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

/// Bytes of the eBPF maps that this process holds (fdinfo of bpf_map_show_fdinfo); `None` if it holds none.
pub(crate) fn map_bytes() -> Option<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").ok()? {
        // One that was closed meanwhile is not there any more.
        let text = entry.and_then(|entry| fs::read_to_string(entry.path()));
        maps.extend(text.ok().and_then(|text| map(&text)));
    }
    (!maps.is_empty()).then(|| maps.values().sum())
}

/// A map's id and bytes; one may have several descriptors.
fn map(fdinfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| -> Option<u64> {
        let mut lines = fdinfo.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    };
    Some((field("map_id:")?, field("memlock:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_from_other_files() {
        let text = "pos:\t0\nflags:\t02\nmap_type:\t2\nkey_size:\t4\nmemlock:\t4096\nmap_id:\t17\n";
        assert_eq!(map(text), Some((17, 4096)));
        assert_eq!(map("pos:\t0\nprog_id:\t3\nmemlock:\t4096\n"), None);
    }

    #[test]
    fn a_process_has_memory_and_descriptors() {
        assert!(resident_bytes().unwrap() > 100_000);
        let mut out = Exposition::default();
        process(&mut out, Instant::now());
        let text = out.finish();
        assert!(!text.contains("process_open_fds 0\n"), "{text}");
    }
}
