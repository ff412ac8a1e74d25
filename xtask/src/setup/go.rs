//! Programs that are built with Go, from its module proxy.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian;
use crate::programs::find;
use crate::versions::{DEBIAN_GO, GO};

/// The go command, installed if need be, for a program that runs wherever the lab does.
pub(super) fn command() -> Result<Command> {
    let mut command = Command::new(go()?);
    // Static; GOFLAGS of the user's could ask for a vendor folder.
    command
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "auto")
        .env_remove("GOFLAGS");
    Ok(command)
}

/// A Go that is new enough, installed if need be.
pub(super) fn go() -> Result<PathBuf> {
    let wanted = format!("{}.{}", GO.0, GO.1);
    if let Some(go) = find("go") {
        match version(&go) {
            Some(version) if version >= GO => return Ok(go),
            Some((major, minor)) => println!(
                "{} is Go {major}.{minor}; what is built with it needs {wanted} or newer",
                go.display()
            ),
            None => println!("{} does not say its version", go.display()),
        }
    }
    let offered = debian::candidate(DEBIAN_GO)
        .and_then(|text| parse(text.split_once(':').map_or(text.as_str(), |(_, v)| v)));
    if offered.is_none_or(|version| version < GO) {
        let offer = offered.map_or("none".to_owned(), |(major, minor)| {
            format!("Go {major}.{minor}")
        });
        bail!(
            "it is built with Go {wanted} or newer, and this system's packages offer {offer}: install a newer Go by your own means and put it on PATH"
        );
    }
    debian::install(&[DEBIAN_GO])?;
    find("go")
        .filter(|go| version(go) >= Some(GO))
        .context("Debian's Go was installed, but is not on PATH")
}

fn version(go: &Path) -> Option<(u32, u32)> {
    // The tool's own version, not that of a newer one that a go.mod nearby would make it fetch.
    let output = Command::new(go)
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .current_dir("/")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(
        text.split_whitespace()
            .find_map(|word| word.strip_prefix("go1").map(|_| &word[2..]))?,
    )
}

/// `1.26.8`, `1.19~1` → (1, 26), (1, 19).
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go() {
        assert_eq!(parse("1.26.8"), Some((1, 26)));
        assert_eq!(parse("1.19~1"), Some((1, 19)));
        assert_eq!(parse("devel"), None);
        assert!((1, 9) < GO && (2, 0) > GO);
    }
}
