//! `dns-cache run`

use anyhow::Context;
use clap::Args;
use tracing::debug;

use super::ConfigArgs;
use crate::datapath::Capabilities;
use crate::{agent, limits, log, privileges};

/// Run the agent in the foreground until SIGTERM or Ctrl-C
///
/// Needs root, or CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_NET_BIND_SERVICE and CAP_SYS_ADMIN; all but the
/// first two are given up once the sockets are open. Settings come from flags, else from
/// DNS_CACHE_* variables, else from the file, else from the defaults. The file is read anew when it
/// changes, and at SIGHUP; a mistake in it leaves the old settings in force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dns-cache run --config /etc/dns-cache/config.yaml
  dns-cache run -c config.yaml --log-level debug
  dns-cache run --listen 10.96.0.10,169.254.20.10 --cluster-upstreams 10.244.0.2")]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Run {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let mut config = self.config.load()?;
        log::init(&config.log)?;
        limits::fit_into_memory(&mut config.cache);
        debug!(?config, "configuration");
        let open_files = limits::raise_open_files();
        debug!(open_files, "limit");
        // Before there is a second thread.
        let resident = privileges::divide()?;
        // Before anything is made.
        let capabilities = Capabilities::probe(&resident, config.attach)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the agent's threads cannot be started")?;
        runtime.block_on(agent::run(
            config,
            self.config.origin(),
            resident,
            capabilities,
        ))?;
        Ok(())
    }
}
