//! An image of one layer in the layout of the OCI image specification 1.1, as a tar archive.
//!
//! The same content makes the same bytes: no times, no users' names, entries in the order of their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::Arch;

/// Whom files belong to: nobody that a process in the image runs as.
const OWNER: u64 = 65532;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image holds at a path.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The content of this file, readable for all; a program if it is one here.
    File(PathBuf),
    /// This text.
    Text(String),
    /// A directory that every user may write to.
    Scratch,
}

/// An image of one layer.
#[derive(Debug)]
pub(crate) struct Image {
    /// By which it is known where the archive is imported: `localhost/name:tag`.
    pub(crate) reference: String,
    pub(crate) arch: Arch,
    /// By absolute path.
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Image {
    /// Writes the archive; returns the manifest's digest, by which registries know the image.
    pub(crate) fn write(&self, path: &Path) -> Result<String> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let layer = self.layer()?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&layer)?;
        let packed = packed.finish()?;
        let config = json_bytes(&json!({
            "architecture": self.arch.to_string(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        }))?;
        let manifest = json_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &packed)],
            "annotations": self.labels,
        }))?;
        let mut listed = descriptor(MANIFEST, &manifest);
        listed["platform"] = json!({"architecture": self.arch.to_string(), "os": "linux"});
        let tag = self.reference.rsplit_once(':').map(|(_, tag)| tag);
        // The second is what containerd and podman take the whole name from.
        listed["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": self.reference,
        });
        let index = json_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [listed],
        }))?;

        let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        let mut add = |name: String, content: &[u8]| {
            append(&mut archive, &name, EntryType::Regular, 0o644, content)
        };
        let mut blobs = [&config, &manifest, &packed].map(|blob| (digest(blob), blob));
        blobs.sort();
        for (digest, blob) in blobs {
            add(format!("blobs/{}", digest.replace(':', "/")), blob)?;
        }
        add("index.json".to_owned(), &index)?;
        add(
            "oci-layout".to_owned(),
            &json_bytes(&json!({"imageLayoutVersion": "1.0.0"}))?,
        )?;
        archive.into_inner()?.sync_all()?;
        Ok(digest(&manifest))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut made = BTreeSet::new();
        for (path, entry) in &self.entries {
            let path = path.trim_start_matches('/');
            for parent in Path::new(path)
                .ancestors()
                .skip(1)
                .collect::<Vec<_>>()
                .iter()
                .rev()
            {
                let parent = parent.display().to_string();
                if !parent.is_empty() && made.insert(parent.clone()) {
                    append(
                        &mut archive,
                        &format!("{parent}/"),
                        EntryType::Directory,
                        0o755,
                        &[],
                    )?;
                }
            }
            match entry {
                Entry::File(source) => {
                    let reading = || format!("reading {}", source.display());
                    let content = fs::read(source).with_context(reading)?;
                    let mode = if is_program(source).with_context(reading)? {
                        0o555
                    } else {
                        0o444
                    };
                    append(&mut archive, path, EntryType::Regular, mode, &content)?;
                }
                Entry::Text(text) => {
                    append(
                        &mut archive,
                        path,
                        EntryType::Regular,
                        0o444,
                        text.as_bytes(),
                    )?;
                }
                Entry::Scratch => {
                    append(
                        &mut archive,
                        &format!("{path}/"),
                        EntryType::Directory,
                        0o1777,
                        &[],
                    )?;
                }
            }
        }
        Ok(archive.into_inner()?)
    }
}

fn is_program(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn json_bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("writing JSON")
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

/// `sha256:` and the sum in hexadecimal digits.
pub(super) fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn image(dir: &Path) -> Image {
        let program = dir.join("program");
        fs::copy("/bin/true", &program).unwrap();
        Image {
            reference: "localhost/example:1".to_owned(),
            arch: Arch::Amd64,
            entries: BTreeMap::from([
                ("/usr/bin/program".to_owned(), Entry::File(program)),
                ("/etc/motd".to_owned(), Entry::Text("hello\n".to_owned())),
                ("/tmp".to_owned(), Entry::Scratch),
            ]),
            entrypoint: vec!["/usr/bin/program".to_owned()],
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    #[test]
    fn the_same_content_makes_the_same_bytes() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let written = dirs.each_ref().map(|dir| {
            let path = dir.path().join("image.tar");
            let digest = image(dir.path()).write(&path).unwrap();
            (digest, fs::read(path).unwrap())
        });
        assert_eq!(written[0], written[1]);
    }

    #[test]
    fn every_digest_is_that_of_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let top = image(dir.path()).write(&path).unwrap();
        let files = files(&fs::read(&path).unwrap());
        let blob = |digest: &Value| {
            let content = &files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))];
            assert_eq!(super::digest(content), digest.as_str().unwrap());
            content
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&files["index.json"]);
        assert_eq!(index["manifests"][0]["digest"], top);
        let manifest = parse(blob(&index["manifests"][0]["digest"]));
        let config = parse(blob(&manifest["config"]["digest"]));
        let mut layer = Vec::new();
        let packed = blob(&manifest["layers"][0]["digest"]);
        GzDecoder::new(packed.as_slice())
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/program");
    }

    #[test]
    fn a_layer_has_each_directory_once_and_before_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let layer = image(dir.path()).layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (OWNER, 0));
            let path = entry.path().unwrap().display().to_string();
            (path, header.mode().unwrap())
        });
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [
                ("etc/", 0o755),
                ("etc/motd", 0o444),
                ("tmp/", 0o1777),
                ("usr/", 0o755),
                ("usr/bin/", 0o755),
                ("usr/bin/program", 0o555)
            ]
            .map(|(path, mode)| (path.to_owned(), mode))
        );
    }
}
