//! How long to wait for what shall happen, however slow or busy the machine is.

use std::env;
use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Set where instructions are translated (`cargo xtask kernel`): divides what tests repeat, and there is time for them.
pub const DIVISOR_VARIABLE: &str = "DNS_CACHE_TEST_DIVISOR";
/// What shall happen, happens at last: only what never does takes so long.
pub const LONG: Duration = Duration::from_secs(60);

/// How many times as long everything takes on this machine: time-outs of clients, deadlines, and what an agent may take
/// before it is passed by.
#[must_use]
pub fn slowness() -> u32 {
    if env::var_os(DIVISOR_VARIABLE).is_some() {
        10
    } else {
        1
    }
}

/// Waits until it is so, for [`LONG`]; panics then with what was waited for.
#[track_caller]
pub fn wait_until<T: Display>(what: impl Fn() -> T, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG * slowness();
    while !is_so() {
        assert!(Instant::now() < end, "{}", what());
        thread::sleep(Duration::from_millis(10));
    }
}
