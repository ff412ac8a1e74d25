//! Does this cache ask itself? A question of its own that comes back, by way of another resolver that forwards to an
//! address that is answered here, says so (as CoreDNS's plugin `loop` finds it out).

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dns_cache_common::name::MAX_LEN;
use dns_cache_common::question::KeyParts;
use dns_cache_common::types::{class, rtype};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Miss, Resolver};
use crate::upstream::{self, Group};

/// Before servers are asked again that have not answered, or whose zone has a loop.
const PAUSE: Duration = Duration::from_secs(5);
/// So many answers in a row without the question's coming back, and a loop is no more: each question goes to one of
/// a zone's servers.
const ENDED: u32 = 12;

/// A resolver that asks this cache what this cache asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loop {
    /// The zone for which it is asked.
    pub zone: String,
    /// The address that the question came back from.
    pub client: IpAddr,
}

/// The loops that were found, and the questions that look for them.
#[derive(Debug, Default)]
pub(super) struct Loops {
    state: Mutex<State>,
    /// Whether there is anything in the state.
    any: AtomicBool,
    /// Wakes who looks for them.
    renewed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The names that are asked for, and the zones for whose servers.
    probes: HashMap<Box<[u8]>, String>,
    found: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    which: Loop,
    /// Answers since the question last came back.
    answers: u32,
}

impl State {
    /// A question for this zone came back from this client.
    fn came_back(&mut self, zone: String, client: IpAddr) {
        let which = Loop { zone, client };
        match self.found.iter_mut().find(|found| found.which == which) {
            Some(found) => found.answers = 0,
            None => {
                which.report();
                self.found.push(Found { which, answers: 0 });
            }
        }
    }

    /// A question for this zone was answered, whether it came back or not.
    fn was_answered(&mut self, zone: &str) {
        self.found.retain_mut(|found| {
            found.answers += u32::from(found.which.zone == zone);
            let stays = found.answers <= ENDED;
            if !stays {
                found.which.report_end();
            }
            stays
        });
    }
}

impl Loops {
    /// Other servers are asked from now on.
    pub(super) fn forget(&self) {
        self.change(|state| state.found.clear());
        self.renewed.notify_one();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.any
            .store(!state.probes.is_empty() || !state.found.is_empty(), Relaxed);
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// Looks for loops until all zones' servers have answered and none has a loop any more, and again whenever there are
    /// other servers.
    pub async fn watch_for_loops(self: Arc<Self>) {
        loop {
            let mut answered = HashSet::new();
            while !self.look_for_loops(&mut answered).await {
                sleep(PAUSE).await;
                for name in self.zones_with_loops() {
                    answered.remove(&name);
                }
            }
            self.loops.renewed.notified().await;
        }
    }

    fn zones_with_loops(&self) -> Vec<Box<[u8]>> {
        let (zones, state) = (self.zones(), self.loops.state());
        let is_of = |name: &[u8], found: &Found| {
            let zone = zones.of(name);
            zone.is_some_and(|zone| zone.name == found.which.zone)
        };
        let names = zones.by_name().map(|(name, _)| name);
        let with = names.filter(|name| state.found.iter().any(|found| is_of(name, found)));
        with.map(Into::into).collect()
    }

    /// Asks the servers of each zone that have not answered for a name that nobody else asks for; if the question comes
    /// back, that is a loop. Says whether all have answered now and there is none, so that nothing more is to be found out.
    async fn look_for_loops(&self, answered: &mut HashSet<Box<[u8]>>) -> bool {
        let zones = self.zones();
        let open = zones
            .by_name()
            .filter(|(name, _)| !answered.contains(*name));
        let probes =
            open.map(|(name, group)| async move { (name, self.probe_zone(name, group).await) });
        let results = join_all(probes).await;
        let all = results.iter().all(|(_, came)| *came);
        let came = results.into_iter().filter(|(_, came)| *came);
        answered.extend(came.map(|(name, _)| name.into()));
        all && self.loops.state().found.is_empty()
    }

    /// The loops that there are.
    #[must_use]
    pub fn loops(&self) -> Vec<Loop> {
        let state = self.loops.state();
        let found = state.found.iter();
        found.map(|found| found.which.clone()).collect()
    }

    /// Whether an answer came.
    async fn probe_zone(&self, below: &[u8], group: &Group) -> bool {
        let (Some(name), Some(zone)) = (random_name(below), self.zones().of(below).cloned()) else {
            return true;
        };
        self.loops
            .change(|state| state.probes.insert(name.clone(), zone.name.clone()));
        let query = Arc::new(upstream::Query::new(&KeyParts {
            name: &name,
            rtype: rtype::HINFO,
            class: class::IN,
            dnssec_ok: false,
            checking_disabled: false,
        }));
        let whatever = |_: &_, _| Ok::<_, Infallible>(());
        let answer = timeout(self.deadline, group.ask(&query, whatever)).await;
        let came = matches!(answer, Ok(Ok(())));
        self.loops.change(|state| {
            state.probes.remove(&name);
            if came {
                state.was_answered(&zone.name);
            }
        });
        came
    }

    /// Whether a client asks what this cache asked it, or would: then it must not be asked again.
    pub(super) fn closes_a_loop(&self, client: IpAddr, miss: &Miss) -> bool {
        if !self.loops.any.load(Relaxed) {
            return false;
        }
        let Some(parts) = KeyParts::read(&miss.key) else {
            return false;
        };
        let zones = self.zones();
        self.loops.change(|state| {
            if let Some(zone) = state.probes.get(parts.name).cloned() {
                state.came_back(zone, client);
                return true;
            }
            let zone = zones.of(parts.name);
            let is_its = |which: &Loop| zone.is_some_and(|zone| zone.name == which.zone);
            let mut found = state.found.iter().map(|found| &found.which);
            found.any(|which| which.client == client && is_its(which))
        })
    }
}

impl Loop {
    fn report(&self) {
        let Self { zone, client } = self;
        tracing::error!(
            "a loop: a question for the zone {zone} came back from {client}, which asks this cache in turn; \
             its questions for this zone are refused. Let {client} forward to other servers, or give the zone {zone} \
             upstreams that do not lead there"
        );
    }

    fn report_end(&self) {
        let Self { zone, client } = self;
        tracing::info!(
            "questions for the zone {zone} do not come back from {client} any more: it is served again"
        );
    }
}

/// Two random labels in front of the zone; `None` if they have no room.
fn random_name(zone: &[u8]) -> Option<Box<[u8]>> {
    let random = RandomState::new();
    let mut name = Vec::new();
    for n in 0..2 {
        let label = format!("{:016x}", random.hash_one(n));
        name.push(label.len() as u8);
        name.extend(label.bytes());
    }
    name.extend(zone);
    (name.len() <= MAX_LEN).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_ends_when_nothing_comes_back_any_more() {
        let mut state = State::default();
        let client = IpAddr::from([10, 0, 0, 1]);
        let is_found = |state: &State| !state.found.is_empty();
        for _ in 0..2 * ENDED {
            state.came_back("a.".to_owned(), client);
            state.was_answered("a.");
            state.was_answered("b.");
        }
        assert!(is_found(&state));
        for answer in 1..=ENDED {
            assert!(is_found(&state), "{answer}");
            state.was_answered("a.");
        }
        assert!(!is_found(&state));
    }
}
