//! A whole lab: node, pods, cluster DNS, and the agent when asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::addresses::{self, Family};
use crate::agent::{Agent, AgentConfig};
use crate::cluster_dns::{ClusterDns, Upstream};
use crate::node::Node;
use crate::pod::{Flavour, Pod};
use crate::scope::Scope;
use crate::turn::Turn;

/// What a lab shall be like.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    flavour: Flavour,
    upstream: Upstream,
    pods: u16,
    replicas: u16,
}

impl LabBuilder {
    /// How pods are connected; routed if not said.
    #[must_use]
    pub const fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// What stands behind the ClusterIP; CoreDNS if not said.
    #[must_use]
    pub const fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = upstream;
        self
    }

    /// How many pods; two if not said.
    #[must_use]
    pub const fn pods(mut self, pods: u16) -> Self {
        self.pods = pods;
        self
    }

    /// How many replicas of the cluster DNS; two if not said.
    #[must_use]
    pub const fn replicas(mut self, replicas: u16) -> Self {
        self.replicas = replicas;
        self
    }

    /// Builds it and waits until the ordinary way works.
    #[must_use]
    pub fn start(&self) -> Lab {
        let turn = Turn::shared();
        let scope = Scope::new();
        let node = Node::new(&scope, self.flavour);
        let dns = ClusterDns::start(&node, self.upstream, self.replicas);
        node.load_rules(&dns.endpoints());
        let mut lab = Lab {
            pods: Vec::new(),
            dns,
            node,
            next_pod: AtomicU16::new(1),
            scope,
            _turn: turn,
        };
        for _ in 0..self.pods {
            let pod = lab.add_pod();
            lab.pods.push(pod);
        }
        lab
    }
}

/// A lab. Dropping it removes all of it. (The fields go in this order.)
#[derive(Debug)]
pub struct Lab {
    pods: Vec<Pod>,
    dns: ClusterDns,
    node: Node,
    next_pod: AtomicU16,
    scope: Arc<Scope>,
    _turn: Turn,
}

impl Lab {
    /// A lab to be: routed, two pods, two replicas of CoreDNS.
    #[must_use]
    pub const fn builder() -> LabBuilder {
        LabBuilder {
            flavour: Flavour::Routed,
            upstream: Upstream::CoreDns,
            pods: 2,
            replicas: 2,
        }
    }

    /// The id in all its names.
    #[must_use]
    pub fn id(&self) -> &str {
        self.scope.id()
    }

    /// Its identity and directory.
    #[must_use]
    pub const fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The pods it was started with; `pod(0)` is `pod1`.
    #[must_use]
    pub fn pod(&self, index: usize) -> &Pod {
        &self.pods[index]
    }

    /// The pods it was started with.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// One of them, to change or to take out.
    pub const fn pods_mut(&mut self) -> &mut Vec<Pod> {
        &mut self.pods
    }

    /// The cluster DNS.
    #[must_use]
    pub const fn dns(&self) -> &ClusterDns {
        &self.dns
    }

    /// A further pod, with the next number and the address after the last one's.
    #[must_use]
    pub fn add_pod(&self) -> Pod {
        let number = self.next_pod.fetch_add(1, Ordering::Relaxed);
        Pod::new(
            &self.node,
            &format!("pod{number}"),
            addresses::pod(number + 1),
            self.node.flavour(),
        )
    }

    /// Starts the agent and waits until it serves every pod.
    #[must_use]
    pub fn agent(&self, config: &AgentConfig) -> Agent {
        let veths: Vec<_> = self.pods.iter().map(Pod::veth).collect();
        self.agent_on(config, &veths)
    }

    /// Starts the agent and waits until it serves these interfaces.
    #[must_use]
    pub fn agent_on(&self, config: &AgentConfig, veths: &[&str]) -> Agent {
        let replicas: Vec<SocketAddr> = self
            .dns
            .endpoints()
            .iter()
            .map(|pair| pair.dns(Family::V4))
            .collect();
        Agent::start(&self.node, config, &replicas, veths)
    }
}
