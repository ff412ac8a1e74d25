//! The lab: a node, pods and a cluster DNS in network namespaces, as a Kubernetes node has them.
//!
//! A [`Lab`] owns everything under one id; whatever it made goes when its last handle is dropped, on
//! a panic too. A lab whose owner was SIGKILLed is removed by the next lab on the machine.
//!
//! The lab's style is to panic: a test wants the backtrace of the step that failed, not an error
//! that was handed up.
#![expect(
    clippy::panic,
    reason = "the lab panics so that a failed step keeps its backtrace"
)]

pub mod addresses;
pub mod agent;
pub mod api_server;
pub mod chaos;
pub mod client;
pub mod cluster_dns;
pub mod conntrack;
pub mod conntrack_max;
pub mod coredns;
pub mod cpus;
pub mod embedded;
pub mod fixed_port;
pub mod incidents;
mod ip;
pub mod ipvs;
pub mod lab;
pub mod load;
pub mod musl;
pub mod netns;
pub mod node;
pub mod node_local;
pub mod or_panic;
pub mod pairs;
pub mod patience;
pub mod pod;
pub mod process;
pub mod procfs;
pub mod pulse;
pub mod random;
pub mod raw;
pub mod relay;
pub mod rules;
pub mod scope;
pub mod signals;
pub mod snapshot;
pub mod tools;
pub mod turn;
pub mod unbound;
pub mod veths;
pub mod wire;
pub mod xdp;
pub mod zones;

pub use addresses::{Family, Pair};
pub use agent::{Agent, AgentConfig, Way};
pub use client::{Client, Failure, Reply, Transport};
pub use cluster_dns::{ClusterDns, Upstream};
pub use lab::{Lab, LabBuilder};
pub use netns::Netns;
pub use node::Node;
pub use or_panic::OrPanic;
pub use pod::{Flavour, Pod};
pub use process::Process;
pub use scope::Scope;
pub use snapshot::Snapshot;
pub use veths::Veths;
pub use wire::{Message, Query};
