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

/// Before servers are asked again that have not answered.
const PAUSE: Duration = Duration::from_secs(5);

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
    found: Vec<Loop>,
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
    /// Looks for loops until all zones' servers have answered, and again whenever there are other servers.
    pub async fn watch_for_loops(self: Arc<Self>) {
        loop {
            let mut answered = HashSet::new();
            while !self.look_for_loops(&mut answered).await {
                sleep(PAUSE).await;
            }
            self.loops.renewed.notified().await;
        }
    }

    /// Asks the servers of each zone that have not answered for a name that nobody else asks for; if the question comes
    /// back, that is a loop. Says whether all have answered now, so that there is nothing more to be found out.
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
        all
    }

    /// The loops that were found since the configuration was read.
    #[must_use]
    pub fn loops(&self) -> Vec<Loop> {
        self.loops.state().found.clone()
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
        self.loops.change(|state| state.probes.remove(&name));
        matches!(answer, Ok(Ok(())))
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
                let found = Loop { zone, client };
                if !state.found.contains(&found) {
                    found.report();
                    state.found.push(found);
                }
                return true;
            }
            let zone = zones.of(parts.name);
            let is_its = |found: &Loop| zone.is_some_and(|zone| zone.name == found.zone);
            let mut found = state.found.iter();
            found.any(|found| found.client == client && is_its(found))
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
