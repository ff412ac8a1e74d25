//! Which server is asked next: one that answers, of the nearest, with the least to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::server::Server;

/// The index of a server that is not among those `asked` already; `None` if all are.
///
/// Ejected servers come last, then the distance counts. Of those that are left two are drawn by their weights, and the
/// one with fewer queries in flight for its weight is taken: load spreads, and a server that hangs gets no more of it.
pub(super) fn choose(servers: &[Arc<Server>], asked: &[usize]) -> Option<usize> {
    let rank = |server: &Server| (server.health.is_ejected(), server.upstream.distance);
    let candidates = || {
        let open = |(index, _): &(usize, _)| !asked.contains(index);
        servers.iter().enumerate().filter(open)
    };
    let best = candidates().map(|(_, server)| rank(server)).min()?;
    let drawn = |but: Option<usize>| {
        draw(candidates().filter(|(index, server)| rank(server) == best && Some(*index) != but))
    };
    let (first, one) = drawn(None)?;
    let Some((second, other)) = drawn(Some(first)) else {
        return Some(first);
    };
    // Compared as fractions, queries by weight.
    let load = |of: &Server, by: &Server| of.health.in_flight() * by.upstream.weight as usize;
    if load(other, one) < load(one, other) {
        Some(second)
    } else {
        Some(first)
    }
}

/// One of the candidates, each as often as its weight says.
fn draw<'a>(
    candidates: impl Iterator<Item = (usize, &'a Arc<Server>)> + Clone,
) -> Option<(usize, &'a Arc<Server>)> {
    let total: u64 = candidates
        .clone()
        .map(|(_, s)| u64::from(s.upstream.weight))
        .sum();
    let mut left = (u64::from(turn()) * total) >> u32::BITS;
    candidates.into_iter().find(|(_, server)| {
        let weight = u64::from(server.upstream.weight);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}

/// Steps of the golden ratio: numbers that fill the range evenly, however few are drawn.
fn turn() -> u32 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    TURN.fetch_add(0x9e37_79b9, Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Upstream;
    use crate::upstream::health::Fault;
    use crate::upstream::{Timings, Transport};

    /// Servers from pairs of distance and weight.
    fn servers(of: &[(u32, u32)]) -> Vec<Arc<Server>> {
        let server = |(distance, weight): &(u32, u32)| {
            let upstream = Upstream {
                distance: *distance,
                weight: *weight,
                ..Upstream::from("192.0.2.1:53".parse::<std::net::SocketAddr>().unwrap())
            };
            Arc::new(Server::new(upstream, Transport::Tcp, Timings::default()))
        };
        of.iter().map(server).collect()
    }

    /// How often each is chosen of a thousand times.
    fn chosen(servers: &[Arc<Server>]) -> Vec<usize> {
        let mut counts = vec![0; servers.len()];
        for _ in 0..1000 {
            counts[choose(servers, &[]).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_nearest_are_asked_and_others_when_those_are_out() {
        let servers = servers(&[(1, 1), (0, 1), (0, 1), (2, 1)]);
        let counts = chosen(&servers);
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert_eq!(choose(&servers, &[1, 2]), Some(0));
        assert_eq!(choose(&servers, &[0, 1, 2]), Some(3));
        assert_eq!(choose(&servers, &[0, 1, 2, 3]), None);
        for near in [1, 2] {
            servers[near].down(Fault::Timeout);
        }
        assert_eq!(chosen(&servers), [1000, 0, 0, 0]);
        for far in [0, 3] {
            servers[far].down(Fault::Timeout);
        }
        // All are out: the nearest again.
        let counts = chosen(&servers);
        assert_eq!((counts[0], counts[3]), (0, 0));
    }

    #[test]
    fn weights_are_shares() {
        let counts = chosen(&servers(&[(0, 1), (0, 2), (0, 7)]));
        for (count, share) in counts.iter().zip([100, 200, 700]) {
            assert!(count.abs_diff(share) < 50, "{counts:?}");
        }
    }

    #[test]
    fn who_has_the_least_to_do_is_asked() {
        let servers = servers(&[(0, 1), (0, 3)]);
        let _one = servers[0].health.sent();
        assert_eq!(chosen(&servers), [0, 1000]);
        let _three: Vec<_> = (0..4).map(|_| servers[1].health.sent()).collect();
        assert_eq!(chosen(&servers), [1000, 0]);
    }
}
