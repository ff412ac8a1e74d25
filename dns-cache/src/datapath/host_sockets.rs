//! The programs on the socket calls of the node's own processes, by pinned links to a cgroup.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};

use super::bpffs::ignore_missing;
use super::error::{Error, Step as _};
use super::programs::program;
use super::undisturbed::verified;
use crate::sys;

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

/// Where they belong.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The cgroup whose sockets they see.
    pub(super) cgroup: PathBuf,
    /// The directory for their links.
    pub(super) pins: PathBuf,
    /// The cookie of the network namespace whose sockets are the node's; 0: not known.
    pub(super) node: u64,
}

/// Loads them.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), Error> {
    for name in NAMES {
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        verified(|| program.load()).step(|| format!("load the eBPF program {name}"))?;
    }
    Ok(())
}

/// Attaches them to the cgroup and pins their links. A link of another agent's to the same cgroup gets this one's program:
/// of two programs that name a socket's peer, the second takes what the first has named for the process's own choice.
pub(super) fn attach(ebpf: &mut Ebpf, place: &Place) -> Result<(), Error> {
    let (cgroup, dir) = (&place.cgroup, &place.pins);
    let step = || format!("open {}", cgroup.display());
    let file = File::open(cgroup).step_hint(step, "give host.cgroup")?;
    let inode = file.metadata().step(step)?.ino();
    fs::create_dir_all(dir).step(|| format!("create {}", dir.display()))?;
    for name in NAMES {
        let step = || format!("attach the program {name} to {}", cgroup.display());
        let program: &mut CgroupSockAddr = program(ebpf, name)?;
        let (new, pin) = (dir.join(format!("{name}-new")), dir.join(name));
        if sys::replace_program(&pin, inode, program.fd().step(step)?.as_fd()).is_ok() {
            continue;
        }
        // Links stand beside others in any case, and take no mode (`cgroup_bpf_link_attach` of kernel/bpf/cgroup.c).
        let id = program.attach(&file, CgroupAttachMode::Single).step_hint(
            step,
            "host.cgroup must be a directory of a cgroup2 file system",
        )?;
        let link: FdLink = program.take_link(id).step(step)?.try_into().step(step)?;
        ignore_missing(fs::remove_file(&new)).step(step)?;
        link.pin(&new).step(step)?;
        fs::rename(&new, &pin).step(step)?;
    }
    Ok(())
}
