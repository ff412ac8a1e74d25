//! Where the tools are that `cargo xtask setup` builds, and the binary under test.

use std::env;
use std::path::PathBuf;

use nix::unistd::{User, geteuid};

use crate::or_panic::OrPanic;

/// The variable that names the folder of tools.
pub const TOOLS_VARIABLE: &str = "DNS_CACHE_TOOLS";
/// The variable that names the agent's binary.
pub const BINARY_VARIABLE: &str = "DNS_CACHE_BIN";

/// The folder of tools: `$DNS_CACHE_TOOLS`, else `dns-cache/tools` in the user's cache folder. Under
/// sudo that is the folder of the user who called it.
#[must_use]
pub fn folder() -> PathBuf {
    if let Some(folder) = env::var_os(TOOLS_VARIABLE) {
        return folder.into();
    }
    let sudo_home = geteuid()
        .is_root()
        .then(|| env::var("SUDO_USER").ok())
        .flatten()
        .and_then(|name| User::from_name(&name).ok().flatten())
        .map(|user| user.dir.join(".cache"));
    let cache = sudo_home
        .or_else(|| {
            env::var_os("XDG_CACHE_HOME")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        })
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .or_panic("neither HOME nor XDG_CACHE_HOME is set");
    cache.join("dns-cache/tools")
}

/// The binary of a tool that the lab cannot do without.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = folder().join("bin").join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo xtask setup`, which builds it",
        path.display()
    );
    path
}

/// The agent's binary: `$DNS_CACHE_BIN`, else the newest of the release and the debug one beside this program.
#[must_use]
pub fn agent() -> PathBuf {
    if let Some(path) = env::var_os(BINARY_VARIABLE) {
        return path.into();
    }
    let own = env::current_exe().or_panic("finding this program's own path");
    let target = own
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .or_panic("this program is not in a target folder");
    ["release", "debug"]
        .into_iter()
        .map(|profile| target.join(profile).join("dns-cache"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .or_panic(format_args!(
            "no dns-cache under {}: run `cargo build --release -p dns-cache`",
            target.display()
        ))
        .1
}
