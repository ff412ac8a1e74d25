//! All cached, from a generator that costs next to nothing itself.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Context, Load, Measured, Needs};
use crate::bench::kxdpgun::{Interface, TIME};
use crate::bench::names;
use crate::bench::probe::Probe;

pub(super) const LOAD: Load = Load {
    key: "xdp",
    title: "all cached, AF_XDP generator",
    method: "kxdpgun (Knot DNS) in a second pod, on a macvlan interface upon its veth, as bpf_redirect_peer delivers behind an XDP program in the veth's driver; AF_XDP in copy mode, one thread; it does not wait for replies, so rates are tried one after the other for a second each, up to all that it can send, and the most replies a second count",
    once: false,
    needs: Needs::Nothing,
    run,
};

fn run(context: &Context<'_>) -> Result<Measured> {
    let system = context.system;
    let questions = system.lab.scope().dir().join("xdp.txt");
    fs::write(&questions, names::cached_lines()).context("writing kxdpgun's input")?;
    let mut measured = Measured::default();
    let pod = system.other_pod();
    let interface = match Interface::make(pod) {
        Ok(interface) => interface,
        Err(error) => {
            measured.remarks.push(format!("not measured: {error:#}"));
            return Ok(measured);
        }
    };
    // kxdpgun looks the gateway's MAC address up and does not ask for it.
    Probe::new(pod.netns(), system.server)?.insist(&names::query(&names::cached(0)))?;
    let server = system.server.ip().to_string();
    let (mut most, mut sent) = (0.0, 0.0);
    for rate in context.plan.xdp_rates {
        context.warm()?;
        let outcome = match interface.run(&server, &questions, *rate) {
            Ok(outcome) => outcome,
            Err(error) => {
                let reason = format!("{error:#}").replace('\n', " ");
                measured.remarks.push(format!("not measured: {reason}"));
                return Ok(measured);
            }
        };
        let replies = outcome.right as f64 / TIME.as_secs_f64();
        if replies > most {
            (most, sent) = (replies, outcome.sent as f64 / TIME.as_secs_f64());
        }
    }
    measured.figure("xdp.replies", most);
    measured.figure("xdp.sent", sent);
    Ok(measured)
}
