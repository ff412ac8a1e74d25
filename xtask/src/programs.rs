//! Finding programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this program is: on PATH, or in a folder of the system's that a user's PATH may lack.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/go/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The workspace's folder.
pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The cargo that runs this program, or the one on PATH. It is not told of the package of this one: some build scripts
/// name these variables, and cargo, run from here and by hand in turns, would build what depends on them each time anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let is_ours = |prefix| name.as_encoded_bytes().starts_with(prefix);
        if is_ours(b"CARGO_PKG_") || is_ours(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
