//! Maps that outlive the agent. Each is pinned under its name, below the version of their layout, and the next agent
//! takes it up as it is.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya_obj::{Map, Object};
use dns_cache_common::maps::names;
use tracing::{debug, info};

use super::bpffs::ignore_missing;
use super::error::{Error, Step as _};

/// What the next agent goes on with. Counters begin anew with each agent, as its own do.
const KEPT: [&str; 14] = [
    names::INTERCEPT,
    names::LEFT,
    names::INTERFACES,
    names::BRIDGE_PORTS,
    names::CLIENTS,
    names::FLOWS,
    names::CONNECTIONS,
    names::DIVERSIONS,
    names::HOST_FLOWS,
    names::BELIEVED,
    names::RESOLVER,
    names::HEARTBEATS,
    names::INDEX,
    names::ARENA,
];

/// The pins of one layout, and of this agent.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    dir: PathBuf,
    /// The programs of an agent share what one leaves to the next one, and have their stages to themselves. Pinned,
    /// the array keeps its programs when the agent is gone; the kernel empties one that no process and no pin holds
    /// (`prog_array_map_clear` of kernel/bpf/arraymap.c).
    stages: PathBuf,
}

impl Pins {
    /// Pins in a directory on a BPF file system.
    pub(super) fn new(dir: PathBuf) -> Self {
        // Not by the process's number: in a container every agent is process 1, and programs of the one before run
        // on until this one's are in their place.
        let own = RandomState::new().hash_one(names::STAGES);
        let stages = dir.join(format!("{}-{own:016x}", names::STAGES));
        Self { dir, stages }
    }

    /// Under which path each map is found or put that the next agent goes on with.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> + use<> {
        KEPT.map(|name| (name, self.dir.join(name))).into_iter()
    }

    /// The path of the stages, which are pinned when they are about to be needed.
    pub(super) fn stages(&self) -> &Path {
        &self.stages
    }

    /// The path of a map that is pinned.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.dir.join(name);
        path.exists().then_some(path)
    }

    /// Takes the name from maps that were made otherwise than this agent would make them: they stay with the
    /// programs that have them. `sizes` are the numbers of entries that differ from the object file's.
    ///
    /// # Errors
    ///
    /// A pin cannot be removed.
    pub(super) fn fit(&self, object: &Object, sizes: &[(&str, u32)]) -> Result<(), Error> {
        for name in KEPT {
            let (path, Some(map)) = (self.dir.join(name), object.maps.get(name)) else {
                continue;
            };
            let Ok(found) = MapInfo::from_pin(&path) else {
                continue;
            };
            let entries = sizes.iter().find(|(sized, _)| *sized == name);
            let entries = entries.map_or(map.max_entries(), |(_, entries)| *entries);
            if Shape::of(&found).is_some_and(|found| found == Shape::wanted(map, entries)) {
                debug!(map = name, "taken up");
            } else {
                info!(map = name, "an earlier agent's map is of another size");
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what earlier agents pinned for themselves. No program of theirs is attached any more.
    pub(super) fn keep_only_own(&self) {
        let kept = self.paths().map(|(_, path)| path);
        let own: Vec<_> = kept.chain([self.stages.clone()]).collect();
        for path in super::bpffs::pins(&self.dir) {
            if !own.contains(&path)
                && let Err(error) = fs::remove_file(&path)
            {
                debug!(%error, path = %path.display(), "cannot remove an earlier agent's pin");
            }
        }
    }
}

/// What a map is made as, and cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

impl Shape {
    /// Of a map that there is; `None`: of a type that is not known here.
    fn of(found: &MapInfo) -> Option<Self> {
        Some(Self {
            kind: found.map_type().ok()? as u32,
            key_size: found.key_size(),
            value_size: found.value_size(),
            entries: found.max_entries(),
            flags: found.map_flags(),
        })
    }

    /// Of the object file's map with so many entries.
    fn wanted(map: &Map, entries: u32) -> Self {
        Self {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            entries,
            flags: map.map_flags(),
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed: io::Result<()> = ignore_missing(fs::remove_file(path));
    removed.step(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::OBJECT;
    use super::*;

    /// The object has all maps that are kept, and one that differs in anything is not taken up.
    #[test]
    fn a_map_fits_if_all_of_it_does() {
        let object = Object::parse(OBJECT).unwrap();
        for name in KEPT {
            let map = &object.maps[name];
            let wanted = Shape::wanted(map, map.max_entries());
            let changes: [fn(&mut Shape); 5] = [
                |shape| shape.kind += 1,
                |shape| shape.key_size += 1,
                |shape| shape.value_size += 1,
                |shape| shape.entries += 1,
                |shape| shape.flags ^= 1,
            ];
            for change in changes {
                let mut found = wanted.clone();
                change(&mut found);
                assert_ne!(found, wanted, "{name}");
            }
        }
    }

    /// In a container every agent is process 1.
    #[test]
    fn no_two_agents_have_the_same_stages() {
        let [one, other] = [(); 2].map(|()| Pins::new("/sys/fs/bpf/dns-cache/v1".into()));
        assert_ne!(one.stages(), other.stages());
        assert!(one.paths().eq(other.paths()));
    }
}
