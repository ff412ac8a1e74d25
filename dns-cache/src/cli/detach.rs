//! `dns-cache detach`

use clap::Args;

use super::{ConfigArgs, print};
use crate::privileges::Resident;
use crate::{control, datapath};

/// Remove every program, pin, namespace and interface that an agent may have left on this node
///
/// Stop the agent first. Of the settings, only stateDir and bpffs matter here; those that are
/// required otherwise may be left out if there is no --config.
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
            // What is left behind is found by the directories, not by addresses.
            let overrides = &mut self.config.overrides;
            overrides.listen.get_or_insert_with(|| NOBODY.to_owned());
            overrides
                .cluster_upstreams
                .get_or_insert_with(|| NOBODY.to_owned());
        }
        let config = self.config.load()?;
        // With the lock held no agent runs, and none starts meanwhile.
        let state = control::Server::bind(&config.state_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let removed = runtime.block_on(datapath::detach(&config, &Resident::start()?));
        state.remove(&config.state_dir)?;
        let mut text = String::new();
        for what in removed? {
            text.push_str(&format!("removed {what}\n"));
        }
        text.push_str("nothing of dns-cache is left on this node\n");
        print(&text)?;
        Ok(())
    }
}
