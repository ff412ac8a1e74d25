//! The node's first process: makes the node's mounts and waits.
//!
//! It runs in new mount, PID and UTS namespaces and in the node's network namespace. Everything else of the
//! node joins these, so its end ends all of it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::settings::NODE;

/// What the kubelet wants of the whole machine. It finds files with these values in place of the sysctls, and leaves the
/// machine alone.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// There when all is mounted; as the node's processes see it.
pub(super) const READY: &str = "run/cluster/ready";

/// Becomes the node's first process; returns only if that fails.
pub(super) fn main(dir: &Path) -> Result<std::convert::Infallible> {
    let kept = dir.join("cgroup");
    fs::create_dir_all(&kept)?;
    // A new sysfs shows the devices of this network namespace, but has no cgroups mounted.
    bind(Path::new("/sys/fs/cgroup"), &kept, MsFlags::MS_REC)?;
    file_system("sysfs", "/sys")?;
    bind(&kept, Path::new("/sys/fs/cgroup"), MsFlags::MS_REC)?;
    file_system("bpf", "/sys/fs/bpf")?;
    file_system("proc", "/proc")?;
    fs::write("/proc/sys/kernel/hostname", NODE)?;
    for (name, value) in SYSCTLS {
        let file = dir.join("sysctl").join(name);
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        fs::write(&file, format!("{value}\n"))?;
        bind(&file, &Path::new("/proc/sys").join(name), MsFlags::empty())?;
    }
    let [etc, work] = ["etc", "etc.work"].map(|name| dir.join(name));
    let options = format!(
        "lowerdir=/etc,upperdir={},workdir={}",
        etc.display(),
        work.display()
    );
    mount(
        Some("etc"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context("laying the node's /etc over the machine's")?;
    for name in ["var", "run"] {
        bind(
            &dir.join(name),
            &Path::new("/").join(name),
            MsFlags::empty(),
        )?;
    }
    // Volumes may ask for mounts to be propagated.
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).context("sharing mounts")?;
    fs::write(Path::new("/").join(READY), "")?;
    Err(Command::new("catatonit").arg("-P").exec()).context("running catatonit")
}

fn file_system(kind: &str, at: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {kind} on {at}"))
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> Result<()> {
    mount(
        Some(from),
        to,
        None::<&str>,
        MsFlags::MS_BIND | more,
        None::<&str>,
    )
    .with_context(|| format!("mounting {} on {}", from.display(), to.display()))
}
