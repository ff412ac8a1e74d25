//! What happens to the agent, and to its servers.

use std::sync::Mutex;

use super::World;
use super::server::Mode;
use crate::agent::{Agent, AgentConfig};
use crate::random::Random;

/// Held while the agent is away, or the ordinary path is not whole: mostly one of both at a time, as otherwise nobody
/// could answer.
static STAGE: Mutex<()> = Mutex::new(());

fn stage() -> std::sync::MutexGuard<'static, ()> {
    STAGE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy)]
enum AgentEvent {
    Kill,
    Stop,
    Restart,
    Detach,
    Upgrade,
    Reload,
    Flush,
}

/// The agent's lane; the last agent, which is to live as long as somebody asks.
pub(super) fn agent(
    world: &World<'_>,
    mut random: Random,
    mut agent: Agent,
    mut config: AgentConfig,
) -> Agent {
    const EVENTS: [AgentEvent; 7] = [
        AgentEvent::Kill,
        AgentEvent::Stop,
        AgentEvent::Restart,
        AgentEvent::Detach,
        AgentEvent::Upgrade,
        AgentEvent::Reload,
        AgentEvent::Flush,
    ];
    while !world.is_over() {
        world.pass(random.millis(100, 1_200));
        let event = random.one_of(EVENTS);
        let time = random.millis(0, 2_500);
        match event {
            AgentEvent::Reload => {
                config.positive_ttl = match config.positive_ttl {
                    None => Some(3),
                    Some(_) => None,
                };
                world
                    .ledger
                    .note(format!("reload: {:?}", config.positive_ttl));
                agent.reload(&config);
            }
            AgentEvent::Upgrade => {
                world.ledger.note("a new agent takes over".to_owned());
                let successor = world.lab.agent(&config);
                agent.assert_ends();
                agent = successor;
                world.ledger.note("the old one has ended".to_owned());
            }
            AgentEvent::Flush => {
                world.ledger.note("flush".to_owned());
                let flushed = agent.command(&["cache", "flush"]);
                if !flushed.status.success() {
                    world.ledger.fault(format!("the flush: {flushed:?}"));
                }
            }
            AgentEvent::Stop => {
                let _stage = stage();
                world.ledger.change("SIGSTOP", |wrongs| wrongs.away = true);
                agent.pause();
                world.pass(time);
                agent.resume();
                // It serves when it answers.
                let _ = agent.status();
                world.ledger.change("SIGCONT", |wrongs| wrongs.away = false);
            }
            AgentEvent::Kill | AgentEvent::Restart | AgentEvent::Detach => {
                let _stage = stage();
                let what = format!("{event:?}");
                world.ledger.change(&what, |wrongs| {
                    wrongs.away = true;
                    wrongs.detached = matches!(event, AgentEvent::Detach);
                });
                match event {
                    AgentEvent::Kill => agent.kill9(),
                    _ => agent.stop(),
                }
                if matches!(event, AgentEvent::Detach) {
                    world.ledger.remove(|| agent.detach());
                }
                world.pass(time);
                agent = world.lab.agent(&config);
                world.ledger.change("the agent serves again", |wrongs| {
                    (wrongs.away, wrongs.detached) = (false, false);
                });
            }
        }
    }
    agent
}

#[derive(Debug, Clone, Copy)]
enum UpstreamEvent {
    /// One server has a fault.
    One,
    Slow,
    /// Packets to and from one server are lost.
    BlackHole,
    /// Both have one.
    All,
    /// kube-proxy's rules are gone.
    NoRules,
}

/// The servers' lane.
pub(super) fn upstreams(world: &World<'_>, mut random: Random) {
    const EVENTS: [UpstreamEvent; 8] = [
        UpstreamEvent::One,
        UpstreamEvent::One,
        UpstreamEvent::One,
        UpstreamEvent::Slow,
        UpstreamEvent::BlackHole,
        UpstreamEvent::BlackHole,
        UpstreamEvent::NoRules,
        UpstreamEvent::All,
    ];
    while !world.is_over() {
        world.pass(random.millis(100, 1_500));
        let event = random.one_of(EVENTS);
        let index = random.below(2) as usize;
        let (mode, time) = (random.one_of(Mode::BAD), random.millis(200, 3_000));
        let alone = random.below(4) > 0 || matches!(event, UpstreamEvent::NoRules);
        let _stage = alone.then(stage);
        let replica = &world.replicas[index];
        let healed = format!("server {index} is well");
        match event {
            UpstreamEvent::One => {
                let what = format!("server {index} is {mode:?}");
                world
                    .ledger
                    .change(&what, |wrongs| wrongs.bad[index] = true);
                replica.server.set(mode);
                world.pass(time);
                replica.server.set(Mode::Right);
                world
                    .ledger
                    .change(&healed, |wrongs| wrongs.bad[index] = false);
            }
            UpstreamEvent::Slow => {
                let what = format!("server {index} is slow");
                world
                    .ledger
                    .change(&what, |wrongs| wrongs.slow[index] = true);
                replica.server.set(Mode::Slow);
                world.pass(time);
                replica.server.set(Mode::Right);
                world
                    .ledger
                    .change(&healed, |wrongs| wrongs.slow[index] = false);
            }
            UpstreamEvent::BlackHole => {
                let what = format!("server {index} is in a black hole");
                world
                    .ledger
                    .change(&what, |wrongs| wrongs.bad[index] = true);
                replica.pod.black_hole();
                world.pass(time);
                replica.pod.reachable();
                world
                    .ledger
                    .change(&healed, |wrongs| wrongs.bad[index] = false);
            }
            UpstreamEvent::All => {
                let what = format!("both servers are {mode:?}");
                world.ledger.change(&what, |wrongs| wrongs.bad = [true; 2]);
                world.replicas.iter().for_each(|r| r.server.set(mode));
                world.pass(time);
                world
                    .replicas
                    .iter()
                    .for_each(|r| r.server.set(Mode::Right));
                let healed = "both servers are well";
                world
                    .ledger
                    .change(healed, |wrongs| wrongs.bad = [false; 2]);
            }
            UpstreamEvent::NoRules => {
                world
                    .ledger
                    .change("the rules go", |wrongs| wrongs.no_rules = true);
                world.lab.node().remove_rules();
                world.pass(time);
                let endpoints: Vec<_> = world.replicas.iter().map(|r| r.pod.addresses()).collect();
                world.lab.node().load_rules(&endpoints);
                world
                    .ledger
                    .change("the rules are back", |wrongs| wrongs.no_rules = false);
            }
        }
    }
}
