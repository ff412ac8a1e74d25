//! `cargo xtask cluster`: a real Kubernetes node on this machine, without a container registry.
//!
//! etcd, the control plane, the kubelet, containerd and kube-proxy run in namespaces of their own (network, mount, PID, UTS):
//! the machine's own network, mounts and cgroups stay as they were.

mod components;
mod images;
mod init;
mod kubectl;
mod node;
mod pki;
mod settings;
mod test;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use dns_cache_tests::tools;

use crate::root;
use crate::setup::{self, Want};
use node::{Node, wait_for};
use settings::{DNS_IP, Settings};

/// Run a real one-node Kubernetes cluster on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster with CoreDNS and pods to look names up from
    Up {
        #[command(flatten)]
        settings: Settings,
    },
    /// Install the chart in a cluster and show by lookups that it does what it should, whatever happens to the node
    Test(test::Args),
    /// Run kubectl in the cluster that is up
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run helm in the cluster that is up
    Helm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a command on the node
    Node {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// End the cluster and remove all that it had on this machine
    Down,
    #[command(hide = true)]
    Init { dir: PathBuf },
}

impl Args {
    /// `cluster test` with the settings of `cluster up`.
    pub(crate) fn test_one() -> Self {
        Self {
            command: Command::Test(test::Args::one()),
        }
    }
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if let Command::Init { dir } = &args.command {
        match init::main(dir)? {}
    }
    if matches!(args.command, Command::Up { .. } | Command::Test(_)) {
        setup::ensure(Want::Cluster)?;
    }
    if !root::is_root() {
        match root::again(env::args_os().skip(1))? {}
    }
    match &args.command {
        Command::Up { settings } => {
            up(settings)?;
            println!(
                "\n{settings}: up. `cargo xtask cluster kubectl get pods -A` shows it, `cargo xtask cluster down` ends it."
            );
        }
        Command::Test(args) => test::main(args)?,
        Command::Kubectl { args } => return forward(Node::open(&dir())?.kubectl_command(), args),
        Command::Helm { args } => {
            let mut command = Node::open(&dir())?.command(setup::helm::program());
            command.arg(format!("--kubeconfig={}/admin.conf", pki::DIR));
            return forward(command, args);
        }
        Command::Node { args } => {
            return forward(Node::open(&dir())?.command(&args[0]), &args[1..]);
        }
        Command::Down => println!(
            "{}",
            if node::remove(&dir())? {
                "ended"
            } else {
                "no cluster was up"
            }
        ),
        Command::Init { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Where all of a cluster's files are: not below what the node has of its own (/etc, /run, /var).
fn dir() -> PathBuf {
    let tools = tools::folder();
    tools.parent().unwrap_or(&tools).join("cluster")
}

/// CoreDNS, and behind it its Service with these addresses.
fn coredns_manifest(addresses: &[&str]) -> String {
    include_str!("files/coredns.yaml")
        .replace("FIRST", addresses[0])
        .replace("ADDRESSES", &format!("{addresses:?}"))
}

fn up(settings: &Settings) -> Result<Node> {
    println!("Starting a cluster: {settings} …");
    let node = Node::boot(&dir(), settings.family).context("making the node")?;
    node.write(
        "etc/resolv.conf",
        &format!("nameserver {}\n", settings::OUTSIDE_IP.0),
    )?;
    node.write("outside.Corefile", include_str!("files/outside.Corefile"))?;
    let (coredns, corefile) = (tools::binary("coredns"), node.path("outside.Corefile"));
    node::start_outside(
        &dir(),
        &[kubectl::text(&coredns)?, "-conf", kubectl::text(&corefile)?],
    )?;
    pki::make(&dir())?;
    components::control_plane(&node, settings)?;
    components::container_runtime(&node, settings)?;
    images::import_all(&node)?;
    let patience = Duration::from_secs(120);
    wait_for("the API server", patience, || {
        node.kubectl(&["get", "--raw=/readyz"]).map(|_| true)
    })?;
    components::kubelet_and_proxy(&node, settings)?;
    let addresses: Vec<_> = DNS_IP.of(settings.family).collect();
    node.apply(&coredns_manifest(&addresses))?;
    wait_for("a service account", patience, || {
        node.kubectl(&["get", "serviceaccount", "default"])
            .map(|_| true)
    })?;
    node.apply(include_str!("files/workload.yaml"))?;
    wait_for("the node", patience, || {
        node.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=1s",
            "node",
            "--all",
        ])
        .map(|_| true)
    })?;
    node.rolled_out(&["-n=kube-system", "deployment/coredns"])?;
    wait_for("all pods", patience, || {
        node.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=1s",
            "pod",
            "--all",
            "--all-namespaces",
        ])
        .map(|_| true)
    })?;
    Ok(node)
}

fn forward(mut command: std::process::Command, args: &[String]) -> Result<ExitCode> {
    let status = command.args(args).status()?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}
