//! What every command that asks a running agent has in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::print;
use crate::control::{self, ClientError, Command, Response, Status};

/// Which agent is asked, and how its answer is shown.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The agent's state directory, `stateDir` in its configuration
    #[arg(
        long,
        env = "DNS_CACHE_STATE_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "/run/dns-cache"
    )]
    state_dir: PathBuf,

    /// For people or for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,

    /// Seconds to wait for the agent
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// Tables
    Text,
    /// One JSON object
    Json,
}

impl Ask {
    /// The agent's answer, as far as `wanted` takes it for one to `command`.
    pub(super) fn agent<T>(
        &self,
        command: &Command,
        wanted: fn(Response) -> Result<T, Response>,
    ) -> Result<T, ClientError> {
        let response = control::request(&self.state_dir, command, self.patience())?;
        wanted(response).map_err(|other| ClientError::beside_the_point(&self.state_dir, &other))
    }

    pub(super) fn status(&self) -> Result<Status, ClientError> {
        control::status(&self.state_dir, self.patience())
    }

    /// Shows an answer: by `text`, or as JSON.
    pub(super) fn print<T: Serialize>(
        &self,
        answer: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Text => text(answer),
            Output::Json => format!("{}\n", serde_json::to_string_pretty(answer)?),
        };
        print(&text)?;
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
