//! What takes bytes from outside, as functions of any bytes: targets of `cargo xtask fuzz`, and of cargo-fuzz
//! (`dns-cache/fuzz`). A target panics if something is wrong.

#[cfg(test)]
mod mutation;
mod query;
mod reply;
#[cfg(test)]
mod run;

use std::path::Path;

pub use crate::control::fuzz::control;
pub use crate::resolver::fuzz::response;
pub use query::query;

/// A configuration file: it is read, or refused with mistakes that have places.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(errors) = crate::config::parse(text, Path::new("f")) {
        assert!(!errors.to_string().is_empty(), "refused without a reason");
    }
}
