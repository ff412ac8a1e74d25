//! Log output: `tracing` events and `log` records (aya-log's) on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::config::{Log, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A filter that did not come from a checked configuration.
    #[error("log.level {level:?} is not a filter: {reason}")]
    Filter {
        /// The filter.
        level: String,
        /// What is wrong with it.
        reason: ParseError,
    },
    /// Something in this process set up a log before.
    #[error("a log is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets up the process's log.
///
/// Records of the `log` crate arrive as well: `try_init` installs tracing-log's bridge.
///
/// # Errors
/// If the filter is none, or a log was set up before.
pub fn init(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .with_regex(false)
        .parse(&log.level)
        .map_err(|reason| Error::Filter {
            level: log.level.clone(),
            reason,
        })?;
    let output = fmt::layer().with_writer(io::stderr);
    let output = match log.format {
        LogFormat::Text => output.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => output.json().flatten_event(true).boxed(),
    };
    Ok(registry().with(filter).with(output).try_init()?)
}
