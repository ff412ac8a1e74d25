//! The kernel's side: programs, maps, and the interfaces that they hang on.

use crate::config::Config;

/// Why the datapath could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there yet.
    #[error("this build has no datapath")]
    Absent,
}

/// Removes every program, pin, namespace and interface that an agent with this configuration may
/// have left behind.
///
/// # Errors
/// If something stays behind.
pub fn detach(_config: &Config) -> Result<(), Error> {
    Err(Error::Absent)
}
