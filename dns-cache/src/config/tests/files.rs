//! What a file can be besides text with mistakes.

use std::fs;
use std::path::Path;

use super::*;

fn said_of(path: &Path) -> String {
    load(Some(path), &Overrides::default())
        .expect_err("no mistake found")
        .to_string()
}

#[test]
fn a_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    fs::write(&path, MINIMAL).unwrap();
    assert_eq!(load(Some(&path), &Overrides::default()), Ok(minimal()));
}

#[test]
fn no_file() {
    assert_eq!(
        said_of(Path::new("/nonexistent/config.yaml")),
        "/nonexistent/config.yaml: cannot be read: No such file or directory (os error 2); \
         give the configuration file's path and see that the agent may read it"
    );
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    assert!(said_of(dir.path()).contains("cannot be read: Is a directory"));
}

#[test]
fn not_utf8() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    fs::write(&path, b"listen:\n  - \xc3\xbc\xff\n").unwrap();
    let expected = format!(
        "{}:2:6: the byte 0xff is not UTF-8; save the file as UTF-8",
        path.display()
    );
    assert_eq!(said_of(&path), expected);
}

#[test]
fn too_large() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    fs::write(&path, format!("{MINIMAL}#{}", "x".repeat(1 << 20))).unwrap();
    let expected = format!(
        "{}: larger than 1048576 bytes; this is not a configuration of dns-cache",
        path.display()
    );
    assert_eq!(said_of(&path), expected);
    // A device without end is not read to its end.
    assert!(said_of(Path::new("/dev/zero")).contains("larger than"));
}
