//! What the node has, to compare: nothing of the agent may stay when it is uninstalled.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Bed;
use crate::cluster::node::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);

/// Commands whose output is compared; what moves by itself (counters, times) is not in it.
const COMMANDS: [&str; 12] = [
    "iptables-save | sed '/^#/d; s/ \\[.*//'",
    "ip6tables-save | sed '/^#/d; s/ \\[.*//'",
    "nft --stateless list ruleset",
    "ip -o link | sed 's/ state [A-Z]*//'",
    "ip -o address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule; ip -6 rule",
    "ip neigh show nud permanent",
    "tc qdisc; for i in $(ls /sys/class/net); do tc filter show dev $i ingress; done",
    "ip netns list-id; ls -A /run/netns",
    // The kubelet makes /run/dns-cache for the volume, and never removes it.
    "find /sys/fs/bpf /run/dns-cache -mindepth 1 2>/dev/null; cut -d' ' -f5- /proc/self/mountinfo | grep dns-cache",
];

/// What the node has now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NodeState(Vec<String>);

impl NodeState {
    pub(super) fn of(bed: &Bed) -> Result<Self> {
        let run = |command: &&str| {
            bed.node
                .run("sh", &["-c", &format!("{{ {command}; }} || :")])
        };
        Ok(Self(COMMANDS.iter().map(run).collect::<Result<_>>()?))
    }

    /// Fails with the lines that differ if the node does not come to look like this again: the kernel takes apart in the
    /// background what was removed.
    pub(super) fn comes_back(&self, bed: &Bed) -> Result<()> {
        wait_for("the node as it was", PATIENCE, || {
            self.same(&Self::of(bed)?).map(|()| true)
        })
    }

    /// Fails with the lines that differ.
    fn same(&self, later: &Self) -> Result<()> {
        let mut differences = String::new();
        for ((before, after), command) in self.0.iter().zip(&later.0).zip(COMMANDS) {
            let gone = before
                .lines()
                .filter(|line| !after.lines().any(|l| l == *line));
            let new = after
                .lines()
                .filter(|line| !before.lines().any(|l| l == *line));
            for line in gone
                .map(|line| format!("- {line}"))
                .chain(new.map(|line| format!("+ {line}")))
            {
                writeln!(differences, "{command}: {line}")?;
            }
        }
        if !differences.is_empty() {
            bail!("the node is not as it was:\n{differences}");
        }
        Ok(())
    }
}
