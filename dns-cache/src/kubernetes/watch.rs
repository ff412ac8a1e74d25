//! A list of EndpointSlices that follows the API server's: list, watch, and what may go wrong between.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::client::{Client, Error};
use super::health::Health;
use super::slice::{EndpointSlice, Metadata, Slices};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timings {
    /// When the server shall end a watch; a new one begins where it ended.
    pub(super) watch: Duration,
    /// A watch on which nothing comes for so long is given up. Bookmarks come once a minute.
    pub(super) silence: Duration,
    /// The first pause after a failure; each one after it is twice as long.
    pub(super) pause: Duration,
    /// The longest pause.
    pub(super) longest_pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(300),
            silence: Duration::from_secs(150),
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: Metadata,
    items: Option<Vec<EndpointSlice>>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Whose slices are followed, and how.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) client: &'a Client,
    /// The list's path and its selector.
    pub(super) path: String,
    pub(super) timings: Timings,
    pub(super) health: &'a Health,
}

impl Watch<'_> {
    /// Tells of all slices, at first and whenever they are others, without end; or that they cannot be listed.
    pub(super) async fn run(&self, mut tell: impl FnMut(Option<&Slices>)) {
        let mut pauses = Pauses::new(self.timings);
        // Whatever the server has at hand will do for a start; after a watch that cannot be continued, only the
        // latest state is known not to be older.
        let mut version = "0";
        loop {
            let path = format!("{}&resourceVersion={version}", self.path);
            match self.client.get::<List>(&path).await {
                Ok(list) => {
                    self.health.heard();
                    let mut changed = |slices: &Slices| tell(Some(slices));
                    self.follow(list, &mut pauses, &mut changed).await;
                    version = "";
                }
                Err(error) => {
                    self.health.failed(&error);
                    tell(None);
                    pauses.next().await;
                }
            }
        }
    }

    /// Watches from a list on, until a new one is needed.
    async fn follow(&self, list: List, pauses: &mut Pauses, changed: &mut impl FnMut(&Slices)) {
        let mut version = list.metadata.resource_version;
        let items = list.items.unwrap_or_default().into_iter();
        let mut slices: Slices = items
            .map(|slice| (slice.metadata.name.clone(), slice))
            .collect();
        changed(&slices);
        loop {
            let began = Instant::now();
            let ended = self.watch(&mut version, &mut slices, changed).await;
            if began.elapsed() > self.timings.longest_pause {
                pauses.reset();
            }
            let is_over = match ended {
                Ok(()) => false,
                Err(Error::Gone) => true,
                Err(error) => {
                    self.health.failed(&error);
                    error.is_lasting()
                }
            };
            // Not at once: a server that always says so would be asked without end.
            pauses.next().await;
            if is_over {
                return;
            }
        }
    }

    /// One watch, until the server or the connection ends it. `version` is where the next one begins.
    async fn watch(
        &self,
        version: &mut String,
        slices: &mut Slices,
        changed: &mut impl FnMut(&Slices),
    ) -> Result<(), Error> {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={version}",
            self.path,
            self.timings.watch.as_secs()
        );
        let mut body = self.client.open(&path).await?;
        self.health.heard();
        let mut lines = Lines::default();
        while let Some(chunk) = body.chunk(self.timings.silence).await? {
            lines.push(&chunk)?;
            while let Some(line) = lines.next() {
                let Event { kind, object } = serde_json::from_slice(&line)?;
                if kind == "ERROR" {
                    return Err(serde_json::from_value::<super::client::Status>(object)?.into());
                }
                let slice: EndpointSlice = serde_json::from_value(object)?;
                version.clone_from(&slice.metadata.resource_version);
                match kind.as_str() {
                    "ADDED" | "MODIFIED" => {
                        slices.insert(slice.metadata.name.clone(), slice);
                        changed(slices);
                    }
                    "DELETED" => {
                        slices.remove(&slice.metadata.name);
                        changed(slices);
                    }
                    // BOOKMARK: nothing but the version. What else may be invented is none of ours.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A stream cut at its line ends.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// Bytes that were searched already.
    searched: usize,
}

impl Lines {
    /// No object in etcd is larger than 1.5 MiB.
    const MOST: usize = 4 << 20;

    fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + chunk.len() > Self::MOST {
            return Err(Error::TooLarge);
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole line that is not empty.
    fn next(&mut self) -> Option<BytesMut> {
        loop {
            let rest = self.buffer.get(self.searched..)?;
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end + 1);
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

/// Pauses that grow, each with chance in it: a server that comes back must not hear all nodes at once.
#[derive(Debug)]
pub(super) struct Pauses {
    timings: Timings,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(timings: Timings) -> Self {
        Self {
            timings,
            next: timings.pause,
        }
    }

    fn reset(&mut self) {
        self.next = self.timings.pause;
    }

    pub(super) async fn next(&mut self) {
        let random = RandomState::new().hash_one(()) >> 32;
        let share = random as f64 / f64::from(u32::MAX);
        sleep(self.next.mul_f64(0.5 + share / 2.0)).await;
        self.next = (self.next * 2).min(self.timings.longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\"";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk).unwrap();
                while let Some(line) = lines.next() {
                    found.push(line);
                }
            }
            assert_eq!(found, [&b"{\"a\":1}\n"[..], b"{\"b\":2}\n"], "{size}");
        }
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; Lines::MOST]).is_ok());
        assert!(matches!(lines.push(b"x"), Err(Error::TooLarge)));
    }
}
