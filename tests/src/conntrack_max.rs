//! `nf_conntrack_max`: how many entries a namespace's table may have. The kernel has one number for all
//! namespaces, which the first one sets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::or_panic::OrPanic;
use crate::scope::Scope;

const SYSCTL: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// What stood there before, in the lab's directory: whoever cleans up after a killed lab writes it back.
const RECORD: &str = "nf_conntrack_max";

/// The right to change it, which one lab at a time has: two would take each other's number for the machine's, and feel it.
#[derive(Debug)]
pub struct Machine {
    _locked: Flock<File>,
}

impl Machine {
    /// Waits until no other lab has it.
    #[must_use]
    pub fn alone() -> Self {
        let file = File::open(SYSCTL).or_panic(format_args!("opening {SYSCTL}"));
        let locked = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
        let _locked = locked.or_panic(format_args!("locking {SYSCTL}"));
        Self { _locked }
    }
}

/// Another number for the whole machine. Dropping it sets the old one.
#[derive(Debug)]
pub struct ConntrackMax<'a> {
    dir: PathBuf,
    _machine: &'a Machine,
}

impl<'a> ConntrackMax<'a> {
    /// Sets it, for tables of IPv4 and IPv6 alike.
    #[must_use]
    pub fn set(machine: &'a Machine, scope: &Scope, entries: u32) -> Self {
        let dir = scope.dir().to_owned();
        let before = fs::read(SYSCTL).or_panic(format_args!("reading {SYSCTL}"));
        fs::write(dir.join(RECORD), before).or_panic("noting nf_conntrack_max");
        let written = fs::write(SYSCTL, entries.to_string());
        written.or_panic(format_args!("setting {SYSCTL} to {entries}"));
        Self {
            dir,
            _machine: machine,
        }
    }
}

impl Drop for ConntrackMax<'_> {
    fn drop(&mut self) {
        restore(&self.dir);
    }
}

/// Sets what a lab with this directory found, if it has changed it.
pub(crate) fn restore(dir: &Path) {
    let record = dir.join(RECORD);
    let Ok(before) = fs::read(&record) else {
        return;
    };
    match fs::write(SYSCTL, before) {
        Ok(()) => drop(fs::remove_file(record)),
        Err(error) => eprintln!("{SYSCTL} cannot be set back: {error}"),
    }
}
