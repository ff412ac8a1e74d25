//! `dns-cache reflect`

use std::thread;

use clap::Args;

use super::print;
use crate::datapath::Reflector;

/// Send every DNS query that comes in on an interface back as it came, until the process is ended
///
/// For `cargo xtask bench`: the most that an answer from tc can reach.
#[derive(Debug, Args)]
pub(super) struct Reflect {
    /// The host side of a pod's veth; may be given more than once
    #[arg(long, value_name = "NAME", required = true)]
    interface: Vec<String>,
}

impl Reflect {
    pub(super) fn execute(&self) -> anyhow::Result<()> {
        let attached = self.interface.iter().map(|name| Reflector::attach(name));
        let _attached = attached.collect::<Result<Vec<_>, _>>()?;
        print(&format!("reflecting on {}\n", self.interface.join(", ")))?;
        loop {
            thread::park();
        }
    }
}
