//! The node: namespaces of its own, and programs in them.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns_cache_tests::procfs::ProcessId;
use dns_cache_tests::scope::NETNS;

use super::init;
use super::settings::{Family, NODE, NODE_IP, OUTSIDE, OUTSIDE_IP};

const CGROUPS: &str = "/sys/fs/cgroup";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running node. Dropping it leaves it up.
#[derive(Debug)]
pub(super) struct Node {
    dir: PathBuf,
    init: ProcessId,
}

impl Node {
    /// Makes the node's networks, mounts and first process; its files are below `dir`.
    pub(super) fn boot(dir: &Path, family: Family) -> Result<Self> {
        if dir.exists() {
            bail!("a cluster is up, or was: `cargo xtask cluster down` first");
        }
        claim()?;
        for name in [
            "log",
            "run/cluster",
            "run/lock",
            "run/netns",
            "var/lib",
            "var/log",
            "var/tmp",
            "etc",
            "etc.work",
        ] {
            fs::create_dir_all(dir.join(name))
                .with_context(|| format!("making {}", dir.display()))?;
        }
        for name in ["run", "lock"] {
            let to = if name == "run" { "/run" } else { "/run/lock" };
            std::os::unix::fs::symlink(to, dir.join("var").join(name))?;
        }
        networks(family)?;
        cgroups()?;
        let own = std::env::current_exe().context("finding this program's own path")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={NETNS}/{NODE}"))
            .args(["unshare", "--mount", "--uts", "--pid", "--fork"])
            .arg(own)
            .args(["cluster", "init"])
            .arg(dir);
        let unshare = spawn(&mut command, &dir.join("log/init"))?;
        wait("the node's first process", || {
            Ok(dir.join(init::READY).exists())
        })?;
        // unshare's only child is the first process.
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))?;
        let init = children
            .split_whitespace()
            .next()
            .and_then(|pid| ProcessId::of(pid.parse().ok()?));
        let init = init.context("the node's first process has ended")?;
        fs::write(dir.join("init"), init.record())?;
        Ok(Self {
            dir: dir.to_owned(),
            init,
        })
    }

    /// The node that is up.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let init = fs::read_to_string(dir.join("init")).ok();
        let init = init
            .and_then(|text| ProcessId::parse(&text))
            .filter(|init| init.is_alive());
        let init = init.context("no cluster is up; `cargo xtask cluster up` starts one")?;
        Ok(Self {
            dir: dir.to_owned(),
            init,
        })
    }

    /// A file of the node, as this process sees it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    /// Writes a file of the node.
    pub(super) fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    /// A command on the node.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init.pid))
            .args(["--mount", "--net", "--uts", "--pid", "--"])
            .arg(program);
        command
    }

    /// Runs a command on the node that must succeed; its standard output.
    pub(super) fn run(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        args: &[&str],
    ) -> Result<String> {
        output(self.command(program).args(args))
    }

    /// Starts a program that stays; `name` is for its log, and to stop it by.
    pub(super) fn start(&self, name: &str, argv: &[String]) -> Result<()> {
        fs::create_dir_all(self.path("commands"))?;
        fs::write(self.path("commands").join(name), argv.join("\0"))?;
        self.start_again(name)
    }

    /// Starts a program that was stopped.
    pub(super) fn start_again(&self, name: &str) -> Result<()> {
        let argv = fs::read_to_string(self.path("commands").join(name))?;
        let mut command = self.command("sh");
        command
            .args(["-c", "echo $$ >$0; exec \"$@\""])
            .arg(format!("/run/cluster/{name}.pid"))
            .args(argv.split('\0'))
            .env_clear()
            .env("HOME", "/root")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        spawn(&mut command, &self.path("log").join(name)).map(drop)
    }

    /// SIGKILL, and waits for the program's end.
    pub(super) fn stop(&self, name: &str) -> Result<()> {
        let script =
            "pid=$(cat $0); kill -KILL $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done";
        self.run("sh", &["-c", script, &format!("/run/cluster/{name}.pid")])
            .map(drop)
    }
}

/// Ends all of the node that there is and removes what it had; true if there was something. A cluster whose files are
/// elsewhere is left alone.
pub(super) fn remove(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    for name in ["init", "outside"] {
        let process = fs::read_to_string(dir.join(name)).ok();
        if let Some(process) = process.and_then(|text| ProcessId::parse(&text))
            && !process.kill(PATIENCE)
        {
            bail!("the process {} does not end", process.pid);
        }
    }
    for name in [NODE, OUTSIDE] {
        if Path::new(NETNS).join(name).exists() {
            output(Command::new("ip").args(["netns", "delete", name]))?;
        }
    }
    wait("the end of the node's cgroups", || {
        let left = hierarchies()?.into_iter().map(|dir| dir.join(NODE));
        Ok(left
            .filter(|dir| dir.exists())
            .map(|dir| remove_groups(&dir))
            .filter(|gone| !gone)
            .count()
            == 0)
    })?;
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(true)
}

/// Makes the node's network namespace, which one cluster at a time has: names, cgroups and addresses are the same in all.
fn claim() -> Result<()> {
    if Path::new(NETNS).join(NODE).exists() {
        bail!(
            "another cluster is up on this machine, with its files elsewhere ($DNS_CACHE_TOOLS): the network namespace {NODE} \
             is its own. End it where it was started; if nobody did, `ip netns delete {NODE}`"
        );
    }
    // Of two at the same moment one fails here.
    output(Command::new("ip").args(["netns", "add", NODE])).map(drop)
}

/// The node's interface to the world, and the world.
fn networks(family: Family) -> Result<()> {
    let ip = |netns: &str, line: String| {
        output(
            Command::new("ip")
                .args(["-n", netns])
                .args(line.split_whitespace()),
        )
        .map(drop)
    };
    output(Command::new("ip").args(["netns", "add", OUTSIDE]))?;
    for netns in [NODE, OUTSIDE] {
        ip(netns, "link set lo up".to_owned())?;
    }
    ip(
        NODE,
        format!("link add eth0 type veth peer name eth0 netns {OUTSIDE}"),
    )?;
    for (netns, own) in [(NODE, NODE_IP), (OUTSIDE, OUTSIDE_IP)] {
        for (address, length) in own.of(family).zip(["24", "64 nodad"]) {
            ip(netns, format!("addr add {address}/{length} dev eth0"))?;
        }
        ip(netns, "link set eth0 up".to_owned())?;
    }
    for gateway in OUTSIDE_IP.of(family) {
        ip(NODE, format!("route add default via {gateway}"))?;
    }
    let sysctls = [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.bridge.bridge-nf-call-iptables=1",
        "net.bridge.bridge-nf-call-ip6tables=1",
    ];
    output(
        Command::new("ip")
            .args(["netns", "exec", NODE, "sysctl", "-qw"])
            .args(sysctls),
    )
    .map(drop)
}

/// Starts a program in the namespace beyond the node.
pub(super) fn start_outside(dir: &Path, argv: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", OUTSIDE]).args(argv);
    let pid = spawn(&mut command, &dir.join("log/outside"))?;
    let process = ProcessId::of(pid).with_context(|| format!("{} ended at once", argv[0]))?;
    fs::write(dir.join("outside"), process.record()).context("noting a process")
}

/// The hierarchies of cgroup v1, or the one of v2.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let entries = fs::read_dir(root)?.flatten().map(|entry| entry.path());
    Ok(entries
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect())
}

/// The kubelet wants its group in every hierarchy, and those of cpuset start out empty.
fn cgroups() -> Result<()> {
    for dir in hierarchies()? {
        let group = dir.join(NODE);
        fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if dir.join(file).exists() {
                fs::write(group.join(file), fs::read(dir.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Removes a group and those in it; a process that is just ending keeps its own.
fn remove_groups(dir: &Path) -> bool {
    let below = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for path in below.filter(|path| path.is_dir()) {
        remove_groups(&path);
    }
    fs::remove_dir(dir).is_ok()
}

/// Starts a program in a process group of its own: Ctrl-C is not for it.
fn spawn(command: &mut Command, log: &Path) -> Result<i32> {
    let log = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let child = command
        .spawn()
        .with_context(|| format!("running {command:?}"))?;
    Ok(i32::try_from(child.id())?)
}

/// Runs a command that must succeed; its standard output.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    checked(command, &output)
}

/// The same for one that reads `input`.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("running {command:?}"))?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    checked(command, &child.wait_with_output()?)
}

fn checked(command: &Command, output: &std::process::Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?} ended with {}:\n{text}{complaint}",
            output.status
        );
    }
    Ok(text)
}

/// Polls until it is so, for half a minute.
pub(super) fn wait(what: &str, is: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, PATIENCE, is)
}

/// Polls until it is so. What fails is tried again until the time is over.
pub(super) fn wait_for(
    what: &str,
    patience: Duration,
    mut is: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        let now = is();
        if matches!(now, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > end {
            now?;
            bail!("waited {patience:?} in vain for {what}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}
