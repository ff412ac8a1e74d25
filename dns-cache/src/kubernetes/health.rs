//! Whether the API server is heard, for people: answers do not depend on it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{debug, info, warn};

use super::client::Error;

/// What is known of the API server.
#[derive(Debug)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
pub(super) struct State {
    /// When it was last found to be there, or not to be.
    pub(super) since: Instant,
    /// What is wrong; `None` while it is heard.
    pub(super) error: Option<String>,
    pub(super) errors: u64,
    heard: bool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                since: Instant::now(),
                error: Some("it has not been asked yet".to_owned()),
                errors: 0,
                heard: false,
            }),
        }
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Whether it has ever answered.
    pub(super) fn was_heard(&self) -> bool {
        self.lock().heard
    }

    /// It has answered.
    pub(super) fn heard(&self) {
        let mut state = self.lock();
        if state.error.take().is_some() {
            state.since = Instant::now();
            state.heard = true;
            info!("the API server is heard");
        }
    }

    /// It has not, or not as it should.
    pub(super) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        state.errors += 1;
        let text = error.to_string();
        if state.error.is_none() || (!state.heard && state.errors == 1) {
            state.since = Instant::now();
            warn!(
                error = text,
                "the API server is not heard; what is known stays"
            );
        } else {
            debug!(error = text, "the API server is still not heard");
        }
        state.error = Some(text);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
