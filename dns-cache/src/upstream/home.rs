//! Where a connection is at home: the thread that reads it.

use std::thread::{self, ThreadId};

use tokio::runtime::{Handle, RuntimeFlavor};

/// A thread with a runtime of its own, or the runtime that threads share.
///
/// An answer that is read where its query was asked wakes no other thread, which on a quiet machine takes longer than
/// all the rest of the agent's work on a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Thread(ThreadId),
    Shared,
}

impl Home {
    /// Of the task that runs now.
    pub(super) fn current() -> Self {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => Self::Thread(thread::current().id()),
            _ => Self::Shared,
        }
    }
}
