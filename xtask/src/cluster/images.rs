//! The images of a cluster without a registry: programs of this machine with the libraries they load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::node::{Node, output};
use crate::image::{Arch, Entry, Image};
use crate::programs::find;
use dns_cache_tests::tools;

/// Which names the load asks for, a line each in dnsperf's format; a path in the client's image.
pub(super) const QUERIES: &str = "/queries";
/// The programs that pods run.
const CLIENT: [&str; 6] = ["catatonit", "dig", "dnsperf", "getent", "cat", "sh"];
/// Names of the load, of the cluster and of outside, that are in nobody's cache when they are asked for: as many as 2,000
/// lookups a second take for two minutes.
const COLD: usize = 12_000;

/// Imports what all pods of the cluster are made of.
pub(super) fn import_all(node: &Node) -> Result<()> {
    let pause = entrypoint(&["/usr/bin/catatonit", "-P"]);
    import(
        node,
        "pause",
        BTreeMap::from([program("catatonit")?]),
        pause.clone(),
    )?;
    let coredns = Entry::File(tools::binary("coredns"));
    import(
        node,
        "coredns",
        BTreeMap::from([("/coredns".to_owned(), coredns)]),
        entrypoint(&["/coredns"]),
    )?;
    import(node, "client", client()?, pause)
}

/// Imports an archive that is there.
pub(super) fn import_archive(node: &Node, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the archive's path is no UTF-8")?;
    node.run("ctr", &["-n", "k8s.io", "images", "import", archive])
        .map(drop)
}

fn import(
    node: &Node,
    name: &str,
    entries: BTreeMap<String, Entry>,
    entrypoint: Vec<String>,
) -> Result<()> {
    let image = Image {
        reference: format!("localhost/{name}:1"),
        arch: Arch::own()?,
        entries,
        entrypoint,
        labels: BTreeMap::new(),
    };
    let archive = node.path("images").join(format!("{name}.tar"));
    image.write(&archive)?;
    import_archive(node, &archive)
}

/// An image to look names up with: this machine's programs.
fn client() -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::from([
        (
            "/etc/nsswitch.conf".to_owned(),
            Entry::Text("hosts: files dns\n".to_owned()),
        ),
        (QUERIES.to_owned(), Entry::Text(queries())),
        ("/tmp".to_owned(), Entry::Scratch),
    ]);
    for name in CLIENT {
        let (path, entry) = program(name)?;
        for library in libraries(&path)? {
            entries.insert(library.clone(), Entry::File(library.into()));
        }
        entries.insert(path, entry);
    }
    Ok(entries)
}

/// A program of this machine, where it is here.
fn program(name: &str) -> Result<(String, Entry)> {
    let path =
        find(name).with_context(|| format!("{name} is not there: run `cargo xtask setup`"))?;
    let place = format!("/usr/bin/{name}");
    Ok((place, Entry::File(path)))
}

/// The libraries of a program, and the loader.
fn libraries(program: &str) -> Result<Vec<String>> {
    let found = find(
        Path::new(program)
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(program),
    );
    let path = found.unwrap_or_else(|| PathBuf::from(program));
    // A static program has none, which ldd calls a failure.
    let Ok(text) = output(Command::new("ldd").arg(path)) else {
        return Ok(Vec::new());
    };
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(str::to_owned).collect())
}

/// Nine in ten lookups are of what many pods ask for; the tenth is of a name that has to be asked for: of outside, or of
/// a pod, which CoreDNS answers from the name itself, and nobody else can.
fn queries() -> String {
    const HOT: [&str; 9] = [
        "web.default.svc.cluster.local A",
        "web.default.svc.cluster.local AAAA",
        "kubernetes.default.svc.cluster.local A",
        "db-0.db.default.svc.cluster.local A",
        "_http._tcp.web.default.svc.cluster.local SRV",
        "www.example.test A",
        "www.example.test AAAA",
        "www.example.test.default.svc.cluster.local A",
        "www.example.test.cluster.local AAAA",
    ];
    let hot = HOT.join("\n");
    let blocks = (0..COLD).map(|n| {
        let outside = format!("n{n}.short.test A");
        let pod = format!("10-9-{}-{}.default.pod.cluster.local A", n / 256, n % 256);
        format!("{hot}\n{outside}\n{hot}\n{pod}\n")
    });
    blocks.collect()
}

fn entrypoint(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
