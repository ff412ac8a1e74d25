//! What a node looks like from outside the agent: rules, links, namespaces, routes, neighbours, qdiscs, pins, programs
//! and what they are attached to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use aya::programs::{SchedClassifier, TcAttachType, loaded_links, loaded_programs};

use crate::node::Node;
use crate::or_panic::OrPanic;
use crate::scope::{NETNS, Scope, mounts_below};

/// Both ways of an interface, as `tc` calls them.
const DIRECTIONS: [(&str, TcAttachType); 2] = [
    ("ingress", TcAttachType::Ingress),
    ("egress", TcAttachType::Egress),
];

/// Named texts, one a command. Counters and timers, which move by themselves, are taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(&'static str, String)>);

impl Snapshot {
    pub(crate) fn of(node: &Node) -> Self {
        let run = |program: &str, args: &[&str]| {
            let attempt = || node.netns().output(Command::new(program).args(args));
            sooner_or_later(&format!("{program} {args:?}"), attempt)
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
            (
                "ip neigh, noarp",
                without_groups(&run("ip", &["neigh", "show", "nud", "noarp"])),
            ),
            ("ip neigh, proxy", run("ip", &["neigh", "show", "proxy"])),
            ("tc qdisc", run("tc", &["qdisc"])),
            ("tc filter", sooner_or_later("tc filter", || filters(node))),
            ("tcx", tcx(node)),
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
        parts.push(("pins", tree(&scope.dir().join("bpf"))));
        let (programs, links) = programs(scope);
        parts.extend([("programs", programs), ("links", links)]);
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

/// The output of a command in the node that must succeed. It may stumble over a namespace, or an interface, that just
/// goes.
fn sooner_or_later(what: &str, attempt: impl FnMut() -> Output) -> String {
    let mut tries = std::iter::repeat_with(attempt).take(5);
    let good = tries.find(|output| output.status.success());
    let output = good.or_panic(format_args!("{what} fails in the node"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lists all filters of all interfaces.
fn filters(node: &Node) -> Output {
    let interfaces = node.interfaces();
    let show = |(name, (direction, _)): (&String, (&str, _))| {
        format!("filter show dev {name} {direction}\n")
    };
    let every = interfaces
        .iter()
        .flat_map(|name| DIRECTIONS.map(|direction| (name, direction)));
    let batch = node.netns().scope().dir().join("filters.tc");
    fs::write(&batch, every.map(show).collect::<String>()).or_panic("writing a batch for tc");
    node.netns()
        .output(Command::new("tc").arg("-batch").arg(&batch))
}

/// The TCX programs of all interfaces, in their order; none before Linux 6.6.
fn tcx(node: &Node) -> String {
    let interfaces = node.interfaces();
    let query = |name: &str, direction: TcAttachType| {
        let found = SchedClassifier::query_tcx(name, direction);
        found.map(|(_, programs)| programs).unwrap_or_default()
    };
    node.netns().run(|| {
        let mut text = String::new();
        for (name, (direction, attach_type)) in interfaces
            .iter()
            .flat_map(|name| DIRECTIONS.map(|direction| (name, direction)))
        {
            for program in query(name, attach_type) {
                let (id, program) = (program.id(), program.name_as_str().unwrap_or_default());
                let _ = writeln!(text, "{name} {direction} {id} {program}");
            }
        }
        text
    })
}

/// The kernel's programs that have a map of one of the lab's agents, and the links that hold them.
fn programs(scope: &Scope) -> (String, String) {
    let maps = scope.maps();
    let (mut programs, mut ids) = (String::new(), BTreeSet::new());
    // One that goes meanwhile is none.
    for program in loaded_programs().flatten() {
        let of = program.map_ids().ok().flatten().unwrap_or_default();
        if of.iter().any(|map| maps.contains(map)) {
            let name = program.name_as_str().unwrap_or_default();
            let _ = writeln!(programs, "{} {name}", program.id());
            ids.insert(program.id());
        }
    }
    let mut links = String::new();
    for link in loaded_links().flatten() {
        if ids.contains(&link.program_id()) {
            let (id, program) = (link.id(), link.program_id());
            let _ = writeln!(links, "{id} {:?} of program {program}", link.link_type());
        }
    }
    (programs, links)
}

/// Without those of multicast groups and of the loopback interface, which the kernel makes by itself.
fn without_groups(text: &str) -> String {
    let is_made = |line: &&str| {
        let address = line.split(' ').next().unwrap_or_default().parse();
        let is_group = address.is_ok_and(|address: IpAddr| address.is_multicast());
        !is_group && !line.contains(" dev lo ")
    };
    text.lines()
        .filter(is_made)
        .map(|line| line.to_owned() + "\n")
        .collect()
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

/// All that is below a directory, by its path from there.
fn tree(dir: &Path) -> String {
    let names = listing(dir).into_iter();
    names
        .map(|name| {
            let below = tree(&dir.join(&name));
            let below = below.lines().map(|line| format!("{name}/{line}\n"));
            format!("{name}\n{}", below.collect::<String>())
        })
        .collect()
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
