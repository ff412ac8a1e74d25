//! A lab's id, its record under `/run/dns-cache-lab/<id>/`, and the removal of all it made.
//!
//! The record is written before the first namespace is made and removed after the last one is gone, so
//! whoever finds a record whose owner is dead can clean up after it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::MapInfo;
use nix::mount::{MntFlags, umount2};

use crate::or_panic::OrPanic;
use crate::procfs::ProcessId;

/// Where the records are.
pub const ROOT: &str = "/run/dns-cache-lab";
/// Where `ip netns` keeps its names.
pub const NETNS: &str = "/run/netns";
/// Where `ip netns exec` looks for files to lay over `/etc`.
pub const ETC_NETNS: &str = "/etc/netns";

/// The labs of this process, for the clean-up on a signal.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A lab's identity. Dropping it removes whatever was made under it.
#[derive(Debug)]
pub struct Scope {
    id: String,
    dir: PathBuf,
    /// The kernel's ids of maps that the lab's agents have, or had.
    maps: Mutex<BTreeSet<u32>>,
}

impl Scope {
    /// A new one, after the left-overs of dead labs were removed.
    #[must_use]
    pub fn new() -> Arc<Self> {
        assert!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run `cargo xtask test` or `cargo xtask run`, which ask for it"
        );
        let lock = Lock::take();
        sweep_dead(&lock);
        let owner = ProcessId::own().or_panic("reading /proc/self/stat");
        loop {
            let id = format!("{:06x}", RandomState::new().hash_one(owner.pid) & 0xff_ffff);
            let dir = Path::new(ROOT).join(&id);
            if dir.exists() {
                continue;
            }
            fs::create_dir(&dir).or_panic(format_args!("making {}", dir.display()));
            fs::write(dir.join("owner"), owner.record()).or_panic("writing the lab's record");
            own().insert(id.clone());
            let maps = Mutex::default();
            return Arc::new(Self { id, dir, maps });
        }
    }

    /// The id in every name that the lab gives.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The lab's directory: records, logs, state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The full name of one of the lab's namespaces.
    #[must_use]
    pub fn netns_name(&self, short: &str) -> String {
        netns_name(&self.id, short)
    }

    /// Notes the maps that an agent of the lab has pinned: by them its programs are known, wherever they are.
    pub fn record_maps(&self, bpffs: &Path) {
        // Beside their directories are those of links, which would be taken for maps.
        let layouts = fs::read_dir(bpffs).into_iter().flatten().flatten();
        let layouts = layouts.filter(|layout| layout.file_name().as_encoded_bytes()[0] == b'v');
        let pins = layouts.filter_map(|layout| fs::read_dir(layout.path()).ok());
        let maps = pins
            .flatten()
            .flatten()
            .filter_map(|pin| MapInfo::from_pin(pin.path()).ok())
            .map(|map| map.id());
        self.maps_mut().extend(maps);
    }

    /// Those that were noted.
    #[must_use]
    pub fn maps(&self) -> BTreeSet<u32> {
        self.maps_mut().clone()
    }

    fn maps_mut(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a process that the lab started, for whoever cleans up.
    pub fn record_process(&self, pid: i32, what: &str) {
        record_process(&self.id, pid, what);
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let lock = Lock::take();
        remove(&self.id, &lock);
        own().remove(&self.id);
    }
}

/// The full name of a lab's namespace.
#[must_use]
pub fn netns_name(id: &str, short: &str) -> String {
    format!("dnsc-{id}-{short}")
}

/// Notes a process as the lab's.
pub fn record_process(id: &str, pid: i32, what: &str) {
    // A process that is gone already needs no record.
    let Some(process) = ProcessId::of(pid) else {
        return;
    };
    let path = Path::new(ROOT).join(id).join("processes");
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{} {what}\n", process.record()).as_bytes()))
        .or_panic(format_args!("writing {}", path.display()));
}

/// The ids of the labs whose owner lives, oldest first.
#[must_use]
pub fn running() -> Vec<String> {
    let mut labs: Vec<_> = ids()
        .into_iter()
        .filter(|id| owner(id).is_some_and(ProcessId::is_alive))
        .map(|id| {
            let made = fs::metadata(Path::new(ROOT).join(&id).join("owner"))
                .and_then(|m| m.modified())
                .ok();
            (made, id)
        })
        .collect();
    labs.sort();
    labs.into_iter().map(|(_, id)| id).collect()
}

/// Removes the labs whose owners are dead; returns their ids.
#[must_use]
pub fn sweep() -> Vec<String> {
    sweep_dead(&Lock::take())
}

/// Removes every lab of this process and ends it: for a handler of signals, where no destructor runs.
pub fn exit(code: i32) -> ! {
    // Kept to the end: another thread that is just building a lab shall make nothing more.
    let lock = Lock::take();
    let labs: Vec<_> = own().iter().cloned().collect();
    for id in labs {
        remove(&id, &lock);
    }
    std::process::exit(code)
}

/// What of a lab can still be seen: namespaces, `/etc/netns`, mounts, its directory, processes.
#[must_use]
pub fn leftovers(id: &str) -> Vec<String> {
    let dir = Path::new(ROOT).join(id);
    let mut found: Vec<_> = processes(id)
        .into_iter()
        .filter(|p| p.is_alive())
        .map(|p| format!("process {}", p.pid))
        .collect();
    found.extend(
        entries(NETNS, &netns_name(id, ""))
            .into_iter()
            .map(|p| p.display().to_string()),
    );
    found.extend(
        entries(ETC_NETNS, &netns_name(id, ""))
            .into_iter()
            .map(|p| p.display().to_string()),
    );
    found.extend(
        mounts_below(&dir)
            .into_iter()
            .map(|p| format!("mount {}", p.display())),
    );
    if dir.exists() {
        found.push(dir.display().to_string());
    }
    found
}

/// The machine-wide lock on records and names: `ip netns add` races with itself on the first namespace.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take() -> Self {
        fs::create_dir_all(ROOT).or_panic(format_args!("making {ROOT}"));
        let path = Path::new(ROOT).join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.or_panic(format_args!("opening {}", path.display()));
        file.lock()
            .or_panic(format_args!("locking {}", path.display()));
        Self { _file: file }
    }
}

fn own() -> MutexGuard<'static, BTreeSet<String>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ids() -> Vec<String> {
    fs::read_dir(ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn owner(id: &str) -> Option<ProcessId> {
    ProcessId::parse(&fs::read_to_string(Path::new(ROOT).join(id).join("owner")).ok()?)
}

fn processes(id: &str) -> Vec<ProcessId> {
    let text = fs::read_to_string(Path::new(ROOT).join(id).join("processes")).unwrap_or_default();
    text.lines().filter_map(ProcessId::parse).collect()
}

fn sweep_dead(lock: &Lock) -> Vec<String> {
    // Records are made whole under the lock, so one without an owner is a torn removal.
    let dead: Vec<_> = ids()
        .into_iter()
        .filter(|id| !owner(id).is_some_and(ProcessId::is_alive))
        .collect();
    for id in &dead {
        remove(id, lock);
    }
    dead
}

/// Removes all that a lab made. Never panics: it runs in destructors; what it could not do it says.
fn remove(id: &str, _lock: &Lock) {
    for process in processes(id) {
        if !process.kill(Duration::from_secs(5)) {
            eprintln!("lab {id}: process {} does not end", process.pid);
        }
    }
    for path in entries(NETNS, &netns_name(id, "")) {
        let name = path.file_name().unwrap_or_default();
        match Command::new("ip").args(["netns", "del"]).arg(name).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!(
                "lab {id}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => eprintln!("lab {id}: running ip: {error}"),
        }
    }
    for path in entries(ETC_NETNS, &netns_name(id, "")) {
        complain(id, &path, fs::remove_dir_all(&path));
    }
    // Only succeeds when it is empty, that is, when labs alone had used it.
    let _ = fs::remove_dir(ETC_NETNS);
    let dir = Path::new(ROOT).join(id);
    crate::conntrack_max::restore(&dir);
    for mount in mounts_below(&dir) {
        complain(
            id,
            &mount,
            umount2(&mount, MntFlags::MNT_DETACH).map_err(Into::into),
        );
    }
    if dir.exists() {
        complain(id, &dir, fs::remove_dir_all(&dir));
    }
}

fn complain(id: &str, path: &Path, result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("lab {id}: removing {}: {error}", path.display());
    }
}

fn entries(dir: &str, prefix: &str) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Mount points below a directory, the innermost and latest first.
pub(crate) fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    found
}
