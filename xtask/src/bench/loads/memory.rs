//! Resident memory with 10,000 entries.

use std::thread;

use anyhow::{Result, bail};

use super::{Context, Load, Measured, Needs};
use crate::bench::{cpu, names};

pub(super) const LOAD: Load = Load {
    key: "memory",
    title: "resident memory at 10,000 entries",
    method: "VmRSS of the server's processes after 10,000 different names (A) were asked for, before any other load; maps of eBPF programs are not in it",
    once: true,
    needs: Needs::Names,
    run,
};

/// Clients that ask at the same time.
const CLIENTS: usize = 8;

fn run(context: &Context<'_>) -> Result<Measured> {
    let share = context.plan.entries / CLIENTS;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut probe = context.probe()?;
                    (0..share).try_for_each(|_| probe.insist(&names::query(&names::fresh())))
                })
            })
            .collect();
        for client in clients {
            let Ok(result) = client.join() else {
                bail!("a client panicked");
            };
            result?;
        }
        Ok(())
    })?;
    let mut measured = Measured::default();
    let bytes = cpu::resident(&context.system.processes)?;
    measured.figure("memory.rss_mib", bytes as f64 / 1024.0 / 1024.0);
    Ok(measured)
}
