//! The cluster's DNS servers and addresses, as its API server and its DNS tell them.
//!
//! The servers are the endpoints of the DNS Service (`watch` → `slice` → `endpoints`). The Service's own addresses
//! are asked for in the DNS by its name, which needs no right to read Services. Whatever is away, the last that is
//! known stays.

mod client;
mod endpoints;
mod health;
mod node;
mod rewrites;
mod slice;
#[cfg(test)]
mod tests;
mod uninstall;
mod watch;

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::{
    Config, Fallback, InterceptEndpoints, Kubernetes, Transport, Upstream, is_link_local,
};
use crate::control::KubernetesStatus;
use crate::resolver::Resolver;
use client::Client;
use endpoints::Place;
use health::Health;
use node::OwnNode;
use slice::Slices;
use watch::{Timings, Watch};

/// How long the start waits for the API server.
const FIRST: Duration = Duration::from_secs(3);
/// Between two looks at the Service's addresses.
const LOOK: Duration = Duration::from_secs(30);
/// The same while they are not known.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// What is known of the cluster.
#[derive(Debug)]
pub struct Discovery {
    settings: Option<Kubernetes>,
    /// What it is laid over.
    base: Mutex<Config>,
    found: channel::Sender<Found>,
    /// What the servers that were found were made of.
    told: Mutex<Told>,
    health: Health,
}

/// What the API server tells of endpoints.
#[derive(Debug, Clone, Default)]
struct Told {
    slices: Slices,
    place: Place,
    /// For which ports were chosen.
    transport: Option<Transport>,
}

/// What was found until now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// The API server was asked, with whatever success.
    asked: bool,
    /// The endpoints that take queries.
    servers: Vec<Upstream>,
    /// The Service's addresses.
    addresses: Vec<IpAddr>,
    /// Those that the agent before served, the Service's among them; until the DNS has told the Service's own.
    presumed: Vec<IpAddr>,
    /// Pods' packets carry the endpoints' addresses.
    rewritten: bool,
}

/// Tells when something else is known.
#[derive(Debug)]
pub struct Changes(channel::Receiver<Found>);

impl Discovery {
    /// Begins with what the process's environment tells; with a configuration without Kubernetes there is never more.
    #[must_use]
    pub fn new(base: Config) -> (Arc<Self>, Changes) {
        let settings = base.kubernetes.clone();
        let addresses = settings.as_ref().and_then(from_environment);
        let (found, changes) = channel::channel(Found {
            addresses: addresses.into_iter().collect(),
            ..Found::default()
        });
        let discovery = Self {
            settings,
            base: Mutex::new(base),
            found,
            told: Mutex::default(),
            health: Health::new(),
        };
        (Arc::new(discovery), Changes(changes))
    }

    /// The configuration with all that is known.
    #[must_use]
    pub fn current(&self) -> Config {
        self.complete(&self.base())
    }

    /// Takes what the agent before served for the Service's addresses until those are known: a process's environment
    /// tells one family at most, and nothing at all outside of the Service's namespace.
    pub fn presume(&self, addresses: Vec<IpAddr>) {
        if self.settings.is_some() {
            self.found.send_if_modified(|found| {
                found.presumed = addresses;
                false
            });
        }
    }

    /// From now on what is known is laid over this configuration.
    pub fn rebase(&self, base: Config) {
        *self.base() = base;
        let Told { slices, place, .. } = self.told().clone();
        if !slices.is_empty() {
            self.endpoints(&slices, &place);
        }
    }

    /// This configuration with what is known laid over it. What it says of addresses stays, and its servers stand
    /// in until the endpoints are known; then the Service's own address does.
    #[must_use]
    pub fn complete(&self, base: &Config) -> Config {
        let mut config = base.clone();
        let Some(settings) = &self.settings else {
            return config;
        };
        let found = self.found.borrow();
        let services = found.services();
        fall_back(&mut config, &services);
        if settings.intercept_service {
            add(&mut config.listen, services.iter().copied());
        }
        let servers = self.servers(&found, &config.cluster.transport);
        let is_plain = |server: &&Upstream| server.address.port() == Transport::Tcp.default_port();
        if intercepts_endpoints(settings, &found) {
            let plain = servers.iter().filter(is_plain);
            add(&mut config.listen, plain.map(|server| server.address.ip()));
        }
        if !servers.is_empty() {
            config.cluster.upstreams = servers;
        } else if config.cluster.upstreams.is_empty() {
            let port = config.cluster.transport.default_port();
            let mut services = services;
            let listed = base.listen.iter().filter(|ip| !is_link_local(**ip));
            add(&mut services, listed.copied());
            let upstream = |ip| Upstream::from(SocketAddr::new(ip, port));
            config.cluster.upstreams = services.into_iter().map(upstream).collect();
        }
        config
    }

    /// The addresses of a complete configuration at which nobody answers while the agent is away. Of an address that is not
    /// link-local that is known when the Service's are.
    #[must_use]
    pub fn without_fallback(&self, config: &Config) -> Vec<IpAddr> {
        let mut lost = config.without_fallback();
        let found = self.found.borrow();
        if found.presumed.is_empty() && !found.addresses.is_empty() {
            let destinations = config.destinations();
            let has_path = |ip: IpAddr| {
                let mut servers = found.servers.iter();
                found.addresses.contains(&ip)
                    || servers.any(|server| server.address.ip() == ip)
                    || destinations.iter().any(|to| to.fallback == Some(ip))
            };
            let others = destinations.iter().filter(|to| to.fallback.is_none());
            let others = others.map(|to| to.address);
            add(&mut lost, others.filter(|ip| !has_path(*ip)));
        }
        lost
    }

    /// Follows the Service's endpoints, without end.
    pub async fn follow_endpoints(self: Arc<Self>) {
        let Some(settings) = &self.settings else {
            return;
        };
        let client = Client::new(settings);
        let timings = Timings::default();
        let (mut node, mut place) = OwnNode::new(&client, settings.node_name.clone(), timings);
        // Once before the endpoints, so that they are sorted once.
        node.ask().await;
        let (told, mut slices) = channel::channel(None);
        let watch = Watch {
            client: &client,
            path: slices_of(settings),
            timings,
            health: &self.health,
        };
        let watching = watch.run(|slices| match slices {
            Some(slices) => drop(told.send_replace(Some(slices.clone()))),
            None => self.asked_in_vain(),
        });
        let sorting = async {
            loop {
                if let Some(slices) = &*slices.borrow_and_update() {
                    self.endpoints(slices, &place.borrow_and_update());
                }
                tokio::select! {
                    _ = slices.changed() => {}
                    _ = place.changed() => {}
                }
            }
        };
        tokio::join!(watching, sorting, node.follow());
    }

    /// Looks for the Service's addresses in the DNS, again and again: they are others when it is made anew.
    pub async fn follow_service(self: Arc<Self>, resolver: Arc<Resolver>) {
        let Some(settings) = &self.settings else {
            return;
        };
        let mut told = false;
        loop {
            let domain = self.base().cluster.domain.clone();
            let name = format!("{}.{}.svc.{domain}.", settings.service, settings.namespace);
            let answers = resolver.addresses(&name).await;
            debug!(name, ?answers, "the Service's addresses in the DNS");
            told |= answers.iter().all(Option::is_some);
            self.service(self.with_known(answers));
            let known = told && !self.found.borrow().addresses.is_empty();
            sleep(if known { LOOK } else { FIRST_LOOK }).await;
        }
    }

    /// Whether the agent ends because it was uninstalled, so that no agent comes after this one.
    pub async fn is_uninstalled(&self) -> bool {
        match &self.settings {
            Some(settings) if settings.detach_when_refused && self.health.was_heard() => {
                uninstall::is_refused(&Client::new(settings), &slices_of(settings)).await
            }
            _ => false,
        }
    }

    /// What is known, for people; `None` without Kubernetes.
    #[must_use]
    pub fn status(&self) -> Option<KubernetesStatus> {
        let settings = self.settings.as_ref()?;
        let health = self.health.state();
        let found = self.found.borrow();
        Some(KubernetesStatus {
            service: format!("{}/{}", settings.namespace, settings.service),
            addresses: found.addresses.clone(),
            endpoints: found.servers.len(),
            intercepts_endpoints: intercepts_endpoints(settings, &found),
            api_error: health.error,
            api_errors: health.errors,
            api_since_seconds: health.since.elapsed().as_secs(),
        })
    }

    /// The start need not wait any longer.
    fn asked_in_vain(&self) {
        self.found
            .send_if_modified(|found| !std::mem::replace(&mut found.asked, true));
    }

    /// Servers that end are left out as long as there are others; without any, the last known ones stay.
    fn endpoints(&self, slices: &Slices, place: &Place) {
        let transport = self.base().cluster.transport.clone();
        let servers = endpoints::servers(slices, place, &transport);
        if !servers.is_empty() {
            *self.told() = Told {
                slices: slices.clone(),
                place: place.clone(),
                transport: Some(transport),
            };
        }
        self.found.send_if_modified(|found| {
            let is_first = !std::mem::replace(&mut found.asked, true);
            if servers.is_empty() {
                warn!("the Service has no endpoint that answers; the last known ones stay");
                return is_first;
            }
            let differ = found.servers != servers;
            if differ {
                info!(?servers, "the cluster's DNS servers");
                found.servers = servers;
            }
            differ || is_first
        });
    }

    /// The servers that were found, as they are asked by this transport: it may have a port of its own.
    fn servers(&self, found: &Found, transport: &Transport) -> Vec<Upstream> {
        let told = self.told();
        match &told.transport {
            Some(other) if other != transport => {
                endpoints::servers(&told.slices, &told.place, transport)
            }
            _ => found.servers.clone(),
        }
    }

    /// The addresses of both families in the DNS; a family without an answer has those that are known of it.
    fn with_known(&self, answers: [Option<Vec<IpAddr>>; 2]) -> Vec<IpAddr> {
        if answers.iter().flatten().all(Vec::is_empty) {
            return Vec::new();
        }
        let known = self.found.borrow().services();
        let of = |ipv4| known.iter().copied().filter(move |ip| ip.is_ipv4() == ipv4);
        let [v4, v6] = answers;
        let (v4, v6) = (
            v4.unwrap_or_else(|| of(true).collect()),
            v6.unwrap_or_else(|| of(false).collect()),
        );
        [v4, v6].concat()
    }

    /// The Service's addresses as the DNS has them; without an answer, those of before stay.
    fn service(&self, mut addresses: Vec<IpAddr>) {
        addresses.retain(|address| !address.is_loopback() && !address.is_unspecified());
        addresses.sort();
        // Then it is this agent that rewrites, its own sockets too: at an endpoint's address it would ask itself.
        let is_ours = self.base().host.enabled;
        self.found.send_if_modified(|found| {
            let mut new = found.clone();
            let is_endpoint = |ip: &IpAddr| found.servers.iter().any(|s| s.address.ip() == *ip);
            if !addresses.is_empty() {
                new.presumed.clear();
                // A headless Service has none of its own.
                if !addresses.iter().all(is_endpoint) {
                    new.addresses = addresses;
                }
            }
            let is_rewritten = |address: &IpAddr| {
                rewrites::is_rewritten(*address).unwrap_or_else(|error| {
                    debug!(%error, %address, "not known whether it is rewritten");
                    false
                })
            };
            new.rewritten = !is_ours && new.addresses.iter().any(is_rewritten);
            let differ = new != *found;
            if differ {
                info!(addresses = ?new.addresses, rewritten = new.rewritten, "the DNS Service");
                *found = new;
            }
            differ
        });
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn base(&self) -> MutexGuard<'_, Config> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// What is taken for the Service's addresses.
    fn services(&self) -> Vec<IpAddr> {
        let mut services = self.addresses.clone();
        add(&mut services, self.presumed.iter().copied());
        services
    }
}

impl Changes {
    /// Waits until the API server has told the endpoints, or does not for a while.
    pub async fn first(&mut self, discovery: &Discovery) {
        if discovery.settings.is_some() {
            let asked = self.0.wait_for(|found| found.asked);
            if timeout(FIRST, asked).await.is_err() {
                warn!(
                    "the API server has not told the cluster's DNS servers yet; starting without"
                );
            }
            self.0.mark_unchanged();
        }
    }

    /// Returns when something else is known.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could find anything.
            std::future::pending::<()>().await;
        }
    }
}

/// The path of the Service's EndpointSlices.
fn slices_of(
    Kubernetes {
        namespace, service, ..
    }: &Kubernetes,
) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    )
}

/// What the kubelet tells the containers of the Service's own namespace.
fn from_environment(settings: &Kubernetes) -> Option<IpAddr> {
    let name = settings.service.to_uppercase().replace('-', "_");
    env::var(format!("{name}_SERVICE_HOST")).ok()?.parse().ok()
}

fn intercepts_endpoints(settings: &Kubernetes, found: &Found) -> bool {
    match settings.intercept_endpoints {
        InterceptEndpoints::Always => true,
        InterceptEndpoints::Never => false,
        InterceptEndpoints::Auto => found.rewritten && settings.intercept_service,
    }
}

/// The Service is asked, while the agent is away, in the place of what only the agent answers at: the addresses of the
/// configuration that are not the Service's own.
fn fall_back(config: &mut Config, services: &[IpAddr]) {
    for address in &config.listen {
        let is_said = |said: &Fallback| said.address == *address || said.to == *address;
        if services.contains(address) || config.fallbacks.iter().any(is_said) {
            continue;
        }
        let mut services = services.iter();
        if let Some(to) = services.find(|to| to.is_ipv4() == address.is_ipv4()) {
            let (address, to) = (*address, *to);
            config.fallbacks.push(Fallback { address, to });
        }
    }
}

/// Adds what is not there yet.
fn add(list: &mut Vec<IpAddr>, more: impl Iterator<Item = IpAddr>) {
    for address in more {
        if !list.contains(&address) {
            list.push(address);
        }
    }
}
