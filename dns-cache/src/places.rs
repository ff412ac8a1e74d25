//! Places that clients take: so many in all, and so many for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, in all and for each client.
#[derive(Debug)]
pub(crate) struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    all: usize,
    each: usize,
    taken: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self(Mutex::new(State {
            all,
            each,
            taken: 0,
            by_client: HashMap::new(),
        }))
    }

    /// From here on there are so many; who has one keeps it.
    pub(crate) fn resize(&self, all: usize, each: usize) {
        let mut state = self.lock();
        (state.all, state.each) = (all, each);
    }

    /// A place for a client, if there is one.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut state = self.lock();
        let of_client = state.by_client.get(&client).copied().unwrap_or_default();
        if state.taken >= state.all || of_client >= state.each {
            return None;
        }
        state.taken += 1;
        state.by_client.insert(client, of_client + 1);
        Some(Place {
            places: Arc::clone(self),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.taken -= 1;
        if let Some(count) = state.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                state.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_all_and_for_each() {
        let places = Arc::new(Places::new(3, 2));
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap());
        let held = (places.take(a).unwrap(), places.take(a).unwrap());
        assert!(places.take(a).is_none());
        let of_b = places.take(b).unwrap();
        assert!(places.take(b).is_none());
        drop(held);
        assert!(places.take(b).is_some());
        places.resize(1, 1);
        assert!(places.take(a).is_none());
        drop(of_b);
        assert!(places.lock().by_client.is_empty());
        assert!(places.take(a).is_some());
    }
}
