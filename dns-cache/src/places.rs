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

/// One place or several, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    client: IpAddr,
    count: usize,
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
        self.take_many(client, 1)
    }

    /// So many places for a client, if there are as many.
    pub(crate) fn take_many(self: &Arc<Self>, client: IpAddr, count: usize) -> Option<Place> {
        let mut state = self.lock();
        let of_client = state.by_client.get(&client).copied().unwrap_or_default();
        if state.taken + count > state.all || of_client + count > state.each {
            return None;
        }
        state.taken += count;
        state.by_client.insert(client, of_client + count);
        Some(Place {
            places: Arc::clone(self),
            client,
            count,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.taken -= self.count;
        if let Some(of_client) = state.by_client.get_mut(&self.client) {
            *of_client -= self.count;
            if *of_client == 0 {
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
        assert!(places.take_many(b, 2).is_none() && places.take_many(a, 2).is_some());
        assert!(places.take(b).is_some());
        places.resize(1, 1);
        assert!(places.take(a).is_none());
        drop(of_b);
        assert!(places.lock().by_client.is_empty());
        assert!(places.take(a).is_some());
    }
}
