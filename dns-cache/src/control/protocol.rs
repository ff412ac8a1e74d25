//! Requests and responses, one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Status;
use crate::resolver::{Flushed, Listing, Lookup};
use crate::succession::Manifest;

/// The version of the protocol; both sides must speak the same.
pub const VERSION: u64 = 1;

/// What an agent can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Command {
    /// Everything at a glance.
    Status,
    /// What is cached for some names.
    CacheList {
        /// For these.
        #[serde(flatten)]
        names: Names,
        /// A record type; all if it is left out.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        rtype: Option<String>,
        /// Not more than this many answers; at most [`MOST_ENTRIES`].
        limit: usize,
    },
    /// Looks a name up as a client would, and tells what is met on the way.
    Lookup {
        /// The name.
        name: String,
        /// The record type.
        #[serde(rename = "type")]
        rtype: String,
    },
    /// Takes the answers for some names out of every cache.
    CacheFlush {
        /// For these.
        #[serde(flatten)]
        names: Names,
    },
    /// Leaves everything to the agent that asks; see [`crate::succession`].
    HandOver {
        /// The version of what follows.
        protocol: u32,
    },
}

/// Answers in one listing: some tens of mebibytes.
pub const MOST_ENTRIES: usize = 100_000;

/// Names of the cache: `{"zone":"NAME"}`, `{"name":"NAME"}`, or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// This name and every name below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// This name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Response {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::CacheList`].
    Cache(Listing),
    /// To [`Command::Lookup`].
    Lookup(Box<Lookup>),
    /// To [`Command::CacheFlush`]: nothing of what was cached is given any more.
    Flushed(Flushed),
    /// To [`Command::HandOver`], with the descriptors.
    HandedOver(Manifest),
    /// Why there is no answer.
    Error(String),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Versioned<T> {
    version: u64,
    #[serde(flatten)]
    body: T,
}

impl Command {
    /// The request as it is sent.
    pub(super) fn to_line(&self) -> serde_json::Result<String> {
        to_line(self)
    }

    /// A request as it came, or what is wrong with it.
    pub(super) fn from_line(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| format!("the request is not JSON: {error}"))?;
        // The version first: the rest may mean something else in another.
        match value.get("version") {
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(other) => {
                return Err(format!(
                    "the request is of version {other}; this agent speaks version {VERSION}"
                ));
            }
            None => {
                return Err(format!(
                    "the request has no version; send {{\"version\":{VERSION},\"command\":…}}"
                ));
            }
        }
        Self::deserialize(&value).map_err(|error| format!("not a request: {error}"))
    }
}

impl Response {
    /// The response as it is sent.
    pub(super) fn to_line(&self) -> serde_json::Result<String> {
        to_line(self)
    }

    /// A response as it came.
    pub(super) fn from_line(line: &[u8]) -> serde_json::Result<Self> {
        Ok(serde_json::from_slice::<Versioned<Self>>(line)?.body)
    }
}

/// A request or response as it is written.
pub(crate) fn versioned<T: Serialize>(body: &T) -> Versioned<&T> {
    Versioned {
        version: VERSION,
        body,
    }
}

fn to_line<T: Serialize>(body: &T) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(&versioned(body))?;
    line.push('\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_and_responses_are_versioned_lines() {
        assert_eq!(
            Command::Status.to_line().unwrap(),
            "{\"version\":1,\"command\":\"status\"}\n"
        );
        assert_eq!(
            Response::Error("no".to_owned()).to_line().unwrap(),
            "{\"version\":1,\"error\":\"no\"}\n"
        );
        let line = Command::Status.to_line().unwrap();
        assert_eq!(Command::from_line(line.as_bytes()), Ok(Command::Status));
    }

    #[test]
    fn what_is_no_request_is_told_why() {
        for (line, start) in [
            ("", "the request is not JSON: EOF"),
            ("status", "the request is not JSON: expected value"),
            (
                "\"status\"",
                "the request has no version; send {\"version\":1,\"command\":…}",
            ),
            ("[]", "the request has no version"),
            ("{\"command\":\"status\"}", "the request has no version"),
            (
                "{\"version\":2,\"command\":\"x\"}",
                "the request is of version 2; this agent speaks version 1",
            ),
            ("{\"version\":\"1\"}", "the request is of version \"1\";"),
            ("{\"version\":1}", "not a request: missing field `command`"),
            ("{\"version\":1,\"command\":7}", "not a request: "),
            (
                "{\"version\":1,\"command\":\"halt\"}",
                "not a request: unknown variant `halt`, expected one of `status`,",
            ),
        ] {
            let error = Command::from_line(line.as_bytes()).expect_err(line);
            assert!(error.starts_with(start), "{line}: {error}");
        }
        // Deep nesting must not reach the end of the stack.
        assert!(Command::from_line("[".repeat(60_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(line in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            let _ = Command::from_line(&line);
            let _ = Command::from_line(text.as_bytes());
            let _ = Response::from_line(&line);
        }
    }
}
