//! What a node looks like from outside the agent: rules, links, namespaces, routes, neighbours, qdiscs, pins.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::scope::{NETNS, mounts_below};

/// Named texts, one a command. Counters and timers, which move by themselves, are taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(&'static str, String)>);

impl Snapshot {
    pub(crate) fn of(node: &Node) -> Self {
        let run = |program: &str, args: &[&str]| {
            // `ip` looks up the names of all namespaces, and may stumble over one that just goes.
            let attempt = || node.netns().output(Command::new(program).args(args));
            let mut tries = std::iter::repeat_with(attempt).take(5);
            let good = tries.find(|output| output.status.success());
            let output = good.or_panic(format_args!("{program} {args:?} fails in the node"));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let mut parts = vec![
            (
                "iptables-save",
                without_counters(&run("iptables-save", &[])),
            ),
            (
                "ip6tables-save",
                without_counters(&run("ip6tables-save", &[])),
            ),
            (
                "nft list ruleset",
                without_counters(&run("nft", &["--stateless", "list", "ruleset"])),
            ),
            ("ip link", without_state(&run("ip", &["-o", "link"]))),
            ("ip address", run("ip", &["-o", "addr"])),
            ("ip route", run("ip", &["route", "show", "table", "all"])),
            (
                "ip -6 route",
                run("ip", &["-6", "route", "show", "table", "all"]),
            ),
            (
                "ip rule",
                run("ip", &["rule"]) + &run("ip", &["-6", "rule"]),
            ),
            // What was learnt comes and goes; what was put there stays.
            (
                "ip neigh, permanent",
                run("ip", &["neigh", "show", "nud", "permanent"]),
            ),
            ("tc qdisc", run("tc", &["qdisc"])),
            ("ip netns list-id", run("ip", &["netns", "list-id"])),
        ];
        let scope = node.netns().scope();
        // Other labs' names come and go meanwhile, and so do those of whoever else uses the machine.
        let names = listing(Path::new(NETNS)).into_iter();
        let names = names.filter(|name| name.contains(scope.id()));
        parts.push(("ip netns", names.collect::<Vec<_>>().join("\n")));
        let mounts = mounts_below(scope.dir()).into_iter();
        let mounts: Vec<_> = mounts.map(|path| path.display().to_string()).collect();
        parts.push(("mounts", mounts.join("\n")));
        parts.push(("pins", listing(&scope.dir().join("bpf")).join("\n")));
        Self(parts)
    }

    /// Only the rules of netfilter.
    #[must_use]
    pub fn rules(&self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| name.contains("save") || name.contains("nft"))
                .cloned()
                .collect(),
        )
    }

    /// Panics with the lines that differ.
    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        let mut differences = String::new();
        for ((name, before), (_, after)) in self.0.iter().zip(&later.0) {
            let gone = before
                .lines()
                .filter(|line| !after.lines().any(|l| l == *line))
                .map(|line| format!("- {line}\n"));
            let new = after
                .lines()
                .filter(|line| !before.lines().any(|l| l == *line))
                .map(|line| format!("+ {line}\n"));
            let lines: String = gone.chain(new).collect();
            if !lines.is_empty() {
                differences += &format!("{name}:\n{lines}");
            }
        }
        assert!(
            differences.is_empty(),
            "the node is not as it was:\n{differences}"
        );
    }

    /// The text of one part (`"iptables-save"`).
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, text)| text.as_str())
    }
}

/// Without comments (they hold the time) and the packet counts in brackets.
fn without_counters(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// Without the operational state, which follows the link's other end a moment later.
fn without_state(text: &str) -> String {
    let mut words = text.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "state" {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The names in a directory, sorted.
fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
