//! Paths of files and directories.

use std::path::{Component, Path, PathBuf};

use super::quoted;

/// A Unix socket's path has at most 108 bytes with its closing NUL (`sun_path`).
const LONGEST_SOCKET: usize = 107;

pub(in super::super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = absolute(text)?;
    if text.ends_with('/') {
        return Err(format!("{} is a directory; give a file", quoted(text)));
    }
    Ok(path)
}

/// A directory that belongs to one agent alone.
pub(in super::super) fn directory(text: &str) -> Result<PathBuf, String> {
    let path = absolute(text)?;
    if path.parent().is_none() {
        // `detach` empties it.
        return Err("\"/\" found; give a directory of its own".to_owned());
    }
    Ok(path)
}

/// As [`directory`], and the control socket's name must fit behind it.
pub(in super::super) fn state_dir(text: &str) -> Result<PathBuf, String> {
    let path = directory(text)?;
    let longest = LONGEST_SOCKET - "/".len() - crate::control::SOCKET_NAME.len();
    let length = path.as_os_str().len();
    if length > longest {
        return Err(format!(
            "{} has {length} bytes; the control socket stands in it, so it has at most {longest}",
            quoted(text)
        ));
    }
    Ok(path)
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!(
            "{} is not an absolute path; start it with /",
            quoted(text)
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!(
            "{} contains ..; give the path without it",
            quoted(text)
        ));
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(format!(
            "{} contains a control character; remove it",
            quoted(text)
        ));
    }
    // Without doubled and trailing slashes, so that equal paths are equal texts.
    Ok(path.components().collect())
}
