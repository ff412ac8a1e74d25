//! What the eBPF programs and the agent must agree on.
//!
//! The rules of the wire that exist once: how a query is read ([`question`]), how a stored answer is
//! laid out and becomes a reply ([`reply`]). All functions work on bytes in network byte order, never
//! allocate, and never panic whatever the bytes are.
#![no_std]
#![forbid(unsafe_code)]

pub mod edns;
pub mod header;
pub mod name;
pub mod question;
pub mod reply;
pub mod types;
