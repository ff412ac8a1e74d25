//! Hand-over: an agent leaves its sockets to the next one, and no packet is lost on the way, not even one that waits
//! in a socket's buffer.
//!
//! The successor asks by the control socket, and the conversation goes on over that connection:
//!
//! ```text
//! successor → {"version":1,"command":"hand-over","protocol":1}
//! old agent ← {"version":1,"handed-over":{…}}            with descriptors (SCM_RIGHTS), see [`Manifest`]
//!             the successor serves on the sockets as well, and puts its programs in place of the old ones; before each
//!             step of that which changes what both have:
//! successor → {"waiting":true}
//! old agent ← {"waiting":true}
//! successor → {"serving":true}
//! old agent ← {"unread":[…]}                             with a descriptor: a connection of a client; any number
//!             the end: what the old agent had read is answered
//! ```
//!
//! From its first answer on, the old agent does not write to the kernel cache, which the successor takes up. If the
//! conversation ends before the successor serves, the old agent goes on as if nothing had happened. It ends it itself
//! when it hears nothing for a while, or is told to end: a successor that wakes up later is not answered any more, and
//! writes nothing. (An agent whose manifest does not say that it answers is from before that question, and not asked.)
//! An agent that refuses, or does not understand, is left alone: its successor waits for its end.

mod manifest;
mod message;
mod predecessor;
mod successor;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use manifest::{Estate, Manifest, own_netns};
pub use predecessor::{Error, Predecessor, Waiting};
pub use successor::{HangUp, Successor};

/// The version of what follows the first request.
pub const PROTOCOL: u32 = 1;

/// For an agent that is asked to answer: it only gathers what it has.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a successor's next word: programs are verified, for which a starved machine was seen to take over 20 s. Meanwhile
/// the old agent does not follow interfaces and endpoints.
const START: Duration = Duration::from_secs(40);
/// For the old agent's end, which comes when its queries are answered, or not in time.
const END: Duration = Duration::from_secs(60);

/// What is said until the successor serves; always true.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// The successor asks whether the old agent still waits for it, which says so.
    Waiting(bool),
    /// The successor serves.
    Serving(bool),
}

/// Goes with a client's connection.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    /// What was read of a query that is not whole.
    unread: Vec<u8>,
}
