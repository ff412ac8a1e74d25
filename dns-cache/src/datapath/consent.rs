//! What an agent that hands over has still is changed only as long as it waits for that: it may have given up since.

use std::fmt;
use std::io;

use super::error::{Error, Step as _};

type Ask = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The agent before, as far as it can be asked whether it still waits.
pub struct Consent(Option<Ask>);

impl Consent {
    /// `ask` fails when that agent goes on by itself. The answer holds for long enough to do the next step.
    pub fn of(ask: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        Self(Some(Box::new(ask)))
    }

    /// There is no agent before.
    pub(super) const fn of_nobody() -> Self {
        Self(None)
    }

    pub(super) fn ask(&mut self) -> Result<(), Error> {
        let answer = self.0.as_mut().map_or(Ok(()), |ask| ask());
        answer.step(|| "take over from the agent before".to_owned())
    }
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consent").field(&self.0.is_some()).finish()
    }
}
