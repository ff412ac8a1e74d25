//! Identical misses share one question to the upstreams.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::entry::Entry;

/// Receives the answer once it is there.
pub(super) type Landing = watch::Receiver<Option<Arc<Entry>>>;

type ByKey = Mutex<HashMap<Box<[u8]>, Landing>>;

/// Keys whose answers are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_key: Arc<ByKey>,
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
    flights: Arc<ByKey>,
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
                let (flight, landing) = Flight::new(&self.by_key, key);
                vacant.insert(landing.clone());
                (Boarding::Flight(landing), Some(flight))
            }
        }
    }

    /// Begins a flight that nobody waits for yet; `None` if there is one for this key.
    pub(super) fn begin(&self, key: &[u8]) -> Option<Flight> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot::Vacant(vacant) = by_key.entry(key.into()) else {
            return None;
        };
        let (flight, landing) = Flight::new(&self.by_key, key);
        vacant.insert(landing);
        Some(flight)
    }

    /// Flights under way.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.len()
    }

    /// Ends a flight.
    pub(super) fn land(&self, flight: Flight, entry: Arc<Entry>) {
        flight.answer.send_replace(Some(entry));
    }
}

impl Flight {
    fn new(flights: &Arc<ByKey>, key: &[u8]) -> (Self, Landing) {
        let (answer, landing) = watch::channel(None);
        let flight = Self {
            flights: Arc::clone(flights),
            key: key.into(),
            answer,
        };
        (flight, landing)
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
