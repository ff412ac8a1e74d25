//! What the node has, to compare: nothing of the agent may stay when it is uninstalled.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Bed;
use crate::cluster::node::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);

/// Commands whose output is compared; what moves by itself (counters, times) is not in it.
const COMMANDS: [&str; 13] = [
    "iptables-save | sed '/^#/d; s/ \\[.*//'",
    "ip6tables-save | sed '/^#/d; s/ \\[.*//'",
    "nft --stateless list ruleset",
    "ip -o link | sed 's/ state [A-Z]*//'",
    "ip -o address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule; ip -6 rule",
    "ip neigh show nud permanent",
    "tc qdisc; for i in $(ls /sys/class/net); do for way in ingress egress; do tc filter show dev $i $way; done; done",
    "ip netns list-id; ls -A /run/netns",
    "find /sys/fs/bpf /run/dns-cache 2>/dev/null; cut -d' ' -f5- /proc/self/mountinfo | grep dns-cache",
    // What is attached by a link (tcx, a cgroup) lives as long as somebody has a descriptor of that, or a pin.
    "grep -hE '^(prog|map|link)_id' /proc/[0-9]*/fdinfo/* 2>/dev/null",
];
/// The kubelet makes it for the volume, and never removes it: deploy/README.md says so. Empty, or the rest would be told.
const STAYS: &str = "/run/dns-cache";

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
            for line in different(before, after) {
                writeln!(differences, "{command}: {line}")?;
            }
        }
        if !differences.is_empty() {
            bail!("the node is not as it was:\n{differences}");
        }
        Ok(())
    }
}

/// Lines that one of the texts has more often than the other, as often; their order counts for nothing.
fn different(before: &str, after: &str) -> Vec<String> {
    let mut counts = BTreeMap::<_, i32>::new();
    for (text, count) in [(before, -1), (after, 1)] {
        for line in text.lines() {
            *counts.entry(line).or_default() += count;
        }
    }
    counts.remove(STAYS);
    let lines = counts.into_iter().flat_map(|(line, count)| {
        let sign = if count < 0 { '-' } else { '+' };
        vec![format!("{sign} {line}"); count.unsigned_abs() as usize]
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::different;

    #[test]
    fn a_line_that_came_twice_is_a_difference() {
        let found = different("a\nrule\nb\n", "b\nrule\nrule\n/run/dns-cache\n");
        assert_eq!(found, ["- a", "+ rule"]);
        let file = "/run/dns-cache/control.sock";
        assert_eq!(different("", file), [format!("+ {file}")]);
    }
}
