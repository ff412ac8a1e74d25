//! kxdpgun: queries and replies by AF_XDP, past the generator's own sockets.
//!
//! It works on a macvlan interface upon the pod's veth. On the veth itself its XDP program would run in the driver,
//! which `bpf_redirect_peer` delivers behind; a macvlan interface has generic XDP, which sees every packet.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::{Family, Pod, addresses};

use super::generator;

const INTERFACE: &str = "xdp0";
/// Each run's length: kxdpgun takes whole seconds.
pub(super) const TIME: Duration = Duration::from_secs(1);

/// What it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// With rcode NOERROR.
    pub(super) right: u64,
}

/// The generator's interface in a pod. Dropping it gives the pod its own one back.
#[derive(Debug)]
pub(super) struct Interface<'a>(&'a Pod);

impl<'a> Interface<'a> {
    /// Makes it; it takes over the pod's address and all packets.
    pub(super) fn make(pod: &'a Pod) -> Result<Self> {
        let add = format!("link add link eth0 name {INTERFACE} type macvlan mode passthru");
        let output = pod
            .netns()
            .output(Command::new("ip").args(add.split_whitespace()));
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("no macvlan interface: {error}");
        }
        let made = Self(pod);
        let (own, gateway) = (pod.address(Family::V4), addresses::GATEWAY.v4);
        pod.netns().ip(&format!(
            "addr add {own}/32 dev {INTERFACE}\nlink set {INTERFACE} up\n\
             route replace {gateway} dev {INTERFACE} scope link\n\
             route replace default via {gateway} dev {INTERFACE}\n"
        ));
        Ok(made)
    }

    /// Sends the questions of a file, again and again, this many a second, or as many as it can.
    pub(super) fn run(&self, server: &str, questions: &Path, rate: u32) -> Result<Outcome> {
        let questions = questions.to_str().context("the lab's folder is no UTF-8")?;
        let (seconds, rate) = (TIME.as_secs().to_string(), rate.to_string());
        let arguments = [
            "-I", INTERFACE, "-t", &seconds, "-Q", &rate, "-i", questions, server,
        ];
        let log = generator::run(self.0.netns(), "kxdpgun", arguments, TIME)?;
        parse(&log).with_context(|| format!("kxdpgun printed no statistics:\n{log}"))
    }
}

impl Drop for Interface<'_> {
    fn drop(&mut self) {
        let mut del = Command::new("ip");
        del.args(["link", "del", INTERFACE]);
        // The pod's namespace may be about to end.
        let _ = self.0.netns().output(&mut del);
        self.0.reconnect();
    }
}

fn parse(text: &str) -> Option<Outcome> {
    let number = |name: &str| -> Option<u64> {
        let mut lines = text.lines();
        let rest = lines.find_map(|line| line.trim().strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(Outcome {
        sent: number("total queries:")?,
        // Without an answer there is no such line.
        right: number("responded NOERROR:").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_kxdpgun() {
        let text = "using interface xdp0, XDP threads 1, UDP, emulated mode\n\
                    thread#00: sent 193210, received 193000\n\
                    total queries:     193210 (96605 pps)\n\
                    total replies:     193000 (96500 pps) (99%)\n\
                    responded NOERROR:   192900\n\
                    responded SERVFAIL:  100\n";
        let (sent, right) = (193_210, 192_900);
        assert_eq!(parse(text), Some(Outcome { sent, right }));
        let text = "total queries:     10 (5 pps)\ntotal replies:     0 (0 pps) (0%)\n";
        assert_eq!(parse(text).map(|outcome| outcome.right), Some(0));
        assert_eq!(parse("failed to initialize XDP socket#0\n"), None);
    }
}
