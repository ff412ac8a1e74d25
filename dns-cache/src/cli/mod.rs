//! The command line, a file a subcommand.

mod ask;
mod cache;
mod check_config;
mod detach;
#[cfg(feature = "kubernetes")]
mod import_corefile;
mod lookup;
mod measure;
mod reflect;
mod run;
mod status;
mod table;
mod top;
mod units;
mod upstreams;
mod verifier;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Origin, Overrides};

/// A node-local DNS cache for Kubernetes.
///
/// It answers pods' DNS queries on their own node, before conntrack and kube-proxy see them:
/// programs in the kernel hand them to a resolver on the node, which answers from its cache and
/// asks the cluster's DNS servers over TCP.
#[derive(Debug, Parser)]
#[command(
    name = "dns-cache",
    version,
    verbatim_doc_comment,
    after_help = "Examples:
  dns-cache check-config config.yaml          is this configuration right?
  dns-cache import-corefile Corefile          what NodeLocalDNS was told, as a configuration
  dns-cache run --config config.yaml          run the agent (needs root)
  dns-cache run --listen 10.96.0.10 --cluster-upstreams 10.244.0.2,10.244.0.3
  dns-cache status                            what does the agent on this node do?
  dns-cache top                               how much does it do just now, and for whom?
  dns-cache cache ls                          what has it cached?
  dns-cache cache flush svc.cluster.local     let go of a zone's answers
  dns-cache lookup NAME [TYPE] --trace        what is answered, and how does it come about?
  dns-cache detach --config config.yaml       remove all that an agent left on this node

`dns-cache COMMAND --help` explains a command's flags."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    CheckConfig(check_config::CheckConfig),
    #[cfg(feature = "kubernetes")]
    ImportCorefile(import_corefile::ImportCorefile),
    Status(status::StatusCommand),
    Cache(cache::CacheCommand),
    Upstreams(upstreams::Upstreams),
    Lookup(lookup::LookupCommand),
    Top(top::Top),
    Detach(detach::Detach),
    #[command(hide = true)]
    Verifier(verifier::Verifier),
    #[command(hide = true)]
    Reflect(reflect::Reflect),
    #[command(hide = true)]
    Measure(measure::Measure),
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// In words for whoever typed it; they may have several lines.
    pub fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(command) => command.execute(),
            Command::CheckConfig(command) => command.execute(),
            #[cfg(feature = "kubernetes")]
            Command::ImportCorefile(command) => command.execute(),
            Command::Status(command) => command.execute(),
            Command::Cache(command) => command.execute(),
            Command::Upstreams(command) => command.execute(),
            Command::Lookup(command) => command.execute(),
            Command::Top(command) => command.execute(),
            Command::Detach(command) => command.execute(),
            Command::Verifier(command) => command.execute(),
            Command::Reflect(command) => command.execute(),
            Command::Measure(command) => command.execute(),
        }
    }
}

/// Where the configuration comes from: flags over variables over the file over the defaults.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file (YAML); not needed if the flags below say all that is required
    #[arg(
        short,
        long,
        env = "DNS_CACHE_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    config: Option<PathBuf>,

    #[command(flatten)]
    overrides: Overrides,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, config::Errors> {
        config::load(self.config.as_deref(), &self.overrides)
    }

    fn origin(self) -> Origin {
        Origin {
            path: self.config,
            overrides: self.overrides,
        }
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no mistake.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
