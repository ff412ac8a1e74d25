//! The whole path with the agent: what must be true of the packet's way and of the resolver.
//!
//! What the same lab does without the agent is shown in `lab.rs` and by the tests named `control_…`.

mod access;
mod answers;
mod cache;
mod capabilities;
mod churn;
mod clients;
mod cohabitation;
mod cuts;
mod death;
mod detach;
mod edns;
mod fallback;
mod faults;
mod forged;
mod hand_over;
mod host;
mod kernel;
mod kubernetes;
mod liar;
mod lookup;
mod loops;
mod malformed;
mod metrics;
mod migration;
mod overload;
mod pods;
mod privileges;
mod reload;
mod rewritten;
mod scale;
mod sizes;
mod starved;
mod transports;
mod trouble;
mod untouched;
mod upstreams;
mod way;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dns_cache_tests::agent::attach_modes;
use dns_cache_tests::patience::{slowness, wait_until};
use dns_cache_tests::wire::rtype;
use dns_cache_tests::{
    Agent, AgentConfig, Client, Flavour, Lab, Message, OrPanic, Query, Transport,
};

/// A name that every test may ask for.
const WEB: &str = "web.default.svc.cluster.local";
const WEB_A: &str = "A 10.96.10.10";

/// A lab with the agent. (Bound in this order, the agent goes first.)
fn lab_with_agent(flavour: Flavour) -> (Lab, Agent) {
    let lab = Lab::builder().flavour(flavour).start();
    let agent = lab.agent(&AgentConfig::default());
    (lab, agent)
}

/// In which a wedged agent is passed by, and comes back, on a machine that has other things to do. (The promise is 600 ms,
/// which the incident `stop` measures.)
const PASSED_BY: Duration = Duration::from_secs(20);

/// Asks by these transports until queries go past an agent that has just been wedged, whichever of its sockets they are for.
#[track_caller]
fn wait_until_passed_by(transports: &[Transport], mut ask: impl FnMut(Transport) -> bool) {
    // How much later than one of its sockets another one may have shown its last progress.
    const ALL: Duration = Duration::from_millis(200);
    let began = Instant::now();
    for transport in transports {
        while !ask(*transport) {
            let waited = began.elapsed();
            assert!(waited < PASSED_BY * slowness(), "{transport:?}: {waited:?}");
        }
    }
    std::thread::sleep(ALL * slowness());
}

/// Asks until the kernel has the answer: it is put there after the reply to the first who asks.
#[track_caller]
fn warm(agent: &Agent, client: &Client, name: &str) {
    let before = agent.counters();
    wait_until(
        || format!("the kernel does not answer {name}"),
        || {
            let _ = client.lookup(name, rtype::A);
            before.answered(&agent.counters()) > 0
        },
    );
}

/// Asks for [`WEB`], which must be answered rightly.
#[track_caller]
fn assert_web(client: &Client, transport: Transport) -> Message {
    let reply = client.ask(transport, &Query::new(WEB, rtype::A));
    let message = reply
        .or_panic(format_args!("{WEB} over {transport:?}"))
        .message;
    assert_eq!(message.data(), [WEB_A]);
    message
}

/// Ends the lookups of other threads, on a panic too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A name of which no test has asked before: it is in no cache.
fn fresh(number: u16) -> String {
    assert!(number < dns_cache_tests::zones::BULK);
    format!("svc-{number}.bulk.svc.cluster.local")
}
