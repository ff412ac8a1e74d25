//! The node's conntrack table, as `conntrack` shows it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{CLUSTER_IP, is_pod};
use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::process::Process;

/// One direction of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; 0 where the protocol has none.
    pub sport: u16,
    /// Destination port; 0 where the protocol has none.
    pub dport: u16,
}

/// An entry of the table, or an event about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `udp`, `tcp`, `icmp` …
    pub protocol: String,
    /// As the first packet had it.
    pub original: Tuple,
    /// As answers are expected.
    pub reply: Tuple,
    /// `UNREPLIED`, `ASSURED` …
    pub flags: Vec<String>,
    /// The line.
    pub line: String,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let protocol = words
            .iter()
            .find(|word| matches!(**word, "udp" | "tcp" | "icmp" | "icmpv6"))?;
        let tuple = |nth: usize| {
            let field = |name: &str| {
                words
                    .iter()
                    .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                    .nth(nth)
            };
            let port = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
            Some(Tuple {
                src: field("src")?.parse().ok()?,
                dst: field("dst")?.parse().ok()?,
                sport: port("sport"),
                dport: port("dport"),
            })
        };
        let flags = words
            .iter()
            .filter_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
            .collect();
        Some(Self {
            protocol: (*protocol).to_owned(),
            original: tuple(0)?,
            reply: tuple(1)?,
            flags,
            line: line.to_owned(),
        })
    }

    /// Whether it is DNS of a pod: to port 53, from a pod or to the ClusterIP. The agent's own
    /// connections, which come from the node's addresses, are not.
    #[must_use]
    pub fn is_pod_dns(&self) -> bool {
        let Tuple {
            src, dst, dport, ..
        } = self.original;
        dport == 53
            && (is_pod(src) || dst == IpAddr::V4(CLUSTER_IP.v4) || dst == IpAddr::V6(CLUSTER_IP.v6))
    }
}

/// Looks at a namespace's conntrack table.
#[derive(Debug, Clone)]
pub struct Conntrack {
    netns: Arc<Netns>,
}

impl Conntrack {
    pub(crate) const fn new(netns: Arc<Netns>) -> Self {
        Self { netns }
    }

    /// All entries, both families.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        ["ipv4", "ipv6"]
            .into_iter()
            .flat_map(|family| {
                let text = self
                    .netns
                    .succeed(Command::new("conntrack").args(["-L", "-f", family]));
                text.lines().filter_map(Entry::parse).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Entries of pods' DNS.
    #[must_use]
    pub fn pod_dns(&self) -> Vec<Entry> {
        pod_dns(self.entries())
    }

    /// Panics with the entries if there is one of a pod's DNS.
    #[track_caller]
    pub fn assert_no_pod_dns(&self) {
        let entries = self.pod_dns();
        let lines: Vec<_> = entries.iter().map(|entry| entry.line.as_str()).collect();
        assert!(
            lines.is_empty(),
            "{} conntrack entries of pods' DNS:\n{}",
            lines.len(),
            lines.join("\n")
        );
    }

    /// How many entries there are in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        let text = self.netns.succeed(Command::new("conntrack").arg("-C"));
        text.trim()
            .parse()
            .or_panic("reading the output of conntrack -C")
    }

    /// The statistics (`insert_failed`, `drop`, `clash_resolve` …), summed over the CPUs.
    #[must_use]
    pub fn statistics(&self) -> HashMap<String, u64> {
        let text = self.netns.succeed(Command::new("conntrack").arg("-S"));
        let mut sums = HashMap::new();
        for (name, value) in text
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
        {
            if let (false, Ok(value)) = (name == "cpu", value.parse::<u64>()) {
                *sums.entry(name.to_owned()).or_default() += value;
            }
        }
        sums
    }

    /// Empties the table.
    pub fn flush(&self) {
        self.netns.succeed(Command::new("conntrack").arg("-F"));
    }

    /// Forgets the UDP entries of the ClusterIP, as kube-proxy does when an endpoint has gone.
    pub fn forget_service(&self) {
        let (v4, v6) = (CLUSTER_IP.v4.to_string(), CLUSTER_IP.v6.to_string());
        for (family, address) in [("ipv4", &v4), ("ipv6", &v6)] {
            let mut delete = Command::new("conntrack");
            delete.args(["-D", "-f", family, "-p", "udp", "--orig-dst", address]);
            // It fails if there was none.
            let _ = self.netns.output(&mut delete);
        }
    }

    /// Listens to what happens from now on. It has begun when this returns.
    #[must_use]
    pub fn events(&self) -> Events {
        let what = format!("conntrack-events-{}", crate::ip::veth_name());
        let process = Process::start(
            &self.netns,
            &what,
            Path::new("conntrack"),
            ["-E", "-o", "timestamp"],
        );
        let events = Events {
            netns: Arc::clone(&self.netns),
            process,
        };
        // The program does not say when it listens.
        events.catch_up();
        events
    }
}

/// Where probes go to: nobody listens there, and no lookup does.
const PROBED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// For a probe to be heard of, and for one of them at all.
const PROBE: Duration = Duration::from_millis(100);
const PROBES: Duration = Duration::from_secs(20);

/// A running `conntrack -E`.
#[derive(Debug)]
pub struct Events {
    netns: Arc<Netns>,
    process: Process,
}

impl Events {
    /// What has happened until now.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.catch_up();
        let mut entries = self.heard();
        entries.retain(|entry| !is_probe(entry));
        entries
    }

    fn heard(&self) -> Vec<Entry> {
        let log = self.process.log();
        log.lines().filter_map(Entry::parse).collect()
    }

    /// Returns when everything that happened before is heard of: events come in order, and a packet of our
    /// own has come.
    fn catch_up(&self) {
        let end = Instant::now() + PROBES;
        let mut ports = HashSet::new();
        while Instant::now() < end {
            // An entry is new only once, so each packet needs a port of its own, which stays taken.
            let probe = self
                .netns
                .run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
                .or_panic("opening a socket for a probe");
            let port = probe.local_addr().or_panic("asking for a port").port();
            probe.send_to(b"probe", PROBED).or_panic("sending a probe");
            // Whichever is heard of was sent after all that happened before.
            ports.insert(port);
            let next = Instant::now() + PROBE;
            while Instant::now() < next {
                let mut heard = self.heard().into_iter();
                if heard.any(|entry| is_probe(&entry) && ports.contains(&entry.original.sport)) {
                    return;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        panic!(
            "conntrack -E heard of no packet within {PROBES:?}:\n{}",
            self.process.log()
        );
    }

    /// Pods' DNS among it.
    #[must_use]
    pub fn pod_dns(&self) -> Vec<Entry> {
        pod_dns(self.entries())
    }
}

fn pod_dns(entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().filter(Entry::is_pod_dns).collect()
}

fn is_probe(entry: &Entry) -> bool {
    SocketAddr::new(entry.original.dst, entry.original.dport) == PROBED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_of_a_translated_query() {
        let line = "udp      17 29 src=10.244.0.2 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] \
                    src=10.244.1.3 dst=10.244.0.2 sport=53 dport=40000 mark=0 use=1";
        let entry = Entry::parse(line).unwrap();
        assert_eq!(entry.protocol, "udp");
        assert_eq!(entry.original.dport, 53);
        assert_eq!(entry.reply.src, "10.244.1.3".parse::<IpAddr>().unwrap());
        assert_eq!(entry.flags, ["UNREPLIED"]);
        assert!(entry.is_pod_dns());
    }

    #[test]
    fn the_nodes_own_connection_to_a_replica_is_not_a_pods() {
        let line = "tcp      6 431999 ESTABLISHED src=10.244.0.1 dst=10.244.1.2 sport=40000 dport=53 \
                    src=10.244.1.2 dst=10.244.0.1 sport=53 dport=40000 [ASSURED] mark=0 use=1";
        assert!(!Entry::parse(line).unwrap().is_pod_dns());
    }

    #[test]
    fn entry_of_a_v6_event() {
        let line = "[1700000000.1]\t    [NEW] udp      17 30 src=fd00:10:244::2 dst=fd00:10:96::a sport=1 dport=53 [UNREPLIED] \
                    src=fd00:10:244:1::2 dst=fd00:10:244::2 sport=53 dport=1";
        assert!(Entry::parse(line).unwrap().is_pod_dns());
    }
}
