//! EndpointSlices (`discovery.k8s.io/v1`), as far as they matter here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// All of a Service's, by name.
pub(super) type Slices = BTreeMap<String, EndpointSlice>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub(super) metadata: Metadata,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) resource_version: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Whatever has it is being deleted.
    pub(super) deletion_timestamp: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) addresses: Vec<String>,
    conditions: Conditions,
    pub(super) node_name: Option<String>,
    pub(super) zone: Option<String>,
    hints: Option<Hints>,
}

/// Unknown is neither yes nor no.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// Whose traffic the control plane means for an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    for_zones: Option<Vec<Named>>,
    for_nodes: Option<Vec<Named>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

impl EndpointSlice {
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().flatten()
    }

    /// The port of this protocol with the first of these names that is there.
    pub(super) fn port(&self, protocol: &str, names: &[&str]) -> Option<u16> {
        let find = |name: &&str| {
            let mut ports = self.ports.iter().flatten();
            ports.find(|port| {
                port.protocol.as_deref().unwrap_or("TCP") == protocol
                    && port.name.as_deref().unwrap_or_default() == *name
            })
        };
        names.iter().find_map(find)?.port
    }
}

impl Endpoint {
    /// FQDN slices have none.
    pub(super) fn address(&self) -> Option<IpAddr> {
        // The addresses of one endpoint are interchangeable: consumers take the first.
        self.addresses.first()?.parse().ok()
    }

    /// Takes new queries.
    pub(super) fn is_ready(&self) -> bool {
        // Unknown means ready, and serving means what ready does without regard to the end.
        self.conditions.ready.unwrap_or(true) && !self.is_terminating() && self.is_serving()
    }

    /// Answers, but shall soon end.
    pub(super) fn is_last_resort(&self) -> bool {
        self.is_terminating() && self.conditions.serving.unwrap_or(false)
    }

    /// Does not end, whether it is ready or not.
    pub(super) fn is_staying(&self) -> bool {
        !self.is_terminating()
    }

    fn is_serving(&self) -> bool {
        let ready = self.conditions.ready.unwrap_or(true);
        self.conditions.serving.unwrap_or(ready)
    }

    fn is_terminating(&self) -> bool {
        self.conditions.terminating.unwrap_or(false)
    }

    /// Whether the hints say that this Node is meant; `None` without such hints.
    pub(super) fn is_for_node(&self, node: &str) -> Option<bool> {
        named(&self.hints.as_ref()?.for_nodes, node)
    }

    /// As [`Self::is_for_node`], for a zone.
    pub(super) fn is_for_zone(&self, zone: &str) -> Option<bool> {
        named(&self.hints.as_ref()?.for_zones, zone)
    }
}

fn named(list: &Option<Vec<Named>>, name: &str) -> Option<bool> {
    let list = list.as_ref().filter(|list| !list.is_empty())?;
    Some(list.iter().any(|item| item.name == name))
}
