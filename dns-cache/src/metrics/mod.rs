//! The metrics endpoint: `/metrics` for Prometheus, `/health` and `/ready` for the kubelet.
//!
//! Counting is done where things happen, each part in its own way; this module names what was counted
//! ([`names`]) and says it over HTTP.

mod exposition;
pub(crate) mod histogram;
pub mod names;
mod process;
mod server;

pub use exposition::Exposition;
pub(crate) use process::{map_bytes, process};
pub use server::{Error, Server, Source};
