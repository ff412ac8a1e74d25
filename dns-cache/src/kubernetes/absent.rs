//! In the place of the Kubernetes part, in a build without it. A configuration that wants it is refused.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::control::KubernetesStatus;
use crate::resolver::Resolver;

/// Knows nothing of a cluster.
#[derive(Debug)]
pub struct Discovery(Mutex<Config>);

/// Of which there are none.
#[derive(Debug)]
pub struct Changes;

impl Discovery {
    /// For a configuration, which stays what it is.
    #[must_use]
    pub fn new(base: Config) -> (Arc<Self>, Changes) {
        (Arc::new(Self(Mutex::new(base))), Changes)
    }

    /// The configuration.
    #[must_use]
    pub fn current(&self) -> Config {
        self.base().clone()
    }

    /// Has no use for them.
    pub fn presume(&self, _: Vec<IpAddr>) {}

    /// From now on it is this one.
    pub fn rebase(&self, base: Config) {
        *self.base() = base;
    }

    /// The same configuration.
    #[must_use]
    pub fn complete(&self, base: &Config) -> Config {
        base.clone()
    }

    /// As the configuration itself says.
    #[must_use]
    pub fn without_fallback(&self, config: &Config) -> Vec<IpAddr> {
        config.without_fallback()
    }

    /// Ends at once.
    pub async fn follow_endpoints(self: Arc<Self>) {}

    /// Ends at once.
    pub async fn follow_service(self: Arc<Self>, _: Arc<Resolver>) {}

    /// Not that it knows.
    pub async fn is_uninstalled(&self) -> bool {
        false
    }

    /// Nothing.
    #[must_use]
    pub fn status(&self) -> Option<KubernetesStatus> {
        None
    }

    fn base(&self) -> MutexGuard<'_, Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    /// Returns at once.
    pub async fn first(&mut self, _: &Discovery) {}

    /// Never returns.
    pub async fn changed(&mut self) {
        std::future::pending().await
    }
}
