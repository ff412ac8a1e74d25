//! Does this cache ask itself? A question of its own that comes back, by way of another resolver that forwards to an
//! address that is answered here, says so (as CoreDNS's plugin `loop` finds it out).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
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

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.any
            .store(!state.probes.is_empty() || !state.found.is_empty(), Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// Looks for loops until all zones' servers have answered, and again whenever there are other servers.
    pub async fn watch_for_loops(self: Arc<Self>) {
        loop {
            while !self.look_for_loops().await {
                sleep(PAUSE).await;
            }
            self.loops.renewed.notified().await;
        }
    }

    /// Asks the servers of each zone for a name that nobody else asks for; if the question comes back, that is a loop.
    /// Says whether all of them have answered, so that there is nothing more to be found out.
    async fn look_for_loops(&self) -> bool {
        let zones = self.zones();
        let probes = zones.by_name().map(|(name, group)| {
            let zone = zones.of(name).map(|zone| zone.name.clone());
            self.probe_zone(name, zone.unwrap_or_default(), group)
        });
        join_all(probes).await.into_iter().all(|answered| answered)
    }

    /// The loops that were found since the configuration was read.
    #[must_use]
    pub fn loops(&self) -> Vec<Loop> {
        self.loops.state().found.clone()
    }

    async fn probe_zone(&self, below: &[u8], zone: String, group: &Group) -> bool {
        let Some(name) = random_name(below) else {
            return true;
        };
        self.loops
            .change(|state| drop(state.probes.insert(name.clone(), zone)));
        let query = Arc::new(upstream::Query::new(&KeyParts {
            name: &name,
            rtype: rtype::HINFO,
            class: class::IN,
            dnssec_ok: false,
            checking_disabled: false,
        }));
        let whatever = |_: &_, _| Ok::<_, Infallible>(());
        let answer = timeout(self.deadline, group.ask(&query, whatever)).await;
        self.loops.change(|state| drop(state.probes.remove(&name)));
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
        let mut closes = false;
        self.loops.change(|state| {
            if let Some(zone) = state.probes.get(parts.name).cloned() {
                let found = Loop { zone, client };
                if !state.found.contains(&found) {
                    found.report();
                    state.found.push(found);
                }
                closes = true;
                return;
            }
            let zone = zones.of(parts.name);
            closes = state.found.iter().any(|found| {
                found.client == client && zone.is_some_and(|zone| zone.name == found.zone)
            });
        });
        closes
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
