//! `cargo xtask image --check`: what deploy/Containerfile builds is what is built here without it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::agent::REVISION;
use super::oci::{self, Image};
use crate::programs::workspace;

/// Whoever made an image, and not what is in it.
const BUILDAH: &str = "io.buildah.version";

/// Builds an image of the program by buildah, without a network, and compares it.
pub(super) fn check(image: &Image, program: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    image.write(&path("own.tar"))?;
    let context = path("context");
    fs::create_dir(&context)?;
    fs::copy(program, context.join("dns-cache"))?;

    let buildah = || {
        let mut command = Command::new("buildah");
        // Of a layer's own: nothing of the user's images, and no file system that the machine may lack.
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(path("storage"));
        command.arg("--runroot").arg(path("run"));
        command
    };
    let revision = image.labels.get(REVISION).map_or("", String::as_str);
    let mut build = buildah();
    build
        .args([
            "build",
            "--isolation",
            "chroot",
            "--quiet",
            "--tag",
            &image.reference,
        ])
        .args(["--platform", &format!("linux/{}", image.arch)])
        .args(["--build-arg", &format!("REVISION={revision}"), "--file"])
        .arg(workspace().join("deploy/Containerfile"))
        .arg(&context);
    run(&mut build)?;
    let archive = path("built.tar");
    let to = format!("oci-archive:{}", archive.display());
    run(buildah().args(["push", "--quiet", &image.reference, &to]))?;

    let [own, built] = [path("own.tar"), archive].map(|path| Content::read(&path));
    let (own, built) = (own?, built?);
    if own != built {
        bail!(
            "deploy/Containerfile builds something else than this program does:\n{built:#?}\nand not\n{own:#?}"
        );
    }
    println!("deploy/Containerfile: the same files, entry point and labels by buildah");
    Ok(())
}

/// What an image is, whoever built it.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    architecture: Value,
    entrypoint: Value,
    labels: BTreeMap<String, Value>,
    /// By path: kind, mode, owner, group and the content's digest.
    files: BTreeMap<String, (u8, u32, u64, u64, String)>,
}

impl Content {
    fn read(archive: &Path) -> Result<Self> {
        let blobs = files(&fs::read(archive)?)?;
        let json = |name: &str| -> Result<Value> {
            let bytes = blobs
                .get(name)
                .with_context(|| format!("no {name} in the archive"))?;
            Ok(serde_json::from_slice(bytes)?)
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            format!("blobs/{}", digest.replace(':', "/"))
        };
        let manifest = json(&blob(&json("index.json")?["manifests"][0]))?;
        let config = json(&blob(&manifest["config"]))?;
        let labels = config["config"]["Labels"].as_object().cloned();
        let mut labels: BTreeMap<_, _> = labels.unwrap_or_default().into_iter().collect();
        labels.remove(BUILDAH);
        labels.retain(|_, value| value != "");
        let mut content = BTreeMap::new();
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            let packed = blobs
                .get(&blob(layer))
                .context("a layer is not in the archive")?;
            let mut bytes = Vec::new();
            // Gzip's magic number.
            if packed.starts_with(&[0x1f, 0x8b]) {
                GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes)?;
            } else {
                bytes.clone_from(packed);
            }
            let mut layer = tar::Archive::new(Cursor::new(bytes));
            for entry in layer.entries()? {
                let mut entry = entry?;
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                let header = entry.header();
                let path = entry.path()?.display().to_string();
                let what = (
                    header.entry_type().as_byte(),
                    header.mode()? & 0o7777,
                    header.uid()?,
                    header.gid()?,
                    oci::digest(&bytes),
                );
                content.insert(path.trim_end_matches('/').to_owned(), what);
            }
        }
        Ok(Self {
            architecture: config["architecture"].clone(),
            entrypoint: config["config"]["Entrypoint"].clone(),
            labels,
            files: content,
        })
    }
}

/// An archive's files.
fn files(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(path, content);
    }
    Ok(files)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
