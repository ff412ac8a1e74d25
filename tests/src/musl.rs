//! The musl C libraries that clients are linked with. Each is its own loader; started by itself, it says its version.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// The first version that asks for a truncated answer again over TCP.
pub const WITH_TCP: [u32; 3] = [1, 2, 4];

/// The one that this machine's `musl-gcc` links with.
#[must_use]
pub fn own() -> PathBuf {
    format!("/lib/ld-musl-{ARCH}.so.1").into()
}

/// The newer one, in [`folder`].
#[must_use]
pub fn newer() -> PathBuf {
    folder().join(format!("usr/lib/{ARCH}-linux-musl/libc.so"))
}

/// Where `cargo xtask setup` unpacks Debian testing's package.
#[must_use]
pub fn folder() -> PathBuf {
    tools::folder().join("musl")
}

/// The version of a library; `None` if it is not there.
#[must_use]
pub fn version(library: &Path) -> Option<[u32; 3]> {
    let output = Command::new(library).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("Version "))?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}
