//! The guest's first file system: what it takes to reach the host's files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::package::Kernel;
use crate::programs::find;

/// The modules that it takes, with those that they need.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtiofs", "overlay"];
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The archive; `command` is the script that the guest runs.
pub(super) fn build(kernel: &Kernel, command: &str) -> Result<Vec<u8>> {
    let busybox = find("busybox").context("busybox is not installed")?;
    let busybox = fs::read(busybox).context("reading busybox")?;
    let mut archive = Archive::default();
    for directory in [
        "bin", "proc", "sys", "dev", "modules", "host", "changes", "root",
    ] {
        archive.add(directory, DIRECTORY, b"");
    }
    archive.add("bin/busybox", PROGRAM, &busybox);
    for (number, (name, module)) in modules(kernel)?.into_iter().enumerate() {
        // In the order in which they need each other.
        archive.add(&format!("modules/{number:02}-{name}"), FILE, &module);
    }
    archive.add("init", PROGRAM, include_bytes!("files/init.sh"));
    archive.add("guest.sh", FILE, include_bytes!("files/guest.sh"));
    archive.add("command.sh", FILE, command.as_bytes());
    Ok(archive.finish())
}

/// The modules that are no part of the kernel itself, each after those it needs, unpacked.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for wanted in MODULES {
        let output = Command::new("modprobe")
            .arg("-d")
            .arg(kernel.base())
            .args(["-S", &kernel.release, "--show-depends", wanted])
            .output()
            .context("running modprobe")?;
        let text = String::from_utf8_lossy(&output.stdout);
        for path in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.trim());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.trim_end_matches(".xz").to_owned();
            if found.iter().all(|(known, _)| *known != name) {
                found.push((name, unpacked(path)?));
            }
        }
    }
    Ok(found)
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .context("running xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// A cpio archive of the form "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        // Inode, mode, owner, group, links, time, size, four device numbers, the name's length, no checksum.
        let fields = [
            self.files,
            mode,
            0,
            0,
            1,
            0,
            size(content.len()),
            0,
            0,
            0,
            0,
            size(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_are_aligned() {
        let mut archive = Archive::default();
        archive.add("init", PROGRAM, b"hello");
        let bytes = archive.finish();
        // 110 bytes of header, 5 of name, padded to 116; 5 of content, padded to 8.
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[110..124], b"init\0\0hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
