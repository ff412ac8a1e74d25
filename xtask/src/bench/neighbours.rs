//! What else ran on the machine: CPU time of processes that are neither this one nor its children.

use std::collections::BTreeMap;
use std::fs;

/// CPU time of strangers so far, in clock ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours(u64);

impl Neighbours {
    /// Until now.
    pub(super) fn now() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = entries.filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // A process may end while the folder is read.
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, Process::parse(&stat)?))
        });
        let own = nix::unistd::getpid().as_raw();
        Self(strangers(&processes.collect(), own))
    }

    /// What they used since an earlier moment, in clock ticks.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// Its own time and that of its children that have ended: the sum over all processes loses nothing when
    /// one ends.
    ticks: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let times: Option<Vec<u64>> = fields
            .get(11..15)?
            .iter()
            .map(|field| field.parse().ok())
            .collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: times?.iter().sum(),
        })
    }
}

/// The kernel's threads are children of this one. What they do is done for the load as well as for others.
const KTHREADD: i32 = 2;

fn strangers(processes: &BTreeMap<i32, Process>, own: i32) -> u64 {
    let is_ours = |pid: i32| {
        let mut at = pid;
        // Deep enough for any tree, and an end for one that changes while it is read.
        for _ in 0..64 {
            match at {
                KTHREADD => return true,
                _ if at == own => return true,
                _ => {}
            }
            match processes.get(&at) {
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        false
    };
    processes
        .iter()
        .filter(|(pid, _)| !is_ours(**pid))
        .map(|(_, process)| process.ticks)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strangers_count() {
        let process = |parent, ticks| Process { parent, ticks };
        let processes = BTreeMap::from([
            (1, process(0, 1)),
            (2, process(0, 1000)),
            (9, process(2, 1000)),
            (10, process(1, 10)),
            (11, process(10, 1000)),
            (12, process(11, 1000)),
            (13, process(10, 100)),
        ]);
        assert_eq!(strangers(&processes, 11), 111);
    }

    #[test]
    fn a_process_with_its_ended_children() {
        let stat = "42 (a) b) S 7 42 42 0 -1 4194560 9 0 0 0 120 30 5 2 20 0 7 0 1234 99 5";
        let expected = Process {
            parent: 7,
            ticks: 157,
        };
        assert_eq!(Process::parse(stat), Some(expected));
        assert_eq!(Process::parse("42 (a) S 7"), None);
    }
}
