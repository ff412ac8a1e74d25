//! Memory with 10,000 entries.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use dns_cache_tests::procfs;
use serde_json::Value;

use super::{Context, Load, Measured, Needs};
use crate::bench::systems::Running;
use crate::bench::{cpu, fill, names};

pub(super) const LOAD: Load = Load {
    key: "memory",
    title: "memory at 10,000 entries",
    method: "VmRSS of the server's processes after 10,000 different names (A) were asked for, before any other load, and after the first hundred of them, when code, connections and buffers are there; the memory of the eBPF maps that they hold as the kernel accounts for it (memlock in fdinfo), some of which is resident in the process too: what the entries cost is the growth of the RSS without that part, and all of the maps; an agent says itself how many it holds, and the lesser of its two caches counts; the others are asked for all names again, and those that they ask CoreDNS for are not held",
    once: true,
    needs: Needs::Names,
    run,
};

const MIB: f64 = 1024.0 * 1024.0;
const MB: f64 = 1e6;
/// Names that are asked for before the memory of an empty cache is looked at.
const IN_USE: usize = 100;
/// What an agent puts into its kernel cache after it has answered is there by then.
const SETTLED: Duration = Duration::from_secs(1);
/// With fewer of the entries it is something else that was measured.
pub(in crate::bench) const FEWEST_HELD_PERCENT: f64 = 95.0;

fn run(context: &Context<'_>) -> Result<Measured> {
    let system = context.system;
    let names: Vec<_> = (0..context.plan.entries).map(|_| names::fresh()).collect();
    let ask = |names: &[String]| {
        let name = |index: usize| names[index].clone();
        fill::fill(
            system.pod().netns(),
            system.server,
            names.len(),
            name,
            |_| {},
        )
    };
    let (first, rest) = names.split_at(IN_USE.min(names.len()));
    ask(first)?;
    thread::sleep(SETTLED);
    let empty = resident(system)?;
    ask(rest)?;
    thread::sleep(SETTLED);
    let full = resident(system)?;
    let maps = system.programs.map(procfs::map_memory);
    let held = match counted(system)? {
        Some(entries) => entries.min(names.len() as u64),
        None => {
            let asked = system.asked_upstream().0;
            ask(&names)?;
            let asked = system.asked_upstream().0 - asked;
            (names.len() as u64).saturating_sub(asked)
        }
    };

    let mut measured = Measured::default();
    measured.figure("memory.idle_rss_mib", empty.all as f64 / MIB);
    measured.figure("memory.rss_mib", full.all as f64 / MIB);
    if let Some(maps) = maps {
        measured.figure("memory.maps_mib", maps as f64 / MIB);
    }
    let cost = cost(&empty, &full, maps.unwrap_or(0));
    measured.figure("memory.cost_mb", cost as f64 / MB);
    let held = held as f64 / names.len().max(1) as f64 * 100.0;
    measured.figure("memory.held_percent", held);
    // Without any cache there is nothing to hold them.
    if held > 0.0 && held < FEWEST_HELD_PERCENT {
        measured
            .remarks
            .push(format!("only {held:.0} % of the entries are held"));
    }
    Ok(measured)
}

/// Resident memory in bytes, and how much of it is pages of eBPF maps.
#[derive(Debug)]
struct Resident {
    all: u64,
    in_maps: u64,
}

impl Resident {
    const fn own(&self) -> u64 {
        self.all.saturating_sub(self.in_maps)
    }
}

fn resident(system: &Running) -> Result<Resident> {
    Ok(Resident {
        all: cpu::resident(&system.processes)?,
        in_maps: system.programs.map_or(0, procfs::resident_in_maps),
    })
}

/// What entries cost all in, each page once: what they add to a process in use, and all maps, whose size goes by the
/// configuration.
const fn cost(empty: &Resident, full: &Resident, maps: u64) -> u64 {
    full.own().saturating_sub(empty.own()) + maps
}

/// How many answers an agent holds; `None` if the system is none. To ask for them would be a use, which moves entries in a cache that is full.
pub(in crate::bench) fn counted(system: &Running) -> Result<Option<u64>> {
    let Some(agent) = system.agent() else {
        return Ok(None);
    };
    let status = agent.status().map_err(|error| anyhow!("{error}"))?;
    let entries = entries_in(&status).context("the status has no entries")?;
    Ok(Some(entries))
}

/// In both caches, or in the resolver's, where there is no other.
fn entries_in(status: &Value) -> Option<u64> {
    let resolver = status["resolver"]["cache_entries"].as_u64()?;
    match &status["datapath"]["cache"] {
        Value::Null => Some(resolver),
        kernel => Some(kernel["entries"].as_u64()?.min(resolver)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_page_is_counted_once() {
        let (empty, full) = (
            Resident {
                all: 20,
                in_maps: 1,
            },
            Resident {
                all: 30,
                in_maps: 4,
            },
        );
        assert_eq!(cost(&empty, &full, 8), 7 + 8);
        assert_eq!(cost(&full, &empty, 8), 8);
    }

    #[test]
    fn an_entry_is_held_by_all_that_are_to_hold_it() {
        let status = |kernel: Value| json!({"resolver": {"cache_entries": 900}, "datapath": {"cache": kernel}});
        assert_eq!(entries_in(&status(json!({"entries": 10}))), Some(10));
        assert_eq!(entries_in(&status(json!({"entries": 1000}))), Some(900));
        assert_eq!(entries_in(&status(Value::Null)), Some(900));
        assert_eq!(entries_in(&status(json!({}))), None);
    }
}
