//! Has a file changed?
//!
//! The file system is asked once a second. Events would have to be set up for the file, its folder, and every
//! symbolic link on the way (a ConfigMap's file is two of them), and anew after each change; and a file system
//! over the network sends none.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

const INTERVAL: Duration = Duration::from_secs(1);

/// A file that may change; none never does.
#[derive(Debug)]
pub(super) struct Watch {
    file: Option<PathBuf>,
    known: Option<Version>,
    /// What was seen last: a file that is being written is left alone until it stays as it is.
    last: Option<Version>,
}

/// Device and inode, size, and time of the last change. A symbolic link that leads elsewhere gives another inode.
type Version = (u64, u64, u64, i64, i64);

impl Watch {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        let known = file.as_ref().and_then(version);
        Self {
            file,
            last: known,
            known,
        }
    }

    /// Returns when the file is another than before, and has been so for a second.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(INTERVAL).await;
            if self.look() {
                return;
            }
        }
    }

    /// Whether the file is another than before, and the same as at the last look.
    fn look(&mut self) -> bool {
        let now = self.file.as_ref().and_then(version);
        let settled = now == self.last;
        self.last = now;
        let changed = settled && self.last != self.known;
        if changed {
            self.known = self.last;
        }
        changed
    }
}

fn version(file: &PathBuf) -> Option<Version> {
    let found = metadata(file).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// As the kubelet does it: `..data` leads to a folder, and is replaced as a whole.
    #[test]
    fn a_config_map_changes_by_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let version = |name: &str| {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("config.yaml"), "same length").unwrap();
            symlink(name, path("..next")).unwrap();
            fs::rename(path("..next"), path("..data")).unwrap();
        };
        version("..1");
        symlink("..data/config.yaml", path("config.yaml")).unwrap();
        let mut watch = Watch::new(Some(path("config.yaml")));
        let mut looks = || [watch.look(), watch.look(), watch.look()];
        assert_eq!(looks(), [false; 3]);
        version("..2");
        assert_eq!(looks(), [false, true, false]);
        fs::write(path("..2/config.yaml"), "other text").unwrap();
        assert_eq!(looks(), [false, true, false]);
        fs::remove_file(path("config.yaml")).unwrap();
        assert_eq!(looks(), [false, true, false]);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = Watch::new(Some(file.path().to_owned()));
        for length in 1..4 {
            fs::write(file.path(), "x".repeat(length)).unwrap();
            assert!(!watch.look());
        }
        assert!(watch.look());
    }
}
