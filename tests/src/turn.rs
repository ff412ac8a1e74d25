//! Who has the machine: the labs of one process share it, but for the tests that fill it, or measure what it does in
//! milliseconds. Those wait until all others are gone, and have it alone.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

static STATE: Mutex<State> = Mutex::new(State {
    sharing: 0,
    waiting: 0,
    alone: false,
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// This thread's turns: whoever has one gets another one at once, for it would wait for itself.
    static OWN: Cell<u32> = const { Cell::new(0) };
}

struct State {
    sharing: u32,
    /// Those who want to be alone: others wait behind them.
    waiting: u32,
    alone: bool,
}

/// A turn; dropping it ends it.
#[derive(Debug)]
pub struct Turn {
    alone: bool,
    thread: ThreadId,
}

impl Turn {
    /// Beside others.
    #[must_use]
    pub fn shared() -> Self {
        let mut state = lock();
        while OWN.get() == 0 && (state.alone || state.waiting > 0) {
            state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sharing += 1;
        Self::new(false)
    }

    /// Beside nobody: waits until no lab is there. Taken before one's own lab is made.
    #[must_use]
    pub fn alone() -> Self {
        let mut state = lock();
        state.waiting += 1;
        while state.alone || state.sharing > 0 {
            state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.alone = true;
        Self::new(true)
    }

    fn new(alone: bool) -> Self {
        OWN.set(OWN.get() + 1);
        let thread = thread::current().id();
        Self { alone, thread }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock();
        if self.alone {
            state.alone = false;
        } else {
            state.sharing -= 1;
        }
        // A lab may end on another thread than it began on.
        if self.thread == thread::current().id() {
            OWN.set(OWN.get() - 1);
        }
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn alone_is_beside_nobody() {
        let first = Turn::shared();
        // One's own second lab does not wait for the first one.
        let second = Turn::shared();
        let is_alone = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _turn = Turn::alone();
                is_alone.store(true, Ordering::SeqCst);
                let _own_lab = Turn::shared();
                thread::sleep(Duration::from_millis(50));
                is_alone.store(false, Ordering::SeqCst);
            });
            thread::sleep(Duration::from_millis(50));
            assert!(!is_alone.load(Ordering::SeqCst));
            drop((first, second));
            scope.spawn(|| {
                // Behind the one who waited first, or has it.
                let _turn = Turn::shared();
                assert!(!is_alone.load(Ordering::SeqCst));
            });
        });
    }
}
