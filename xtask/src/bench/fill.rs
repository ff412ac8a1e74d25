//! Filling a cache: many different names, each until it is answered.

use std::net::SocketAddr;
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

/// Asks for the A records of `name(0)`, `name(1)`, … `name(count - 1)`.
pub(super) fn fill(
    netns: &Netns,
    server: SocketAddr,
    count: usize,
    name: impl Fn(usize) -> String + Sync,
) -> Result<()> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let name = &name;
                scope.spawn(move || {
                    let own: Vec<_> = (client..count).step_by(CLIENTS).collect();
                    own.chunks(WINDOW)
                        .try_for_each(|indices| window(netns, server, indices, name))
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
