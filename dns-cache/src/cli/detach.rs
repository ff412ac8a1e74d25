//! `dns-cache detach`

use clap::Args;

use super::{ConfigArgs, print};
use crate::datapath;

/// Remove every program, pin, namespace and interface that an agent may have left on this node
///
/// Stop the agent first. Of the settings, only interfaces, stateDir and bpffs matter here; those
/// that are required otherwise may be left out if there is no --config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache detach                               an agent with default settings
  dns-cache detach --config config.yaml
  dns-cache detach --state-dir /run/other --bpffs /sys/fs/bpf/other")]
pub(super) struct Detach {
    #[command(flatten)]
    config: ConfigArgs,
}

/// For addresses that nobody sends to (RFC 5737), where a configuration needs one.
const NOBODY: &str = "192.0.2.1";

impl Detach {
    pub(super) fn execute(mut self) -> anyhow::Result<()> {
        if self.config.config.is_none() {
            // What is left behind is found by directories and interfaces, not by addresses.
            let overrides = &mut self.config.overrides;
            overrides.listen.get_or_insert_with(|| NOBODY.to_owned());
            overrides
                .cluster_upstreams
                .get_or_insert_with(|| NOBODY.to_owned());
        }
        let config = self.config.load()?;
        datapath::detach(&config)?;
        print("nothing of dns-cache is left on this node\n")?;
        Ok(())
    }
}
