//! What the system lets this process have: open files, and memory.

mod memory;

pub use memory::fit as fit_into_memory;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files as far as it goes without privileges, and returns what it is then.
///
/// The soft limit of 1024 that most services start with is there for programs that call `select(2)`, which
/// this one does not; a node's pods can take up more of them.
pub fn raise_open_files() -> u64 {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "cannot raise the limit of open files");
    }
    open_files()
}

/// The limit of open files as it is now.
pub(crate) fn open_files() -> u64 {
    // It fails for an unknown resource only; then what every system gives.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_highest_allowed() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        assert_eq!(open_files(), hard.min(512));
        assert_eq!(raise_open_files(), hard);
        assert_eq!(open_files(), hard);
    }
}
