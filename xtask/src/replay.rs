//! `cargo xtask replay`: the replay files, against the resolver or against another server.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Want};
use crate::unit_tests;

/// The variable that names the servers to play against.
pub(crate) const AGAINST: &str = "DNS_CACHE_AGAINST";

/// Play the replay files (dns-cache/replay): against the resolver, or those that are common against another server
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Against this real server
    #[arg(long, value_name = "SERVER")]
    against: Option<Server>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Server {
    Unbound,
    Coredns,
}

impl Server {
    const fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Coredns => "coredns",
        }
    }
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::ensure(match args.against {
        Some(Server::Coredns) => Want::Everything,
        Some(Server::Unbound) | None => Want::WithoutCoreDns,
    })?;
    match args.against {
        Some(server) => unit_tests::run("replay::against", (AGAINST, server.name())),
        None => unit_tests::run("replay::every_file", (AGAINST, "")),
    }
}
