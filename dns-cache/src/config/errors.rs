//! What is wrong with a configuration: every mistake, and where it stands.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::tree::Position;

/// All the mistakes of a configuration, in the order in which they stand; never empty.
///
/// `Display` gives one line a mistake: `FILE:LINE:COLUMN: KEY: what was found; what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// The key, what was found there, and what is allowed.
    pub message: String,
}

/// Where a mistake stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File(Arc<Path>),
    /// A position in the file.
    Position {
        /// The file.
        file: Arc<Path>,
        /// The line, counted from one.
        line: usize,
        /// The column in characters, counted from one.
        column: usize,
    },
    /// A command line flag, or the environment variable that stands for it.
    Flag {
        /// `--listen`
        name: &'static str,
        /// `DNS_CACHE_LISTEN`
        variable: &'static str,
    },
}

impl Errors {
    /// A file that cannot be looked into at all.
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        let place = Place::File(file.into());
        Self {
            mistakes: vec![Mistake { place, message }],
        }
    }

    /// The mistakes, in the order in which they stand; flags come last.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Mistake { place, message }) in self.mistakes.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{place}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Position { file, line, column } => {
                write!(f, "{}:{line}:{column}", file.display())
            }
            Self::Flag { name, variable } => write!(f, "{name} ({variable})"),
        }
    }
}

/// Collects mistakes while a configuration is read.
pub(super) struct Report {
    file: Option<Arc<Path>>,
    mistakes: Vec<Mistake>,
}

impl Report {
    pub(super) fn of_file(file: &Path) -> Self {
        Self {
            file: Some(file.into()),
            mistakes: Vec::new(),
        }
    }

    /// For a configuration that consists of flags alone.
    pub(super) fn without_file() -> Self {
        Self {
            file: None,
            mistakes: Vec::new(),
        }
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn place(&self, at: Position) -> Place {
        let file = self.file.clone().unwrap_or_else(|| Path::new("-").into());
        Place::Position {
            file,
            line: at.line,
            column: at.column,
        }
    }

    pub(super) fn add(&mut self, place: Place, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            place,
            message: message.into(),
        });
    }

    /// The mistake of what stands in the file at `at` under `key`.
    pub(super) fn add_at(&mut self, at: Position, key: &str, message: impl fmt::Display) {
        let message = match key {
            "" => message.to_string(),
            key => format!("{key}: {message}"),
        };
        self.add(self.place(at), message);
    }

    /// The value that was read, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Errors> {
        if self.mistakes.is_empty() {
            Ok(value)
        } else {
            Err(self.into_errors())
        }
    }

    pub(super) fn into_errors(mut self) -> Errors {
        self.mistakes.sort();
        self.mistakes.dedup();
        Errors {
            mistakes: self.mistakes,
        }
    }
}
