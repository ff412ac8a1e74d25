//! `dns-cache verifier`

use clap::Args;

use super::print;
use super::table::Table;
use crate::datapath;

/// Load each eBPF program into this kernel, attach none, and show what the verifier made of it
#[derive(Debug, Args)]
pub(super) struct Verifier {}

impl Verifier {
    pub(super) fn execute(&self) -> anyhow::Result<()> {
        let mut table = Table::new(&[
            "program",
            ">instructions",
            ">processed (of 1000000)",
            ">stack (of 512)",
            ">translated bytes",
        ]);
        for figures in datapath::inspect()? {
            let or_unknown = |figure: Option<u32>| {
                figure.map_or_else(|| "?".to_owned(), |figure| figure.to_string())
            };
            table.row(vec![
                figures.program.to_owned(),
                figures.instructions.to_string(),
                or_unknown(figures.processed),
                figures.stack.to_string(),
                or_unknown(figures.translated),
            ]);
        }
        print(&table.render())?;
        Ok(())
    }
}
