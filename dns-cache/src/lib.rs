//! The dns-cache agent: a node-local DNS cache that answers pods before conntrack sees the packet.
//!
//! Data goes one way: [`serve`] takes a query, [`resolver`] answers it from its cache or by
//! [`upstream`], and mirrors what it has into the [`kernel_cache`]. [`datapath`] brings the packets here;
//! [`control`] looks in from the side.

pub mod agent;
pub mod cli;
mod cni;
pub mod config;
pub mod control;
pub mod datapath;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod kernel_cache;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "kubernetes/absent.rs"]
pub mod kubernetes;
pub mod limits;
pub mod log;
pub mod metrics;
mod places;
pub mod presentation;
pub mod privileges;
pub mod resolver;
pub mod serve;
pub mod succession;
mod sys;
mod tls;
pub mod upstream;
