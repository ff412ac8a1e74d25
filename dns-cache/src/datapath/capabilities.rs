//! What this kernel can do, found out by trying at the start, before anything is made; and what is done without.

use std::fmt;
use std::io;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::error::{Error, Step as _};
use super::undisturbed::Undisturbed;
use crate::config::AttachMode;
use crate::privileges::Resident;
use crate::sys;

/// The index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// Something that not every kernel has and that the agent uses.
struct Feature {
    what: &'static str,
    /// The first Linux with it.
    since: &'static str,
    /// What is done without; none: the agent cannot work.
    instead: Option<&'static str>,
    probe: fn() -> io::Result<bool>,
}

/// Delivery into another namespace without a queue between (commit 9aa1206e8f48). All else that the programs need is
/// older: shared arrays (5.5), ring buffers and the boot clock (5.8).
const REDIRECT_PEER: Feature = Feature {
    what: "bpf_redirect_peer",
    since: "5.10",
    instead: None,
    probe: || helper(BpfHelper::BPF_FUNC_redirect_peer),
};
/// Commit e420bed02507. A query of what is attached is known to the kernels that can attach.
const TCX: Feature = Feature {
    what: "TCX",
    since: "6.6",
    instead: Some("clsact filters"),
    probe: || match sys::tcx_programs(LOOPBACK, false) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    },
};
/// Commit 80ee81e0403c. It came with a helper that can be asked for.
const CGROUP_MEMORY: Feature = Feature {
    what: "eBPF memory counted by cgroup",
    since: "5.11",
    instead: Some("a lifted limit of locked memory"),
    probe: || helper(BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
};

/// Commit e8b9eab99232.
const NETNS_COOKIE: Feature = Feature {
    what: "SO_NETNS_COOKIE",
    since: "5.14",
    instead: Some("no link-local address for the node's own processes after a kill"),
    probe: || match sys::netns_cookie() {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error),
    },
};

/// Something that this kernel lacks, and what is done without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What.
    pub what: String,
    /// The first Linux that has it.
    pub since: String,
    /// What the agent does without.
    pub instead: String,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Programs are attached by TCX links.
    pub(super) tcx: bool,
    lacks: Vec<Lack>,
}

impl Capabilities {
    /// Tries everything, says in one line what was found, and changes nothing but this process's limit of locked memory
    /// where the kernel counts maps against that.
    ///
    /// # Errors
    ///
    /// The kernel is too old, or refuses to be asked; or it cannot do what `mode` demands.
    pub fn probe(resident: &Resident, mode: AttachMode) -> Result<Self, Error> {
        // The resident may lift the limit of locked memory, which programs of an earlier agent may have used up.
        resident.run(move || Self::try_all(mode))
    }

    fn try_all(mode: AttachMode) -> Result<Self, Error> {
        let _undisturbed = Undisturbed::new();
        let release = release();
        has(&REDIRECT_PEER)?
            .then_some(())
            .ok_or("nothing on the node was changed")
            .step(|| too_old(&release, &REDIRECT_PEER))?;
        let mut lacks = Vec::new();
        let mut lacks_it = |feature: &Feature| {
            let lacks_it = !has(feature)?;
            if lacks_it {
                lacks.push(lack(feature));
            }
            Ok(lacks_it)
        };
        let tcx = !lacks_it(&TCX)?;
        if !tcx && mode == AttachMode::Tcx {
            return Err("`attach: auto` takes clsact filters instead")
                .step(|| too_old(&release, &TCX));
        }
        if lacks_it(&CGROUP_MEMORY)?
            && let Err(error) = lift_locked_memory()
        {
            warn!(
                %error,
                "the limit of locked memory cannot be lifted (CAP_SYS_RESOURCE), and this kernel counts eBPF maps against it"
            );
        }
        let _ = lacks_it(&NETNS_COOKIE)?;
        match lacks.is_empty() {
            true => info!(kernel = release, "this kernel has all that is used"),
            false => info!(
                kernel = release,
                "this kernel lacks {}",
                lacks
                    .iter()
                    .map(Lack::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
        Ok(Self { tcx, lacks })
    }

    /// What this kernel lacks.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            since,
            instead,
        } = self;
        write!(f, "{what} (Linux {since}): {instead} instead")
    }
}

fn lack(feature: &Feature) -> Lack {
    Lack {
        what: feature.what.to_owned(),
        since: feature.since.to_owned(),
        instead: feature.instead.unwrap_or_default().to_owned(),
    }
}

fn has(feature: &Feature) -> Result<bool, Error> {
    (feature.probe)().step_hint(
        || format!("find out whether this kernel has {}", feature.what),
        "needs CAP_BPF and CAP_NET_ADMIN, before Linux 5.11 CAP_SYS_RESOURCE as well, or root",
    )
}

fn too_old(release: &str, feature: &Feature) -> String {
    format!(
        "work on this kernel ({release}), which lacks {} (Linux {})",
        feature.what, feature.since
    )
}

fn helper(helper: BpfHelper) -> io::Result<bool> {
    is_helper_supported(ProgramType::SchedClassifier, helper).map_err(io::Error::other)
}

fn lift_locked_memory() -> io::Result<()> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if soft != RLIM_INFINITY {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    Ok(())
}

/// `uname -r`.
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|uname| uname.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_names_what_is_done_instead() {
        assert_eq!(
            lack(&TCX).to_string(),
            "TCX (Linux 6.6): clsact filters instead"
        );
    }

    #[test]
    fn a_kernel_that_is_too_old_is_told_by_what_it_lacks() {
        let feature = Feature {
            probe: || Ok(false),
            ..REDIRECT_PEER
        };
        assert!(!has(&feature).unwrap());
        assert_eq!(
            too_old("4.19.0", &feature),
            "work on this kernel (4.19.0), which lacks bpf_redirect_peer (Linux 5.10)"
        );
    }
}
