//! Panics of the agent's threads. tokio catches those of its tasks, so that the agent may go on after one.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts panics from now on, and reports them as before.
pub(crate) fn watch() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        COUNT.fetch_add(1, Relaxed);
        report(info);
    }));
}

pub(crate) fn count() -> u64 {
    COUNT.load(Relaxed)
}
