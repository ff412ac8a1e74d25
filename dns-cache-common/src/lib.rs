//! What the eBPF programs and the agent must agree on.
#![no_std]

pub mod maps;
