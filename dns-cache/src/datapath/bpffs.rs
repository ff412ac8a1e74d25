//! The directory for pins. Its path below the configured one carries the version of the maps' layout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dns_cache_common::maps::LAYOUT_VERSION;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::{Error, Step as _};

/// Where the kernel offers a mount point for the BPF file system.
const SYSTEM: &str = "/sys/fs/bpf";

/// Makes the directory for pinned links; mounts a BPF file system where there is none.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, Error> {
    let mount_point = if dir.starts_with(SYSTEM) {
        Path::new(SYSTEM)
    } else {
        dir
    };
    if mount_point == dir {
        fs::create_dir_all(dir).step(|| format!("create {}", dir.display()))?;
    }
    if !is_bpffs(mount_point) {
        mount(
            Some("bpf"),
            mount_point,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .step_hint(
            || format!("mount a BPF file system on {}", mount_point.display()),
            "in a container, mount the host's /sys/fs/bpf into it",
        )?;
    }
    let links = links_dir(dir);
    fs::create_dir_all(&links).step(|| format!("create {}", links.display()))?;
    Ok(links)
}

/// Removes the pins, and the mount if it is ours alone.
pub(super) fn remove(dir: &Path) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for pin in pins(&links_dir(dir)) {
        fs::remove_file(&pin).step(|| format!("remove {}", pin.display()))?;
        removed.push(format!("pin {}", pin.display()));
    }
    for sub in [links_dir(dir), version_dir(dir)] {
        ignore_missing(fs::remove_dir(&sub)).step(|| format!("remove {}", sub.display()))?;
    }
    if !dir.starts_with(SYSTEM) && is_mount_point(dir) && is_bpffs(dir) {
        umount(dir).step(|| format!("unmount {}", dir.display()))?;
        removed.push(format!("mount {}", dir.display()));
    }
    // Not empty: another layout's pins, or another's files. Not ours to remove.
    let _ = fs::remove_dir(dir);
    Ok(removed)
}

fn version_dir(dir: &Path) -> PathBuf {
    dir.join(format!("v{LAYOUT_VERSION}"))
}

fn links_dir(dir: &Path) -> PathBuf {
    version_dir(dir).join("links")
}

/// The files in `links`; none if it does not exist.
pub(super) fn pins(links: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(links) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
