//! What happens to the agent, and to its servers.

use std::sync::Mutex;
use std::time::Duration;

use super::World;
use super::server::{Mode, Server};
use super::zone::Kind;
use crate::addresses::Family;
use crate::agent::{Agent, AgentConfig};
use crate::client::Transport;
use crate::conntrack_max::ConntrackMax;
use crate::random::Random;
use crate::wire::{Query, rtype};

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
    /// The same, and the maps have another layout.
    NewLayout,
    Reload,
    Flush,
    /// The node's conntrack table is full. No agent comes then: it could not connect to its servers.
    FullTable,
}

/// The agent's lane; the last agent, which is to live as long as somebody asks.
pub(super) fn agent(
    world: &World<'_>,
    mut random: Random,
    mut agent: Agent,
    mut config: AgentConfig,
) -> Agent {
    const EVENTS: [AgentEvent; 9] = [
        AgentEvent::Kill,
        AgentEvent::Stop,
        AgentEvent::Restart,
        AgentEvent::Detach,
        AgentEvent::Upgrade,
        AgentEvent::NewLayout,
        AgentEvent::Reload,
        AgentEvent::Flush,
        AgentEvent::FullTable,
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
            AgentEvent::Upgrade | AgentEvent::NewLayout => {
                let new_layout = matches!(event, AgentEvent::NewLayout);
                let what = format!("a new agent takes over: {event:?}");
                world
                    .ledger
                    .change(&what, |wrongs| wrongs.new_layout = new_layout);
                if new_layout {
                    agent.age_maps();
                }
                let successor = world.lab.agent(&config);
                agent.assert_ends();
                agent = successor;
                let what = "the old one has ended";
                world
                    .ledger
                    .change(what, |wrongs| wrongs.new_layout = false);
            }
            AgentEvent::Flush => {
                world.ledger.note("flush".to_owned());
                let flushed = agent.command(&["cache", "flush"]);
                if !flushed.status.success() {
                    world.ledger.fault(format!("the flush: {flushed:?}"));
                }
            }
            AgentEvent::FullTable => {
                let _stage = stage();
                full_table(world, &mut random, time);
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

/// No namespace may have more entries than the node has now, or than incident 2 lets it have: what is open stays open,
/// and nothing new has room.
fn full_table(world: &World<'_>, random: &mut Random, time: Duration) {
    const LEAST: u32 = 64;
    // The agent has to have a connection by now.
    let query = Query::new(&Kind::Unique.name(random.next()), rtype::A);
    let client = world.lab.pod(0).client(Family::V4);
    if client.ask(Transport::Connected, &query).is_err() {
        return;
    }
    let entries = world.lab.node().conntrack().count();
    let most = u32::try_from(entries).unwrap_or(u32::MAX).max(LEAST);
    let what = format!("the conntrack table is full: {entries} entries, of {most}");
    world.ledger.change(&what, |wrongs| wrongs.full = true);
    let max = ConntrackMax::set(world.machine, world.lab.scope(), most);
    world.pass(time);
    drop(max);
    world
        .ledger
        .change("the table has room", |wrongs| wrongs.full = false);
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
    /// A server is started anew, and the rules are gone meanwhile.
    Restart,
    /// Both are.
    RestartAll,
}

/// The servers' lane.
pub(super) fn upstreams(world: &World<'_>, mut random: Random) {
    const EVENTS: [UpstreamEvent; 10] = [
        UpstreamEvent::One,
        UpstreamEvent::One,
        UpstreamEvent::One,
        UpstreamEvent::Slow,
        UpstreamEvent::BlackHole,
        UpstreamEvent::BlackHole,
        UpstreamEvent::NoRules,
        UpstreamEvent::Restart,
        UpstreamEvent::RestartAll,
        UpstreamEvent::All,
    ];
    while !world.is_over() {
        world.pass(random.millis(100, 1_500));
        let event = random.one_of(EVENTS);
        let index = random.below(2) as usize;
        let (mode, time) = (random.one_of(Mode::BAD), random.millis(200, 3_000));
        let rules_go = matches!(
            event,
            UpstreamEvent::NoRules | UpstreamEvent::Restart | UpstreamEvent::RestartAll
        );
        let alone = random.below(4) > 0 || rules_go;
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
                rules_return(world);
            }
            UpstreamEvent::Restart => restart(world, [index == 0, index == 1], time),
            UpstreamEvent::RestartAll => restart(world, [true; 2], time),
        }
    }
}

/// Incident 4: kube-proxy forgets the entries of the endpoints that go, and for a moment its rules are gone.
fn restart(world: &World<'_>, which: [bool; 2], time: Duration) {
    let servers = || world.replicas.iter().map(|r| &r.server).zip(which);
    let going = || servers().filter_map(|(server, goes)| goes.then_some(server));
    let what = format!("CoreDNS restarts without rules: {which:?}");
    world.ledger.change(&what, |wrongs| {
        (wrongs.bad, wrongs.no_rules) = (which, true);
    });
    world.lab.node().remove_service_rules();
    going().for_each(Server::stop);
    world.lab.node().conntrack().forget_service();
    world.pass(time);
    going().for_each(Server::resume);
    world
        .ledger
        .change("CoreDNS serves", |wrongs| wrongs.bad = [false; 2]);
    rules_return(world);
}

/// What went through without rules must not stick: that is the ordinary path's fault, and no agent's.
fn rules_return(world: &World<'_>) {
    let endpoints: Vec<_> = world.replicas.iter().map(|r| r.pod.addresses()).collect();
    world.lab.node().load_rules(&endpoints);
    world.lab.node().conntrack().forget_service();
    world
        .ledger
        .change("the rules are back", |wrongs| wrongs.no_rules = false);
}
