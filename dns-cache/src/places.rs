//! Places that clients take: so many in all, and so many for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Places, in all and for each client.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
    all: usize,
    each: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
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
        Self {
            taken: Mutex::default(),
            all,
            each,
        }
    }

    /// A place for a client, if there is one.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.all >= self.all || of_client >= self.each {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, of_client + 1);
        Some(Place {
            places: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(&self.client);
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
        drop(of_b);
        assert!(places.taken.lock().unwrap().by_client.is_empty());
    }
}
