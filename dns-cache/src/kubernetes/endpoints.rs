//! From EndpointSlices to servers: who takes queries, at which port, and how far they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::slice::{Endpoint, EndpointSlice, Slices};
use crate::config::{Transport, Upstream};

/// Distances, the nearest first.
const SAME_NODE: u32 = 0;
const SAME_ZONE: u32 = 1;
const ELSEWHERE: u32 = 2;

/// Where we are, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: Option<String>,
    pub(super) zone: Option<String>,
}

/// The servers that take queries, sorted by address; if none does, those that still answer while they end; and if there
/// is none of those either, those that are said not to be ready: a Node that could not reach the API server for a while
/// is said so of all its pods, and the Service, which is the other choice, has nobody behind it then.
pub(super) fn servers(slices: &Slices, place: &Place, transport: &Transport) -> Vec<Upstream> {
    let some = |wanted: fn(&Endpoint) -> bool| -> Vec<Upstream> {
        let mut distances = BTreeMap::new();
        for slice in slices.values() {
            for endpoint in slice.endpoints().filter(|endpoint| wanted(endpoint)) {
                if let Some(ip) = endpoint.address() {
                    let address = SocketAddr::new(ip, port(slice, transport));
                    // An endpoint may stand in two slices while it moves from one to the other.
                    let distance = distances.entry(address).or_insert(ELSEWHERE);
                    *distance = (*distance).min(place.distance(endpoint));
                }
            }
        }
        let server = |(address, distance)| Upstream {
            distance,
            ..Upstream::from(address)
        };
        distances.into_iter().map(server).collect()
    };
    let by_worth: [fn(&Endpoint) -> bool; 3] = [
        Endpoint::is_ready,
        Endpoint::is_last_resort,
        Endpoint::is_staying,
    ];
    let mut found = by_worth.into_iter().map(some);
    found
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

impl Place {
    /// The control plane's hints before our own judgement: it knows how load is spread.
    fn distance(&self, endpoint: &Endpoint) -> u32 {
        let is_here = self.node.is_some() && self.node == endpoint.node_name;
        let is_near = self.zone.is_some() && self.zone == endpoint.zone;
        let for_node = self.node.as_deref().and_then(|n| endpoint.is_for_node(n));
        let for_zone = self.zone.as_deref().and_then(|z| endpoint.is_for_zone(z));
        match (for_node, for_zone) {
            (Some(true), _) => SAME_NODE,
            (_, Some(false)) => ELSEWHERE,
            (None, _) if is_here => SAME_NODE,
            (_, Some(true)) => SAME_ZONE,
            _ if is_here || is_near => SAME_ZONE,
            _ => ELSEWHERE,
        }
    }
}

/// Names as kubeadm, OpenShift and CoreDNS's chart have them; a single port need not have one.
fn port(slice: &EndpointSlice, transport: &Transport) -> u16 {
    let found = match transport {
        Transport::Tcp => slice.port("TCP", &["dns-tcp", "dns", ""]),
        Transport::Udp => slice.port("UDP", &["dns", "dns-udp", ""]),
        Transport::Tls(_) => slice.port("TCP", &["dns-tls", "dot"]),
    };
    found.unwrap_or_else(|| transport.default_port())
}
