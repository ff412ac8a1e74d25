//! Configuration: the YAML file, its checks, and the checked form.
//!
//! Text becomes a tree of nodes with positions (`tree`), the tree is read key by key (`section`,
//! `schema`), each value by its own rule (`value`). Every mistake lands in one list, so that a
//! file is repaired in one go. Flags and environment variables ([`Overrides`]) pass through the
//! same rules as the file's values.

mod defaults;
mod errors;
#[cfg(feature = "kubernetes")]
mod import;
mod model;
mod network;
mod overrides;
mod schema;
mod section;
mod setting;
mod tree;
mod value;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(crate) use defaults::CA_FILE;
pub use errors::{Errors, Mistake, Place};
#[cfg(feature = "kubernetes")]
pub use import::{Error as ImportError, Import, KubeDns, Note, import};
pub(crate) use model::is_link_local;
pub(crate) use model::no_fallback;
pub use model::*;
pub use network::Network;
pub use overrides::Overrides;

use errors::Report;

/// Larger files are refused unread: a configuration is a page or two.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where a configuration came from, and comes from again when it is read anew.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The file; none if flags gave all of it.
    pub path: Option<PathBuf>,
    /// Flags and variables, which stand over the file.
    pub overrides: Overrides,
}

impl Origin {
    /// Reads the configuration as it is now.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<Config, Errors> {
        load(self.path.as_deref(), &self.overrides)
    }
}

/// Reads a configuration from `text`; `file` is the name that mistakes are reported under.
///
/// # Errors
/// All the mistakes in the text, sorted by position.
pub fn parse(text: &str, file: &Path) -> Result<Config, Errors> {
    parse_with(text, file, &Overrides::default())
}

/// Reads the file at `path`, if there is one, and lays `overrides` over it.
///
/// # Errors
/// All the mistakes in file and overrides, or why the file could not be read.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Errors> {
    let Some(path) = path else {
        let mut report = Report::without_file();
        let config = schema::config(None, overrides, &mut report);
        return report.finish(config);
    };
    parse_with(&read(path)?, path, overrides)
}

fn parse_with(text: &str, file: &Path, overrides: &Overrides) -> Result<Config, Errors> {
    if text.len() as u64 > MAX_BYTES {
        return Err(Errors::of_file(file, too_large()));
    }
    let mut report = Report::of_file(file);
    let Some(document) = tree::parse(text, &mut report) else {
        return Err(report.into_errors());
    };
    let config = schema::config(document.root.as_ref(), overrides, &mut report);
    report.finish(config)
}

fn read(path: &Path) -> Result<String, Errors> {
    let unreadable = |error: std::io::Error| {
        Errors::of_file(
            path,
            format!(
                "cannot be read: {error}; give the configuration file's path and see that the agent may read it"
            ),
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        // One byte over the limit tells a file that is too large, and a device without end.
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Errors::of_file(path, too_large()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
        let mut report = Report::of_file(path);
        let found = error.as_bytes().get(valid).copied().unwrap_or_default();
        report.add(
            report.place(tree::Position::after(&before)),
            format!("the byte 0x{found:02x} is not UTF-8; save the file as UTF-8"),
        );
        report.into_errors()
    })
}

fn too_large() -> String {
    format!("larger than {MAX_BYTES} bytes; this is not a configuration of dns-cache")
}

#[cfg(test)]
mod tests;
