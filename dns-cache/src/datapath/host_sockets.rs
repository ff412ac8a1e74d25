//! The programs on the socket calls of the node's own processes, by pinned links to a cgroup.

use std::fs::{self, File};
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};

use super::bpffs::ignore_missing;
use super::error::{Error, Step as _};
use super::programs::program;
use super::undisturbed::verified;

/// Those that restore a name stand first: nothing is renamed before it can be restored. `getpeername` is the youngest
/// of them (Linux 5.8).
pub(super) const NAMES: [&str; 8] = [
    "host_getpeername4",
    "host_getpeername6",
    "host_recvmsg4",
    "host_recvmsg6",
    "host_sendmsg4",
    "host_sendmsg6",
    "host_connect4",
    "host_connect6",
];

/// Loads them.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), Error> {
    for name in NAMES {
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        verified(|| program.load()).step(|| format!("load the eBPF program {name}"))?;
    }
    Ok(())
}

/// Attaches them to the cgroup and pins their links in `dir`. What an earlier agent left there goes when its successor
/// is in place: for a moment both run, and the second one finds nothing to do.
pub(super) fn attach(ebpf: &mut Ebpf, cgroup: &Path, dir: &Path) -> Result<(), Error> {
    let step = || format!("open {}", cgroup.display());
    let file = File::open(cgroup).step_hint(step, "give host.cgroup")?;
    fs::create_dir_all(dir).step(|| format!("create {}", dir.display()))?;
    for name in NAMES {
        let step = || format!("attach the program {name} to {}", cgroup.display());
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        // Links stand beside others in any case, and take no mode (`cgroup_bpf_link_attach` of kernel/bpf/cgroup.c).
        let id = program.attach(&file, CgroupAttachMode::Single).step_hint(
            step,
            "host.cgroup must be a directory of a cgroup2 file system",
        )?;
        let link: FdLink = program.take_link(id).step(step)?.try_into().step(step)?;
        let (new, pin) = (dir.join(format!("{name}-new")), dir.join(name));
        ignore_missing(fs::remove_file(&new)).step(step)?;
        link.pin(&new).step(step)?;
        fs::rename(&new, &pin).step(step)?;
    }
    Ok(())
}
