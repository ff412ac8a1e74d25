//! The directory for pins: links to interfaces, which any version takes over, and the maps of each layout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData};
use dns_cache_common::maps::{Address, LAYOUT_VERSION, names};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::{Error, Step as _};
use crate::config::Destination;

/// Where the kernel offers a mount point for the BPF file system.
const SYSTEM: &str = "/sys/fs/bpf";
const LINKS: &str = "links";
const HOST: &str = "host";
/// Comes before the number of a layout.
const VERSION: &str = "v";

/// Where pins go.
#[derive(Debug)]
pub(super) struct Dirs {
    /// One link an interface, by its index.
    pub(super) links: PathBuf,
    /// The links to the cgroup of the node's own processes; made when it is needed.
    pub(super) host: PathBuf,
    /// The maps of this layout, by their names.
    pub(super) maps: PathBuf,
}

/// Makes the directories for pins; mounts a BPF file system where there is none.
pub(super) fn prepare(dir: &Path) -> Result<Dirs, Error> {
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
    let dirs = Dirs {
        links: dir.join(LINKS),
        host: dir.join(HOST),
        maps: dir.join(format!("{VERSION}{LAYOUT_VERSION}")),
    };
    for dir in [&dirs.links, &dirs.maps] {
        fs::create_dir_all(dir).step(|| format!("create {}", dir.display()))?;
    }
    Ok(dirs)
}

/// Whether an agent has left anything here.
pub(super) fn has_pins(dir: &Path) -> bool {
    let dirs = map_dirs(dir).chain([dir.join(LINKS), dir.join(HOST)]);
    dirs.into_iter().any(|dir| !pins(&dir).is_empty())
}

/// Removes the maps of other layouts: no program that is attached has them any more.
pub(super) fn remove_other_layouts(dir: &Path) -> Result<(), Error> {
    let own = format!("{VERSION}{LAYOUT_VERSION}");
    for maps in map_dirs(dir).filter(|maps| !maps.ends_with(&own)) {
        remove_dir(&maps, &mut Vec::new())?;
    }
    Ok(())
}

/// What the agents with this layout intercept, or did when the last one ended; nothing if there was none.
pub(super) fn intercepted(dir: &Path) -> Result<Vec<Destination>, Error> {
    let pin = dir
        .join(format!("{VERSION}{LAYOUT_VERSION}"))
        .join(names::INTERCEPT);
    if !pin.exists() {
        return Ok(Vec::new());
    }
    let step = || format!("read the map {}", pin.display());
    let map = MapData::from_pin(&pin).step(step)?;
    let intercept: HashMap<_, [u8; 16], [u8; 16]> = Map::HashMap(map).try_into().step(step)?;
    let entries = intercept.iter().filter_map(Result::ok);
    let destination = |(address, fallback)| Destination {
        address: Address(address).to_ip(),
        fallback: (Address(fallback) != Address::NONE).then(|| Address(fallback).to_ip()),
    };
    Ok(entries.map(destination).collect())
}

/// Lets every packet take the ordinary path from now on. The programs are removed one after the other, and none must turn
/// a query aside whose answer no other one puts right any more.
pub(super) fn switch_off(dir: &Path) -> Result<(), Error> {
    for pin in map_dirs(dir).map(|maps| maps.join(names::INTERCEPT)) {
        if !pin.exists() {
            continue;
        }
        let step = || format!("empty the map {}", pin.display());
        let map = MapData::from_pin(&pin).step(step)?;
        let mut intercept: HashMap<_, [u8; 16], [u8; 16]> =
            Map::HashMap(map).try_into().step(step)?;
        let addresses: Vec<_> = intercept.keys().filter_map(Result::ok).collect();
        for address in addresses {
            intercept.remove(&address).step(step)?;
        }
    }
    Ok(())
}

/// Removes the pins, and the mount if it is ours alone.
pub(super) fn remove(dir: &Path) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for dir in map_dirs(dir).chain([dir.join(LINKS), dir.join(HOST)]) {
        remove_dir(&dir, &mut removed)?;
    }
    if !dir.starts_with(SYSTEM) && is_mount_point(dir) && is_bpffs(dir) {
        umount(dir).step(|| format!("unmount {}", dir.display()))?;
        removed.push(format!("mount {}", dir.display()));
    }
    // Not empty: another's files. Not ours to remove.
    let _ = fs::remove_dir(dir);
    Ok(removed)
}

/// The directories with the maps of any layout.
fn map_dirs(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let version = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(VERSION)?;
        name.parse::<u32>().ok()
    };
    pins(dir)
        .into_iter()
        .filter(move |path| version(path).is_some())
}

/// Removes the links to the cgroup, if there are any.
pub(super) fn remove_host(dir: &Path) -> Result<(), Error> {
    remove_dir(&dir.join(HOST), &mut Vec::new())
}

fn remove_dir(dir: &Path, removed: &mut Vec<String>) -> Result<(), Error> {
    for pin in pins(dir) {
        fs::remove_file(&pin).step(|| format!("remove {}", pin.display()))?;
        removed.push(format!("pin {}", pin.display()));
    }
    ignore_missing(fs::remove_dir(dir)).step(|| format!("remove {}", dir.display()))
}

/// What is in a directory; nothing if it does not exist.
pub(super) fn pins(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
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
