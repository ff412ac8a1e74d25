//! What the eBPF programs and the agent must agree on.
//!
//! - The rules of the wire, which exist once: how a query is read ([`question`]), how a stored answer is
//!   laid out and becomes a reply ([`reply`]), where one NXDOMAIN stands for many names ([`cut`]). All functions work on bytes in network byte order, never
//!   allocate, and never panic whatever the bytes are.
//! - The layouts of the maps ([`maps`]).
#![no_std]
#![forbid(unsafe_code)]

pub mod cached;
pub mod cut;
pub mod edns;
pub mod hash;
pub mod header;
pub mod hits;
pub mod maps;
pub mod message;
pub mod name;
pub mod question;
pub mod reply;
pub mod types;
