//! `dns-cache measure`

use clap::Args;

use super::print;
use crate::datapath;

/// Measure the stages of an answer in the kernel by test runs, and print them as JSON
///
/// For `cargo xtask bench`. Nothing is attached.
#[derive(Debug, Args)]
pub(super) struct Measure {
    /// Entries in the cache for the runs of names at random
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    entries: Vec<u32>,

    /// Runs of names at random, for each number of entries
    #[arg(long, default_value_t = 20_000)]
    lookups: u32,
}

impl Measure {
    pub(super) fn execute(&self) -> anyhow::Result<()> {
        let measured = datapath::measure(&self.entries, self.lookups)?;
        print(&format!("{}\n", serde_json::to_string_pretty(&measured)?))?;
        Ok(())
    }
}
