//! The dns-cache agent: a node-local DNS cache that answers pods before conntrack sees the packet.
//!
//! Data goes one way: [`serve`] takes a query, [`resolver`] answers it from its cache or by
//! [`upstream`]. [`datapath`] brings the packets here; [`control`] looks in from the side.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod limits;
pub mod log;
mod places;
pub mod resolver;
pub mod serve;
mod sys;
pub mod upstream;
