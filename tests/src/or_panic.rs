//! Ending a failed step with a sentence instead of `unwrap`.

use std::fmt::Display;

/// Takes the value out, or panics with what was being done.
pub trait OrPanic<T> {
    /// The value; panics with `what` (and the error, where there is one) if there is none.
    fn or_panic(self, what: impl Display) -> T;
}

impl<T, E: Display> OrPanic<T> for Result<T, E> {
    #[track_caller]
    fn or_panic(self, what: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

impl<T> OrPanic<T> for Option<T> {
    #[track_caller]
    fn or_panic(self, what: impl Display) -> T {
        match self {
            Some(value) => value,
            None => panic!("{what}"),
        }
    }
}
