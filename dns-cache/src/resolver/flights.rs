//! Identical misses share one question to the upstreams.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::entry::Entry;

/// Receives the answer once it is there.
pub(super) type Landing = watch::Receiver<Option<Arc<Entry>>>;

/// Keys whose answers are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_key: Arc<Mutex<HashMap<Box<[u8]>, Landing>>>,
}

/// What a miss has to wait for.
#[derive(Debug)]
pub(super) enum Boarding {
    /// Nothing: the answer came in the meantime; it has this age in seconds.
    Landed(Arc<Entry>, u32),
    /// This flight.
    Flight(Landing),
}

/// The duty to fetch an answer; if it is dropped without one, whoever waits is told, and the key is free.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Mutex<HashMap<Box<[u8]>, Landing>>>,
    key: Box<[u8]>,
    answer: watch::Sender<Option<Arc<Entry>>>,
}

impl Flights {
    /// Joins the flight for `key`. If there is none, and the cache has no answer either, a new one begins,
    /// which the caller must bring to its end.
    pub(super) fn board(
        &self,
        key: &[u8],
        cached: impl FnOnce() -> Option<(Arc<Entry>, u32)>,
    ) -> (Boarding, Option<Flight>) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        match by_key.entry(key.into()) {
            Slot::Occupied(flight) => (Boarding::Flight(flight.get().clone()), None),
            Slot::Vacant(vacant) => {
                // A flight enters its answer into the cache before it leaves the map.
                if let Some((entry, age)) = cached() {
                    return (Boarding::Landed(entry, age), None);
                }
                let (answer, landing) = watch::channel(None);
                vacant.insert(landing.clone());
                let flight = Flight {
                    flights: Arc::clone(&self.by_key),
                    key: key.into(),
                    answer,
                };
                (Boarding::Flight(landing), Some(flight))
            }
        }
    }

    /// Ends a flight. `keep` enters its answer into the cache; it is left out if the key was forgotten
    /// meanwhile.
    pub(super) fn land(&self, flight: Flight, entry: Arc<Entry>, keep: impl FnOnce(Arc<Entry>)) {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if by_key.get(&flight.key).is_some_and(|own| flight.is(own)) {
            keep(Arc::clone(&entry));
        }
        drop(by_key);
        flight.answer.send_replace(Some(entry));
    }

    /// Forgets the flights for the keys that are meant: those who wait get what they bring, but it is not
    /// kept, and who asks from now on starts a new one.
    pub(super) fn forget(&self, meant: impl Fn(&[u8]) -> bool) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|key, _| !meant(key));
    }
}

impl Flight {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether those who wait there wait for this flight.
    fn is(&self, landing: &Landing) -> bool {
        self.answer.subscribe().same_channel(landing)
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
