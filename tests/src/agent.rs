//! The agent under test: its configuration, its process, and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::addresses::{CLUSTER_IP, Family, LINK_LOCAL};
use crate::cluster_dns::write_outside_resolv_conf;
use crate::netns::{Netns, output};
use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::patience::{LONG, slowness};
use crate::process::Process;
use crate::procfs::linux;
use crate::tools;

/// What the lab lets a test choose of the agent's configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Intercepted addresses; with `kubernetes` there may be none.
    pub listen: Vec<IpAddr>,
    /// Patterns of interfaces.
    pub interfaces: Vec<String>,
    /// The cluster's servers; empty: the lab's replicas, by IPv4.
    pub upstreams: Vec<SocketAddr>,
    /// What is below `kubernetes`, in one line; the lab's replicas are not named then.
    pub kubernetes: Option<String>,
    /// The longest that the cluster's answers with data are kept, in seconds; without it, the agent's default.
    pub positive_ttl: Option<u32>,
    /// YAML that is put at the end of the section `cluster`, for all else of it.
    pub cluster: String,
    /// Stub domains and their servers.
    pub zones: Vec<(String, Vec<SocketAddr>)>,
    /// `auto`, `tcx` or `clsact`.
    pub attach: String,
    /// After how long without progress it is passed by; without it, the agent's default.
    pub wedged_after: Option<Duration>,
    /// What else is below `queries`, in one line.
    pub queries: String,
    /// The `tracing` filter.
    pub log_level: String,
    /// The program; without it, the one that `tools::agent` finds.
    pub binary: Option<PathBuf>,
    /// It is process 1, as in a container.
    pub in_container: bool,
    /// A configuration's text in the place of all above, but for `interfaces`, which is the lab's.
    pub text: Option<String>,
    /// YAML that is put at the end, for all else.
    pub extra: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            listen: Family::BOTH.map(|family| CLUSTER_IP.of(family)).into(),
            interfaces: vec!["veth*".to_owned()],
            upstreams: Vec::new(),
            kubernetes: None,
            positive_ttl: None,
            cluster: String::new(),
            zones: Vec::new(),
            attach: "auto".to_owned(),
            // However busy the machine is: what takes the ordinary way shall not do so for that.
            wedged_after: Some(Duration::from_secs(60)),
            queries: String::new(),
            log_level: "info,dns_cache=debug".to_owned(),
            binary: None,
            in_container: false,
            text: None,
            extra: String::new(),
        }
    }
}

impl AgentConfig {
    /// An agent that is passed by as soon as in production, for tests of just that.
    #[must_use]
    pub fn soon_passed_by(mut self) -> Self {
        self.wedged_after = Some(Duration::from_millis(500) * slowness());
        self
    }

    /// The link-local addresses are intercepted, too. That of IPv4 falls back by itself, its IPv6 twin, which is of no
    /// special range, because it is said so.
    #[must_use]
    pub fn with_link_local(mut self) -> Self {
        self.listen
            .extend(Family::BOTH.map(|family| LINK_LOCAL.of(family)));
        let _ = writeln!(
            self.extra,
            "fallback: [{{address: {:?}, to: {:?}}}]",
            LINK_LOCAL.v6.to_string(),
            CLUSTER_IP.v6.to_string()
        );
        self
    }

    /// Processes of the node's own in this cgroup are served at all addresses.
    #[must_use]
    pub fn with_host(mut self, cgroup: &Path) -> Self {
        let _ = writeln!(self.extra, "host: {{enabled: true, cgroup: {cgroup:?}}}");
        self
    }
}

/// The ways to attach that this kernel has, by its version.
#[must_use]
pub fn attach_modes() -> Vec<&'static str> {
    let tcx = (linux() >= (6, 6)).then_some("tcx");
    ["clsact"].into_iter().chain(tcx).collect()
}

/// The configuration's name in the lab's directory.
const FILE: &str = "dns-cache.yaml";

/// A running agent in the node's namespace.
#[derive(Debug)]
pub struct Agent {
    netns: Arc<Netns>,
    dir: PathBuf,
    replicas: Vec<SocketAddr>,
    binary: PathBuf,
    process: Process,
    /// How many of the lab's agents had started before, if it cannot be told from them by its pid.
    earlier: Option<usize>,
}

impl Agent {
    /// Starts it and waits until it says that it serves on all of `veths`.
    #[must_use]
    pub fn start(
        node: &Node,
        config: &AgentConfig,
        replicas: &[SocketAddr],
        veths: &[&str],
    ) -> Self {
        let scope = node.netns().scope();
        let dir = scope.dir().to_owned();
        let file = dir.join(FILE);
        let resolv_conf = write_outside_resolv_conf(&dir);
        let text = yaml(config, replicas, &resolv_conf, &dir);
        fs::write(&file, text).or_panic(format_args!("writing {}", file.display()));
        let binary = config.binary.clone().unwrap_or_else(tools::agent);
        let start = match config.in_container {
            true => Process::start_in_container,
            false => Process::start,
        };
        let earlier = fs::read_to_string(dir.join("dns-cache.log")).unwrap_or_default();
        let process = start(
            node.netns(),
            "dns-cache",
            &binary,
            ["run".as_ref(), "--config".as_ref(), file.as_os_str()],
        );
        let agent = Self {
            netns: Arc::clone(node.netns()),
            dir,
            replicas: replicas.to_owned(),
            binary,
            process,
            earlier: config.in_container.then(|| starts(&earlier)),
        };
        agent.wait_for(veths, LONG);
        scope.record_maps(&agent.bpffs());
        agent
    }

    /// Writes another configuration into its file; it is to see that by itself.
    pub fn configure(&self, config: &AgentConfig) {
        let resolv_conf = write_outside_resolv_conf(&self.dir);
        self.write_config(&yaml(config, &self.replicas, &resolv_conf, &self.dir));
    }

    /// Puts a file with this text in the place of its configuration.
    pub fn write_config(&self, text: &str) {
        let (new, file) = (self.dir.join("new.yaml"), self.config_file());
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
        written.or_panic(format_args!("writing {}", file.display()));
    }

    /// Writes another `resolv.conf`, which it is to see by itself.
    pub fn write_resolv_conf(&self, text: &str) {
        let path = self.dir.join("resolv.conf");
        fs::write(&path, text).or_panic(format_args!("writing {}", path.display()));
    }

    /// Writes another configuration, sends SIGHUP, and waits until it is taken over.
    pub fn reload(&self, config: &AgentConfig) {
        let (succeeded, failed) = self.reloads();
        self.configure(config);
        self.process.signal(Signal::SIGHUP);
        self.wait_for_reloads(succeeded + 1, failed);
    }

    /// How many configurations it took over, and how many it refused, since its start.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        let status = self.status().or_panic("asking the agent for its status");
        let count = |key: &str| status["reload"][key].as_u64().or_panic("no reloads");
        (count("succeeded"), count("failed"))
    }

    /// Waits until it has taken over, and refused, at least so many configurations.
    pub fn wait_for_reloads(&self, succeeded: u64, failed: u64) {
        let end = Instant::now() + LONG * slowness();
        loop {
            let now = self.reloads();
            if now.0 >= succeeded && now.1 >= failed {
                return;
            }
            let log = || self.log();
            assert!(Instant::now() < end, "{now:?} reloads:\n{}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the agent that answers is this one, and its status lists all of these interfaces; longer where all is slow.
    pub fn wait_for(&self, veths: &[&str], patience: Duration) {
        let end = Instant::now() + patience * slowness();
        loop {
            let missing = match self.status() {
                Ok(status) if !self.has(&status) => {
                    format!("process {} answers", status["pid"])
                }
                Ok(status) => {
                    let there = BTreeSet::from_iter(interfaces(&status));
                    let missing: Vec<_> = veths
                        .iter()
                        .filter(|veth| !there.contains(**veth))
                        .collect();
                    if missing.is_empty() {
                        return;
                    }
                    format!("{missing:?} are not in its status: {status:#}")
                }
                Err(error) => error,
            };
            if let Some(status) = self.process.exit_status() {
                panic!("the agent ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < end,
                "the agent does not serve after {patience:?}: {missing}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether this is its status, and not another agent's.
    fn has(&self, status: &Value) -> bool {
        match self.earlier {
            Some(earlier) => starts(&self.log()) > earlier,
            None => status["pid"] == self.process.pid(),
        }
    }

    /// `dns-cache status --output json`, or what it said instead.
    pub fn status(&self) -> Result<Value, String> {
        let output = self.command(&["status", "--output", "json"]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("`dns-cache status` printed no JSON: {error}"))
    }

    /// The names of the interfaces that it says it is attached to.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        interfaces(&self.status().or_panic("asking the agent for its status"))
    }

    /// How many of these interfaces have their program by which mechanism.
    #[must_use]
    pub fn mechanisms(&self, veths: &[&str]) -> BTreeMap<String, usize> {
        let status = self.status().or_panic("asking the agent for its status");
        let all = status.pointer("/datapath/interfaces");
        let veths = BTreeSet::from_iter(veths);
        let mut mechanisms = BTreeMap::new();
        for interface in all.and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| interface[key].as_str().or_panic(key);
            if veths.contains(&text("name")) {
                *mechanisms.entry(text("mechanism").to_owned()).or_default() += 1;
            }
        }
        mechanisms
    }

    /// Its counters now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let status = self.status().or_panic("asking the agent for its status");
        let read = |part: &str| -> Vec<(String, u64)> {
            let Some(Value::Object(counters)) = status.get(part).and_then(|p| p.get("counters"))
            else {
                panic!("the agent's status has no {part}.counters: {status:#}");
            };
            counters
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
                .collect()
        };
        Counters {
            datapath: read("datapath"),
            resolver: read("resolver"),
        }
    }

    /// The status of a zone's servers, in the order of the configuration.
    #[must_use]
    pub fn upstreams(&self, zone: &str) -> Vec<Value> {
        let status = self.status().or_panic("asking the agent for its status");
        let all = status.pointer("/resolver/upstreams");
        let all = all.and_then(Value::as_array).into_iter().flatten();
        all.filter(|server| server["zone"] == zone)
            .cloned()
            .collect()
    }

    /// Runs another command of the agent's binary against this instance, in the node's namespace.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--state-dir").arg(self.state_dir());
        self.netns.run(|| output(&mut command))
    }

    /// `dns-cache detach`, which must succeed.
    pub fn detach(&self) {
        let mut command = Command::new(&self.binary);
        command
            .arg("detach")
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--bpffs")
            .arg(self.bpffs());
        self.netns.succeed(&mut command);
    }

    /// Its configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Where it keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where it keeps its pins.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf/dns-cache")
    }

    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// SIGKILL; what it attached stays.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// SIGABRT, as after a panic; what it attached stays.
    pub fn abort(&self) {
        self.process.abort();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&self) {
        // What the kubelet gives a pod.
        let status = self.process.stop(Duration::from_secs(30) * slowness());
        assert!(
            status.success(),
            "the agent ended with {status}:\n{}",
            self.log()
        );
    }

    /// Waits until it has ended by itself, in good order.
    pub fn assert_ends(&self) {
        let end = Instant::now() + LONG * slowness();
        loop {
            match self.process.exit_status() {
                Some(status) => return assert!(status.success(), "{status}:\n{}", self.log()),
                None => assert!(Instant::now() < end, "it stays:\n{}", self.log()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Puts its maps' pins where another layout's would be: the next agent has to make its own.
    pub fn age_maps(&self) {
        let entries = fs::read_dir(self.bpffs()).or_panic("reading the pins");
        for entry in entries {
            let path = entry.or_panic("reading the pins").path();
            let name = path.file_name().unwrap_or_default();
            if name != "links" && name != "host" {
                let other = path.with_file_name("v4000000000");
                fs::rename(&path, other).or_panic("renaming the pins' directory");
            }
        }
    }

    /// SIGSTOP: it lives and does not answer.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }
}

/// The way that an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// kube-proxy's DNAT.
    Ordinary,
    /// The agent's resolver.
    Resolver,
    /// The kernel's cache.
    Kernel,
}

/// The agent's counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    datapath: Vec<(String, u64)>,
    resolver: Vec<(String, u64)>,
}

impl Counters {
    /// The kernel's counters of replies from its cache.
    const KERNEL: [&str; 3] = [
        "cache_hits_noerror",
        "cache_hits_nxdomain",
        "cache_hits_other",
    ];
    /// The kernel's counters of packets that it handed to the resolver.
    const RESOLVER: [&str; 2] = ["to_resolver_udp", "to_resolver_tcp"];

    /// A counter of the datapath; 0 if there is none of this name.
    #[must_use]
    pub fn datapath(&self, name: &str) -> u64 {
        value(&self.datapath, name)
    }

    /// A counter of the resolver; 0 if there is none of this name.
    #[must_use]
    pub fn resolver(&self, name: &str) -> u64 {
        value(&self.resolver, name)
    }

    /// The way of the one lookup between `self` and `later`.
    #[must_use]
    pub fn way(&self, later: &Self) -> Way {
        if self.answered(later) > 0 {
            Way::Kernel
        } else if self.resolved(later) > 0 {
            Way::Resolver
        } else {
            Way::Ordinary
        }
    }

    /// How many packets the kernel handed to the resolver between `self` and `later`.
    #[must_use]
    pub fn resolved(&self, later: &Self) -> u64 {
        later.sum(&Self::RESOLVER) - self.sum(&Self::RESOLVER)
    }

    /// How many queries the kernel answered between `self` and `later`.
    #[must_use]
    pub fn answered(&self, later: &Self) -> u64 {
        later.sum(&Self::KERNEL) - self.sum(&Self::KERNEL)
    }

    fn sum(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.datapath(name)).sum()
    }
}

/// How many agents have said that they have started.
fn starts(log: &str) -> usize {
    log.matches(" started ").count()
}

fn value(counters: &[(String, u64)], name: &str) -> u64 {
    counters
        .iter()
        .find(|(n, _)| n == name)
        .map_or(0, |(_, value)| *value)
}

fn interfaces(status: &Value) -> Vec<String> {
    let Some(list) = status
        .pointer("/datapath/interfaces")
        .and_then(Value::as_array)
    else {
        return Vec::new();
    };
    list.iter()
        .filter_map(|interface| {
            interface
                .as_str()
                .or_else(|| interface.get("name")?.as_str())
        })
        .map(str::to_owned)
        .collect()
}

fn yaml(config: &AgentConfig, replicas: &[SocketAddr], resolv_conf: &Path, dir: &Path) -> String {
    let upstreams = if config.upstreams.is_empty() {
        replicas
    } else {
        &config.upstreams
    };
    let quoted = |items: &mut dyn Iterator<Item = String>| {
        items
            .map(|item| format!("{item:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let ends = ends(config, resolv_conf, dir);
    if let Some(text) = &config.text {
        return format!("{text}{ends}");
    }
    let mut text = String::new();
    if !config.listen.is_empty() {
        let listen = quoted(&mut config.listen.iter().map(ToString::to_string));
        let _ = writeln!(text, "listen: [{listen}]");
    }
    let interfaces = quoted(&mut config.interfaces.iter().cloned());
    let _ = write!(
        text,
        "interfaces: [{interfaces}]\ncluster:\n  domain: cluster.local\n  reverseZones: [in-addr.arpa, ip6.arpa]\n"
    );
    if config.kubernetes.is_none() {
        let upstreams = quoted(&mut upstreams.iter().map(ToString::to_string));
        let _ = writeln!(text, "  upstreams: [{upstreams}]");
    }
    if let Some(seconds) = config.positive_ttl {
        let _ = writeln!(text, "  ttl:\n    positive: {seconds}");
    }
    text += &config.cluster;
    if let Some(settings) = &config.kubernetes {
        let _ = writeln!(text, "kubernetes: {{{settings}}}");
    }
    if !config.zones.is_empty() {
        text += "zones:\n";
        for (zone, servers) in &config.zones {
            let _ = writeln!(
                text,
                "  - zone: {zone:?}\n    upstreams: [{}]",
                quoted(&mut servers.iter().map(ToString::to_string))
            );
        }
    }
    text + &ends
}

/// What the lab says in any case.
fn ends(config: &AgentConfig, resolv_conf: &Path, dir: &Path) -> String {
    let wedged = config.wedged_after;
    let wedged = wedged.map(|after| format!("wedgedAfterMillis: {}", after.as_millis()));
    let others = (!config.queries.is_empty()).then(|| config.queries.clone());
    let queries: Vec<_> = wedged.into_iter().chain(others).collect();
    format!(
        "queries: {{{}}}\nresolvConf: {resolv_conf:?}\nstateDir: {:?}\nbpffs: {:?}\nattach: {}\nlog:\n  format: text\n  level: {:?}\n{}",
        queries.join(", "),
        dir.join("state"),
        dir.join("bpf/dns-cache"),
        config.attach,
        config.log_level,
        config.extra,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_told_by_the_counters() {
        let counters = |hits, queries| Counters {
            datapath: vec![
                (Counters::KERNEL[0].to_owned(), hits),
                (Counters::RESOLVER[0].to_owned(), queries),
            ],
            resolver: Vec::new(),
        };
        assert_eq!(counters(0, 0).way(&counters(0, 0)), Way::Ordinary);
        assert_eq!(counters(0, 0).way(&counters(0, 1)), Way::Resolver);
        assert_eq!(counters(0, 1).way(&counters(1, 1)), Way::Kernel);
    }
}
