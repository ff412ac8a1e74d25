//! Identical misses share one question to the upstreams.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Entry;
use super::failures::Failure;

/// How a flight ends.
pub(super) type Outcome = Result<Arc<Entry>, Failure>;

/// Keys whose answers are on their way.
#[derive(Debug)]
pub(super) struct Flights {
    by_key: Arc<ByKey>,
    most: AtomicUsize,
}

type ByKey = Mutex<HashMap<Box<[u8]>, Landing>>;

/// Receives the answer once it is there.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    outcome: watch::Receiver<Option<Outcome>>,
    /// When the upstreams were asked.
    pub(super) began: Instant,
}

/// What a miss has to wait for.
#[derive(Debug)]
pub(super) enum Boarding {
    /// Nothing: the answer came in the meantime; it has this age in seconds.
    Landed(Arc<Entry>, u32),
    /// A flight that is on its way.
    Joined(Landing),
    /// A new flight, which the caller must bring to its end.
    New(Landing, Flight),
    /// There are too many flights for another one.
    Full,
}

/// The duty to fetch an answer; if it is dropped without one, whoever waits is told, and the key is free.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<ByKey>,
    key: Box<[u8]>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flights {
    /// Room for so many at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_key: Arc::default(),
            most: most.into(),
        }
    }

    /// From here on there is room for so many; those that are on their way go on.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Joins the flight for `key`. If there is none, and the cache has no answer either, a new one begins.
    pub(super) fn board(
        &self,
        key: &[u8],
        cached: impl FnOnce() -> Option<(Arc<Entry>, u32)>,
    ) -> Boarding {
        let mut by_key = self.lock();
        if let Some(landing) = by_key.get(key) {
            return Boarding::Joined(landing.clone());
        }
        // A flight enters its answer into the cache before it leaves the map.
        if let Some((entry, age)) = cached() {
            return Boarding::Landed(entry, age);
        }
        match self.enter(&mut by_key, key) {
            Some((landing, flight)) => Boarding::New(landing, flight),
            None => Boarding::Full,
        }
    }

    /// Begins a flight that nobody waits for yet; `None` if there is one for this key, or too many.
    pub(super) fn begin(&self, key: &[u8]) -> Option<Flight> {
        self.enter(&mut self.lock(), key).map(|(_, flight)| flight)
    }

    /// When the flight for a key began, if there is one.
    pub(super) fn began(&self, key: &[u8]) -> Option<Instant> {
        self.lock().get(key).map(|landing| landing.began)
    }

    /// Ends a flight: what comes from now on for the same key begins another. `keep` remembers its outcome;
    /// it is left out if the key was forgotten meanwhile.
    pub(super) fn land(
        &self,
        flight: Flight,
        outcome: Outcome,
        keep: impl FnOnce(&[u8], &Outcome),
    ) {
        let by_key = self.lock();
        if by_key.get(&flight.key).is_some_and(|own| flight.is(own)) {
            keep(&flight.key, &outcome);
        }
        drop(by_key);
        flight.outcome.send_replace(Some(outcome));
    }

    /// Forgets the flights for the keys that are meant: those who wait get what they bring, but it is not
    /// kept, and who asks from now on starts a new one.
    pub(super) fn forget(&self, meant: impl Fn(&[u8]) -> bool) {
        self.lock().retain(|key, _| !meant(key));
    }

    fn enter(
        &self,
        by_key: &mut HashMap<Box<[u8]>, Landing>,
        key: &[u8],
    ) -> Option<(Landing, Flight)> {
        if by_key.len() >= self.most.load(Relaxed) {
            return None;
        }
        let Slot::Vacant(vacant) = by_key.entry(key.into()) else {
            return None;
        };
        let (sender, outcome) = watch::channel(None);
        let landing = Landing {
            outcome,
            began: Instant::now(),
        };
        vacant.insert(landing.clone());
        let flight = Flight {
            flights: Arc::clone(&self.by_key),
            key: key.into(),
            outcome: sender,
        };
        Some((landing, flight))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Landing>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flights under way.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Landing {
    /// How the flight ends; `None` if it was given up.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone())
    }
}

impl Flight {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether those who wait there wait for this flight.
    fn is(&self, landing: &Landing) -> bool {
        self.outcome.subscribe().same_channel(&landing.outcome)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut by_key = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // After it was forgotten another one may be on its way.
        if by_key.get(&self.key).is_some_and(|own| self.is(own)) {
            by_key.remove(&self.key);
        }
    }
}
