//! Filling a cache: many different names, each until it is answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_cache_tests::Netns;

use super::names;
use super::probe::{Verdict, udp, verdict};

/// Clients that ask at the same time.
const CLIENTS: usize = 8;
/// Queries of each that are on their way at once: less than a socket's buffer holds.
const WINDOW: usize = 48;
/// How long the answers to these are waited for before the rest is asked for again.
const PATIENCE: Duration = Duration::from_millis(500);
const TRIES: usize = 20;

/// Asks for the A records of `name(0)`, `name(1)`, … `name(count - 1)`, and tells of each tenth, in percent.
pub(super) fn fill(
    netns: &Netns,
    server: SocketAddr,
    count: usize,
    name: impl Fn(usize) -> String + Sync,
    progress: impl Fn(usize) + Sync,
) -> Result<()> {
    let done = AtomicUsize::new(0);
    let answered = |more: usize| {
        let before = done.fetch_add(more, Relaxed);
        if let Some(percent) = passed(before, before + more, count) {
            progress(percent);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (name, answered) = (&name, &answered);
                scope.spawn(move || {
                    let own: Vec<_> = (client..count).step_by(CLIENTS).collect();
                    own.chunks(WINDOW).try_for_each(|indices| {
                        window(netns, server, indices, name).map(|()| answered(indices.len()))
                    })
                })
            })
            .collect();
        for client in clients {
            let Ok(result) = client.join() else {
                bail!("a client panicked");
            };
            result?;
        }
        Ok(())
    })
}

/// The last whole tenth of `all` that lies between two counts, in percent.
fn passed(before: usize, after: usize, all: usize) -> Option<usize> {
    let tenths = |count: usize| count * 10 / all.max(1);
    (tenths(after) > tenths(before)).then(|| tenths(after) * 10)
}

fn window(
    netns: &Netns,
    server: SocketAddr,
    indices: &[usize],
    name: &impl Fn(usize) -> String,
) -> Result<()> {
    // A port of its own: what comes late belongs to nobody else.
    let socket = udp(netns, server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let query = |(id, index): (usize, &usize)| {
        let mut query = names::query(&name(*index));
        query[..2].copy_from_slice(&(id as u16).to_be_bytes());
        query
    };
    let queries: Vec<_> = indices.iter().enumerate().map(query).collect();
    let mut open: Vec<bool> = vec![true; queries.len()];
    let mut buffer = [0; 4096];
    for _ in 0..TRIES {
        for (query, _) in queries.iter().zip(&open).filter(|(_, open)| **open) {
            socket.send(query).context("sending a query")?;
        }
        while open.contains(&true)
            && let Ok(length) = socket.recv(&mut buffer)
        {
            let answer = &buffer[..length];
            let id = answer.first_chunk().map(|id| u16::from_be_bytes(*id));
            if let Some(id) = id.map(usize::from)
                && let Some(query) = queries.get(id)
                && verdict(query, answer) == Verdict::Right
            {
                open[id] = false;
            }
        }
        if !open.contains(&true) {
            return Ok(());
        }
    }
    bail!("names stay without an answer after {TRIES} queries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenth_is_told_once() {
        let told: Vec<_> = (0..1000)
            .step_by(8)
            .filter_map(|before| passed(before, before + 8, 1000))
            .collect();
        assert_eq!(told, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(passed(0, 48, 48), Some(100));
        assert_eq!(passed(0, 0, 0), None);
    }
}
