//! A small limit of memory, and more names than fit below it.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use std::{fmt::Write as _, fs};

use anyhow::{Context, Result, bail};
use dns_cache_tests::procfs::cgroup_of;

use super::Bed;
use super::load::under_load;
use super::scenarios::{POD, SERVER};
use crate::bench::dnsperf::{self, Outcome};
use crate::chart::NAMESPACE;
use crate::cluster::node::{Node, feed};

const LIMIT: u64 = 64 << 20;
/// What the agent allows its cache below this limit.
const ALLOWED: u64 = 24 << 20;
/// As much has to stay free: what is in use is looked at now and then, and a moment above the limit is the end.
const MARGIN: u64 = LIMIT / 16;
/// More than that holds.
const NAMES: u32 = 70_000;
/// The pod that asks for them; another one looks names up as ever.
const SCANNER: &str = "db-0";
/// Values with which nothing but memory bounds the cache: no number of entries, and no name that expires before the end.
const VALUES: [&str; 4] = [
    "resources.limits.memory=64Mi",
    "cache.maxEntries=1000000",
    "config.cluster.ttl.positive=3600",
    "config.cluster.ttl.minimum=3600",
];

/// The agent stays below the limit, and serves, while a pod asks for name after name that nobody has asked for.
pub(super) fn limit(bed: &Bed) -> Result<String> {
    bed.install(&VALUES)?;
    let allowed = bed.status()?["resolver"]["cache_max_bytes"].as_u64();
    if allowed != Some(ALLOWED) {
        bail!("the agent may have {LIMIT} bytes, and allows its cache {allowed:?}, not {ALLOWED}");
    }
    let group = Group::of_agent(&bed.node)?;
    if group.limit()? != LIMIT {
        bail!("{} has another limit than {LIMIT}", group.dir.display());
    }
    let before = container(bed)?;
    let mut scanned = None;
    let load = under_load(&bed.node, POD, SERVER, || {
        scanned = Some(scan(&bed.node, &group)?);
        Ok(())
    })?;
    let (storm, most) = scanned.context("the scan was made")?;
    let after = container(bed)?;
    if after != before {
        bail!(
            "the containers were {before}, and are {after}; a working set of {most} bytes was seen"
        );
    }
    if group.killed()? > 0 {
        bail!("a process was killed for memory");
    }
    if most > LIMIT - MARGIN {
        bail!("the working set had {most} bytes of {LIMIT}");
    }
    let kept = bed.status()?["resolver"]["cache_entries"].as_u64();
    let kept = kept.context("no entries in the status")?;
    // Each would still be there.
    if storm.right < u64::from(NAMES) * 9 / 10 || kept >= storm.right {
        bail!(
            "the cache was not filled: {kept} entries of {} answers",
            storm.right
        );
    }
    Ok(format!(
        "{} cold names, of which {kept} are kept; a working set of {:.1} of {} MiB at most; {load}",
        storm.right,
        most as f64 / f64::from(1 << 20),
        LIMIT >> 20
    ))
}

/// Asks for all the names, and the largest working set meanwhile.
fn scan(node: &Node, group: &Group) -> Result<(Outcome, u64)> {
    let mut dnsperf = node.in_pod(SCANNER)?;
    // Once through what is read, and no longer than this.
    dnsperf.args(["dnsperf", "-s", SERVER, "-n", "1", "-l", "180"]);
    let mut names = String::new();
    for n in 0..NAMES {
        let [_, a, b, c] = n.to_be_bytes();
        // CoreDNS answers from the name itself, and nobody else can.
        writeln!(names, "10-{}-{b}-{c}.default.pod.cluster.local A", 16 + a)?;
    }
    thread::scope(|scope| {
        let storm = scope.spawn(|| feed(&mut dnsperf, &names));
        let mut most = 0;
        while !storm.is_finished() {
            // A group that is gone is found by the container that is another one.
            most = most.max(group.working_set().unwrap_or_default());
            thread::sleep(Duration::from_millis(100));
        }
        let text = storm.join().ok().context("the scan panicked")??;
        let outcome = dnsperf::parse(&text);
        let outcome = outcome.with_context(|| format!("no statistics of dnsperf's:\n{text}"))?;
        Ok((outcome, most))
    })
}

/// Which containers of the agent's there are, and how often each was started again.
fn container(bed: &Bed) -> Result<String> {
    let agents = [
        "pod",
        "-n",
        NAMESPACE,
        "-l=app.kubernetes.io/name=dns-cache",
    ];
    let path = "{range .items[*].status.containerStatuses[*]}{.containerID} {.restartCount} {end}";
    bed.node.field(&agents, path)
}

/// The control group of a container, of version 1 or 2.
struct Group {
    dir: PathBuf,
    is_unified: bool,
}

impl Group {
    fn of_agent(node: &Node) -> Result<Self> {
        let script = "cat /proc/$(pidof -s dns-cache)/cgroup";
        let groups = node.run("sh", &["-c", script])?;
        let root = Path::new("/sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").exists();
        let (root, controller) = if is_unified {
            (root.to_owned(), "")
        } else {
            (root.join("memory"), "memory")
        };
        let path = cgroup_of(&groups, controller)
            .with_context(|| format!("no group for memory in\n{groups}"))?;
        Ok(Self {
            dir: root.join(path),
            is_unified,
        })
    }

    fn limit(&self) -> Result<u64> {
        self.number("memory.limit_in_bytes", "memory.max")
    }

    /// As the kubelet counts it: without files that are not in use.
    fn working_set(&self) -> Result<u64> {
        let usage = self.number("memory.usage_in_bytes", "memory.current")?;
        let name = if self.is_unified {
            "inactive_file"
        } else {
            "total_inactive_file"
        };
        Ok(usage.saturating_sub(self.field("memory.stat", name)?))
    }

    /// Processes that the kernel has killed because they had too much.
    fn killed(&self) -> Result<u64> {
        let file = if self.is_unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.field(file, "oom_kill")
    }

    /// A file with one number, by its name in either version.
    fn number(&self, first: &str, second: &str) -> Result<u64> {
        let name = if self.is_unified { second } else { first };
        let text = self.read(name)?;
        let number = text.trim().parse();
        number.with_context(|| format!("{name}: {text}"))
    }

    /// A file with a number behind each name.
    fn field(&self, file: &str, name: &str) -> Result<u64> {
        let text = self.read(file)?;
        let number = text.lines().find_map(|line| {
            let (found, number) = line.split_once(' ')?;
            number.parse().ok().filter(|_| found == name)
        });
        number.with_context(|| format!("no {name} in {file}:\n{text}"))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}
