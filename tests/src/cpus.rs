//! Which CPU a thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::or_panic::OrPanic;

/// Keeps this thread on the nth of the CPUs that it may run on; says which that is. With fewer there is nothing to choose.
pub fn stay_on(nth: usize) -> Option<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).or_panic("asking for the CPUs");
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    let cpu = cpus.nth(nth)?;
    let mut only = CpuSet::new();
    only.set(cpu).or_panic("a CPU's number");
    sched_setaffinity(this, &only).or_panic("choosing a CPU");
    Some(cpu)
}
