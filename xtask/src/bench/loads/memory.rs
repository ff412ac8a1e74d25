//! Memory with 10,000 entries.

use anyhow::Result;

use super::{Context, Load, Measured, Needs};
use crate::bench::{cpu, fill, names};

pub(super) const LOAD: Load = Load {
    key: "memory",
    title: "memory at 10,000 entries",
    method: "VmRSS of the server's processes after 10,000 different names (A) were asked for, before any other load; and the memory of the eBPF maps that they hold as the kernel accounts for it (memlock in fdinfo), some of which is resident in the process too, and so in both",
    once: true,
    needs: Needs::Names,
    run,
};

const MIB: f64 = 1024.0 * 1024.0;

fn run(context: &Context<'_>) -> Result<Measured> {
    let system = context.system;
    let (netns, entries) = (system.pod().netns(), context.plan.entries);
    fill::fill(netns, system.server, entries, |_| names::fresh())?;
    let mut measured = Measured::default();
    let bytes = cpu::resident(&system.processes)?;
    measured.figure("memory.rss_mib", bytes as f64 / MIB);
    if let Some(holder) = system.programs {
        let bytes = dns_cache_tests::procfs::map_memory(holder);
        measured.figure("memory.maps_mib", bytes as f64 / MIB);
    }
    Ok(measured)
}
