//! The local control socket: how an agent that runs is looked into.
//!
//! A Unix socket, `STATE_DIR/control.sock`, for root alone. One JSON object a line each way:
//!
//! ```text
//! → {"version":1,"command":"status"}
//! ← {"version":1,"status":{…}}        or {"version":1,"error":"…"}
//! ```
//!
//! An answer may be some mebibytes long; no request takes the agent more memory than its answer.

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod protocol;
mod server;
mod status;

pub use client::{ClientError, request, status};
pub(crate) use client::{connect, read_response};
pub(crate) use protocol::versioned;
pub use protocol::{Command, MOST_ENTRIES, Names, Response, VERSION};
pub use server::{Handler, Server, ServerError, Shutdown, is_taken};
pub use status::{
    AttachedInterface, DatapathStatus, HostStatus, KubernetesStatus, Lack, Mechanism, ReloadStatus,
    ResolverStatus, Status, UpstreamStatus,
};

/// The socket's name in the state directory.
pub const SOCKET_NAME: &str = "control.sock";

#[cfg(test)]
mod tests;
