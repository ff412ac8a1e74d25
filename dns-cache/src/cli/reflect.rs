//! `dns-cache reflect`

use std::thread;

use clap::Args;

use super::print;
use crate::datapath::{Reflector, Stages};

/// Send every DNS query that comes in on an interface back as it came, until the process is ended
///
/// For `cargo xtask bench`: the most that an answer from tc can reach, and what each stage of one adds.
#[derive(Debug, Args)]
pub(super) struct Reflect {
    /// The host side of a pod's veth; may be given more than once
    #[arg(long, value_name = "NAME", required = true)]
    interface: Vec<String>,

    /// The stage of a hit up to which a query goes before: headers, load, read, key, find or send
    #[arg(long, value_name = "STAGE")]
    after: Option<String>,

    /// Names in the cache for it: svc-0000000.default.svc.cluster.local, and so on
    #[arg(long, value_name = "N", default_value_t = 1000)]
    entries: u32,
}

impl Reflect {
    pub(super) fn execute(&self) -> anyhow::Result<()> {
        let (mut reflectors, mut stages) = (Vec::new(), Vec::new());
        for name in &self.interface {
            match &self.after {
                None => reflectors.push(Reflector::attach(name)?),
                Some(last) => stages.push(Stages::attach(name, last, self.entries)?),
            }
        }
        print(&format!("reflecting on {}\n", self.interface.join(", ")))?;
        loop {
            thread::park();
        }
    }
}
