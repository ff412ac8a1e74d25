//! Packet tables: a packet in, a verdict and a packet out, of the programs' real bytecode
//! (`BPF_PROG_TEST_RUN`), with a real routing table, real sockets and real devices around it.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test panics, to keep the backtrace"
)]

mod cache;
mod fallback;
mod harness;
mod host;
mod intercept;
mod packet;
mod parse;
mod reply;
mod source;
mod tcp;
