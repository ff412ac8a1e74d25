//! `dns-cache check-config`

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::config::{self, Config, Overrides};

/// Check a configuration file and report every mistake in it
///
/// The file is read as `run` would read it with the same flags and variables; nothing on the node
/// is touched. Exits with 0 if there is no mistake, with 1 if there is.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  dns-cache check-config config.yaml && kubectl create configmap dns-cache --from-file=config.yaml")]
pub(super) struct CheckConfig {
    /// The configuration file (YAML)
    file: PathBuf,

    #[command(flatten)]
    overrides: Overrides,
}

impl CheckConfig {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let config = config::load(Some(&self.file), &self.overrides)?;
        print(&format!("{}: {}\n", self.file.display(), summary(&config)))?;
        Ok(())
    }
}

fn summary(config: &Config) -> String {
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let upstreams: Vec<_> = config
        .cluster
        .upstreams
        .iter()
        .map(|upstream| upstream.address.to_string())
        .collect();
    let stub_domains = match config.zones.len() {
        0 => "no stub domains".to_owned(),
        1 => "1 stub domain".to_owned(),
        n => format!("{n} stub domains"),
    };
    format!(
        "ok: listens on {}; {} from {}; {stub_domains}; everything else by {}",
        listen.join(", "),
        config.cluster.domain,
        upstreams.join(", "),
        config.resolv_conf.display(),
    )
}
