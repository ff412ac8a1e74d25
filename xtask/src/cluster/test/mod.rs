//! `cargo xtask cluster test`: the chart in a real cluster, by real lookups from real pods.

mod load;
mod lookups;
mod memory;
mod node_state;
mod rendered;
mod scenarios;
mod verify;

use std::path::{self, Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use dns_cache_tests::signals;
use serde_json::Value;

use super::node::{self, Node};
use super::settings::{Cni, Family, Proxy, Settings};
use super::{dir, images, up};
use crate::chart::{CHART, NAMESPACE, RELEASE};
use crate::image;
use crate::programs::workspace;
use scenarios::SCENARIOS;

const DAEMONSET: &str = "daemonset/dns-cache";
/// However busy the machine is: what takes the ordinary path shall not do so for that.
const PATIENT: &str = "config.queries.wedgedAfterMillis=60000";

/// The image that is tested.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only with kube-proxy in this mode
    #[arg(long, value_name = "MODE")]
    proxy: Option<Proxy>,
    /// Only with pods wired by this plugin
    #[arg(long, value_name = "PLUGIN")]
    cni: Option<Cni>,
    /// Only what has this in its name
    #[arg(long, value_name = "STR")]
    filter: Option<String>,
    /// Test this image (an OCI archive) in the place of one that is built now
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Leave the last cluster up
    #[arg(long)]
    keep: bool,
}

impl Args {
    /// In one kind of cluster.
    pub(super) fn one() -> Self {
        Self {
            proxy: Some(Proxy::Nftables),
            cni: Some(Cni::Bridge),
            filter: None,
            image: None,
            keep: false,
        }
    }
}

/// A cluster that is tested.
pub(super) struct Bed {
    pub(super) node: Node,
    /// The agent's image.
    image: String,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let image = match &args.image {
        Some(archive) => (image::reference(), path::absolute(archive)?),
        None => image::of_agent()?,
    };
    let (image, archive) = image;
    signals::clean_up_on_signals(|| {
        let _ = node::remove(&dir());
    })?;
    if Node::open(&dir()).is_ok() {
        bail!("a cluster is up: `cargo xtask cluster down` first");
    }
    // What is left of one whose node has ended.
    node::remove(&dir())?;
    let mut failures = Vec::new();
    let mut passed = 0;
    for settings in combinations(args) {
        let tested = scenarios_in(&settings, args, &image, &archive, &mut failures);
        if !args.keep {
            node::remove(&dir())?;
        }
        passed += tested?;
    }
    println!("\n{passed} passed, {} failed", failures.len());
    if !failures.is_empty() {
        bail!("failed:\n{}", failures.join("\n"));
    }
    Ok(())
}

/// Runs them in a cluster of their own; how many passed.
fn scenarios_in(
    settings: &Settings,
    args: &Args,
    image: &str,
    archive: &Path,
    failures: &mut Vec<String>,
) -> Result<u32> {
    let node = up(settings)?;
    images::import_archive(&node, archive)?;
    let bed = Bed {
        node,
        image: image.to_owned(),
    };
    let mut passed = 0;
    for (name, scenario) in SCENARIOS {
        if args
            .filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            continue;
        }
        let start = Instant::now();
        let result = bed.reset().and_then(|()| scenario(&bed));
        let time = start.elapsed().as_secs();
        match result {
            Ok(what) => {
                println!("ok      {name}: {what} ({time} s)");
                passed += 1;
            }
            Err(error) => {
                println!("FAILED  {name} ({time} s): {error:#}\n{}", bed.state());
                failures.push(format!("{settings}: {name}"));
            }
        }
    }
    Ok(passed)
}

/// kube-proxy's modes by CNI plugins, unless one is asked for.
fn combinations(args: &Args) -> Vec<Settings> {
    let mut all = Vec::new();
    for proxy in [Proxy::Nftables, Proxy::Iptables] {
        for cni in [Cni::Bridge, Cni::Ptp] {
            let is_wanted =
                args.proxy.is_none_or(|p| p == proxy) && args.cni.is_none_or(|c| c == cni);
            if is_wanted {
                all.push(Settings {
                    proxy,
                    cni,
                    family: Family::Dual,
                });
            }
        }
    }
    // One is kept.
    if args.keep {
        all.truncate(1);
    }
    all
}

impl Bed {
    /// As every scenario finds it: the chart is not installed.
    fn reset(&self) -> Result<()> {
        if !self
            .node
            .helm(&["list", "-q", "-n", NAMESPACE])?
            .trim()
            .is_empty()
        {
            self.uninstall()?;
        }
        Ok(())
    }

    /// Installs the chart, or changes its values, and waits until the agent is ready.
    fn install(&self, values: &[&str]) -> Result<()> {
        let chart = workspace().join(CHART);
        let (repository, tag) = self
            .image
            .rsplit_once(':')
            .unwrap_or((&self.image, "latest"));
        let mut args = vec![
            "upgrade",
            "--install",
            RELEASE,
            super::kubectl::text(&chart)?,
            "-n",
            NAMESPACE,
        ];
        let image = [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
        ];
        for value in values
            .iter()
            .copied()
            .chain(image.iter().map(String::as_str))
            .chain(["image.pullPolicy=Never", PATIENT])
        {
            args.extend(["--set", value]);
        }
        self.node.helm(&args)?;
        self.rolled_out()
    }

    fn rolled_out(&self) -> Result<()> {
        self.node.rolled_out(&["-n", NAMESPACE, DAEMONSET])
    }

    /// Uninstalls the chart and waits until its pods have ended.
    fn uninstall(&self) -> Result<()> {
        self.node.helm(&["uninstall", RELEASE, "-n", NAMESPACE])?;
        self.pods_ended()
    }

    /// Waits until there is no pod of the agent's.
    fn pods_ended(&self) -> Result<()> {
        let pods = [
            "wait",
            "--for=delete",
            "--timeout=180s",
            "pod",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=dns-cache",
        ];
        self.node.kubectl(&pods).map(drop)
    }

    /// What agents have logged, and how the DNS Service's endpoints and the pods are: for whoever reads of a failure.
    fn state(&self) -> String {
        const AGENTS: &str = "-l=app.kubernetes.io/name=dns-cache";
        let questions: [&[&str]; 3] = [
            &["logs", "-n=kube-system", AGENTS, "--tail=50", "--prefix"],
            &["get", "endpointslices", "-n=kube-system", "-o=yaml"],
            &["get", "nodes,pods", "-A", "-o=wide"],
        ];
        let told = questions.map(|question| match self.node.kubectl(question) {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        });
        told.concat()
    }

    /// What the agent says of itself.
    fn status(&self) -> Result<Value> {
        let text = self.agent(&["status", "--output", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A command to the agent in its container, by the image's own program and past the API server.
    fn agent(&self, args: &[&str]) -> Result<String> {
        // One of them, if there are two for a moment: either has the control socket.
        let pid = self.node.run("pidof", &["-s", "dns-cache"])?;
        let target = format!("--target={}", pid.trim());
        let enter = [&target, "--mount", "--net", "--", image::PROGRAM];
        self.node.run("nsenter", &[&enter[..], args].concat())
    }

    /// Lookups that the kernel has answered since the agent's start.
    fn kernel_hits(&self) -> Result<u64> {
        let status = self.status()?;
        let counters = status["datapath"]["counters"].as_object();
        let hits = counters
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.starts_with("cache_hit"));
        Ok(hits.filter_map(|(_, count)| count.as_u64()).sum())
    }
}
