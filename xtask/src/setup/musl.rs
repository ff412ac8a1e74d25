//! A newer musl than Debian 12 has, unpacked into the tools folder.

use anyhow::{Result, bail};
use dns_cache_tests::{musl, tools};

use super::Part;
use crate::apt;
use crate::versions::TESTING;

/// Debian testing's package of musl's C library, which one of the test clients is started by.
pub(super) struct NewerMusl;

const PACKAGE: &str = "musl";

impl Part for NewerMusl {
    fn name(&self) -> String {
        format!("musl {} or newer", dotted(musl::WITH_TCP))
    }

    fn found(&self) -> Option<String> {
        let loader = musl::newer();
        let version = musl::version(&loader)?;
        (version >= musl::WITH_TCP).then(|| format!("{}: {}", dotted(version), loader.display()))
    }

    fn install(&self) -> Result<()> {
        let log = tools::folder().join("logs/musl-apt.log");
        apt::unpack(TESTING, PACKAGE, &musl::folder(), &log, |names| {
            if !names.iter().any(|name| name == PACKAGE) {
                bail!(
                    "this machine's apt sources have no {PACKAGE} in the suite {TESTING}: \
                     the test of a client that repeats truncated answers over TCP needs a mirror of Debian that has it"
                );
            }
            Ok(vec![PACKAGE])
        })
    }
}

fn dotted(version: [u32; 3]) -> String {
    version.map(|number| number.to_string()).join(".")
}
