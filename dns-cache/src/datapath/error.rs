//! What can go wrong on the way to a working datapath.

use std::error::Error as StdError;

/// A step of setting up or taking down the datapath that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {cause}{}", hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct Error {
    step: String,
    hint: Option<&'static str>,
    // All of its chain in one line; not a `source`, or whoever prints the chain would repeat it.
    cause: Box<str>,
}

/// Puts the failed step before an error.
pub(super) trait Step<T> {
    /// `step` completes "cannot …".
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error>;

    /// As [`Self::step`], with what to do about it.
    fn step_hint(self, step: impl FnOnce() -> String, hint: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|cause| Error {
            step: step(),
            hint: None,
            cause: chain(cause.into()).into(),
        })
    }

    fn step_hint(self, step: impl FnOnce() -> String, hint: &'static str) -> Result<T, Error> {
        self.map_err(|cause| Error {
            step: step(),
            hint: Some(hint),
            cause: chain(cause.into()).into(),
        })
    }
}

/// Folds an error's sources into one line: the kernel's own word is often the last of them.
fn chain(error: Box<dyn StdError + Send + Sync>) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
