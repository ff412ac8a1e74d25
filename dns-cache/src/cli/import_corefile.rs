//! `dns-cache import-corefile`

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::print;
use crate::config;

/// Turn a Corefile of NodeLocalDNS or CoreDNS, or kube-dns's ConfigMap, into a configuration
///
/// The configuration is written to standard output, and each directive that has no counterpart to standard error:
/// its line, and what happens instead. Nothing on the node is touched.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache import-corefile Corefile > config.yaml && dns-cache check-config config.yaml
  kubectl get configmap -n kube-system node-local-dns -o yaml | dns-cache import-corefile - > config.yaml")]
pub(super) struct ImportCorefile {
    /// The Corefile, or a ConfigMap (YAML) that holds one; - for standard input
    file: PathBuf,

    /// A configuration whose settings stand over what is imported
    #[arg(long, value_name = "FILE")]
    over: Option<PathBuf>,

    /// Where the configuration is written to; without it, standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ImportCorefile {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let text = read(&self.file)?;
        let over = self.over.as_deref().map(read).transpose()?;
        let import = config::import(&text, over.as_deref())
            .with_context(|| self.file.display().to_string())?;
        for note in &import.notes {
            eprintln!("{note}");
        }
        match &self.output {
            Some(output) => fs::write(output, &import.yaml)
                .with_context(|| format!("{} cannot be written", output.display())),
            None => Ok(print(&import.yaml)?),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = match file.to_str() {
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        _ => fs::read_to_string(file),
    };
    text.with_context(|| format!("{} cannot be read", file.display()))
}
