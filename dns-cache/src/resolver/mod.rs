//! Query in, reply out: from the cache, or by asking the zone's servers.

mod addresses;
mod answer;
mod authorities;
mod by_hand;
mod cache;
mod clock;
mod compress;
mod contents;
pub(crate) mod counters;
mod cuts;
mod entry;
mod failures;
mod flights;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod given;
mod local;
mod lookup;
mod loops;
mod mirror;
mod prefetch;
mod probe;
mod rate;
mod rdata;
mod refresh;
#[cfg(test)]
mod replay;
mod resolv_conf;
mod stale;
#[cfg(test)]
pub(crate) mod tests;
mod usage;
mod zones;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dns_cache_common::question::{Client, Query};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use clock::{Clock, Time};
pub use contents::{Cached, Flushed, Listing, Selection, Usage};
pub use dns_cache_common::question::Transport;
pub use entry::{BadResponse, Entry, Terms};
pub use lookup::{Lookup, Step};
pub use loops::Loop;
pub(crate) use resolv_conf::warnings as resolv_conf_warnings;

use crate::config::{CacheLimits, Config, Network, Queries};
use crate::kernel_cache::{self, KernelCache, Size};
use crate::places::{Place, Places};
use crate::upstream::{Exchanged, ServerStatus, Timings, TlsError};
use cache::Cache;
use counters::Counters;
use failures::{Failure, Failures};
use flights::Flights;
use loops::Loops;
use prefetch::Prefetch;
use rate::Rate;
use stale::Stale;
use zones::Zones;

/// A client has its answer within 4 s, with SERVFAIL if need be: before glibc's 5 s. The rest is for the way.
const DEADLINE: Duration = Duration::from_millis(3_800);

/// Answers queries from its cache, or by asking upstreams.
#[derive(Debug)]
pub struct Resolver {
    cache: Cache,
    /// What it gives to the kernel, if it has one.
    kernel: OnceLock<Arc<KernelCache>>,
    zones: ArcSwap<Zones>,
    failures: Failures,
    flights: Flights,
    prefetch: Prefetch,
    stale: Stale,
    /// For clients that wait.
    places: Arc<Places>,
    rate: ArcSwap<Rate>,
    /// Who may ask; empty: everybody.
    access: ArcSwap<Vec<Network>>,
    loops: Loops,
    /// Set once a server has been seen to have answered.
    heard: OnceLock<()>,
    clock: Clock,
    counters: Counters,
    deadline: Duration,
    /// Speaks for all upstreams where a file is replayed.
    #[cfg(test)]
    script: OnceLock<Arc<replay::Scripted>>,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Answer {
    /// A reply of so many bytes was appended.
    Reply(usize),
    /// An upstream must be asked.
    Miss(Miss),
    /// It gets no reply.
    Drop,
}

/// A query that the cache has no answer for, with all that its reply needs.
#[derive(Debug)]
pub struct Miss {
    client: Client,
    question: Box<[u8]>,
    key: Box<[u8]>,
    /// Its deadline counts from then.
    arrived: Instant,
}

/// Why there is no resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A zone's name in the configuration cannot be written as a DNS name.
    #[error("zone `{0}`: not a domain name: labels are 1 to 63 bytes long, names at most 255")]
    ZoneName(String),
    /// A zone's servers cannot be asked over TLS.
    #[error("zone `{zone}`: {reason}")]
    Tls {
        /// The zone.
        zone: String,
        /// Why.
        reason: TlsError,
    },
    /// The servers for names outside all zones are not known.
    #[error(
        "{}: no usable servers: {reason}; write a `nameserver` line there, name another file in the \
         configuration, or give the zone `.` upstreams of its own",
        path.display()
    )]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The servers for names outside all zones are this cache.
    #[error(
        "{}: a loop: it names no server but {}, this cache's own; write a `nameserver` line with another one there, \
         name another file in the configuration (resolvConf), or give the zone `.` upstreams of its own",
        path.display(), addresses(own)
    )]
    Ourselves {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        own: Vec<IpAddr>,
    },
}

/// The resolver's state, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is in the cache.
    pub cache: Usage,
    /// What is in the kernel's; none if there is none.
    pub kernel: Option<kernel_cache::Usage>,
    /// Counts since the start, by name.
    pub counters: Vec<(&'static str, u64)>,
    /// All zones that have servers.
    pub zones: Vec<ZoneStatus>,
    /// All servers of all zones.
    pub upstreams: Vec<UpstreamStatus>,
}

/// A zone's state, with counts since the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Answers in the cache.
    pub entries: u64,
    /// Queries that its servers had to be asked for.
    pub misses: u64,
    /// Of them, those that got an error because no answer was to be had.
    pub failures: u64,
    /// Queries answered with an expired answer (RFC 8767).
    pub stale: u64,
}

/// A server's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The zone for which it is asked.
    pub zone: String,
    /// Its address.
    pub address: SocketAddr,
    /// How far it is: nearer ones are asked first.
    pub distance: u32,
    /// Its share of the queries among those of the same distance.
    pub weight: u32,
    /// Open connections.
    pub connections: u64,
    /// Queries that wait for its answer.
    pub in_flight: u64,
    /// Queries sent to it.
    pub queries: u64,
    /// Of them, those that were sent because another server took long.
    pub hedges: u64,
    /// And those because another server had not answered in time.
    #[serde(default)]
    pub retries: u64,
    /// Attempts that ended without an answer, or without one in time.
    pub failures: u64,
    /// The same by kind: `unreachable`, `busy`, `closed`, `timeout`, `mismatched`, `malformed`,
    /// `error` (where another server had an answer), `edns` (it is asked without), `tcp` (it takes none, and is asked
    /// over UDP).
    pub failures_by_kind: BTreeMap<String, u64>,
    /// Messages that answered none of its queries, and were dropped.
    pub unmatched: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// What half of its last answers took at most, in microseconds; `None` before the first answer.
    pub rtt_micros: Option<u64>,
    /// What 95 % of its last answers took at most, in microseconds; `None` before the first answer.
    pub rtt_p95_micros: Option<u64>,
    /// It is ejected: it did not answer lately and is asked last.
    pub suspect: bool,
    /// For how many seconds it has been; `None` if it is not.
    #[serde(default)]
    pub ejected_seconds: Option<u64>,
}

impl Resolver {
    /// A resolver with an empty cache; it connects to servers when they are needed.
    ///
    /// # Errors
    /// If a zone's servers cannot be asked as configured, or a resolv.conf names this cache and nobody else.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        Self::with(config, Clock::default(), Timings::default(), DEADLINE)
    }

    pub(crate) fn with(
        config: &Config,
        clock: Clock,
        timings: Timings,
        deadline: Duration,
    ) -> Result<Arc<Self>, Error> {
        let Queries {
            in_flight,
            in_flight_per_client: per_client,
            ..
        } = config.queries;
        Ok(Arc::new(Self {
            cache: Cache::new(own_part(config.cache), Stale::keep(config.serve_stale)),
            kernel: OnceLock::new(),
            zones: ArcSwap::from_pointee(Zones::new(config, timings)?),
            failures: Failures::new(),
            flights: Flights::new(in_flight),
            prefetch: Prefetch::new(config.prefetch, config.cache.max_entries),
            stale: Stale::new(config.serve_stale),
            places: Arc::new(Places::new(in_flight, per_client)),
            rate: ArcSwap::from_pointee(Rate::new(config.queries)),
            access: ArcSwap::from_pointee(config.access.clone()),
            loops: Loops::default(),
            heard: OnceLock::new(),
            clock,
            counters: Counters::default(),
            deadline,
            #[cfg(test)]
            script: OnceLock::new(),
        }))
    }

    /// The clock that answers age by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether not everybody may ask, but the clients that [`Self::may_ask`] says.
    pub(crate) fn is_restricted(&self) -> bool {
        !self.access.load().is_empty()
    }

    /// Whether a client may ask; one that may not is answered by [`Self::deny`].
    pub(crate) fn may_ask(&self, client: IpAddr) -> bool {
        let access = self.access.load();
        access.is_empty() || access.iter().any(|network| network.contains(client))
    }

    /// A place among the queries that wait, or why the client is to be turned away at once: it asks too often, or has
    /// enough of them, or all together have, or it would be a loop.
    pub(crate) fn admit(&self, client: IpAddr, miss: &Miss) -> Result<Place, Failure> {
        if self.closes_a_loop(client, miss) {
            self.counters.loops.add(1);
            return Err(Failure::Loop);
        }
        if !self.rate.load().take(client, self.clock.now()) {
            self.counters.rate_limited.add(1);
            return Err(Failure::TooOften);
        }
        self.places.take(client).ok_or_else(|| self.overload())
    }

    /// Counts a query that is turned away because too many wait.
    pub(crate) fn overload(&self) -> Failure {
        self.counters.overload.add(1);
        Failure::Overload
    }

    /// The state of cache and upstreams. It looks at every entry.
    #[must_use]
    pub fn status(&self) -> Status {
        let zones = self.zones();
        let upstreams = zones.iter().flat_map(|zone| {
            zone.group
                .status()
                .into_iter()
                .map(|server| UpstreamStatus::new(&zone.name, server))
        });
        let (cache, entries) = self.usage(&zones);
        let entries = zones.iter().zip(entries);
        Status {
            cache,
            kernel: self.kernel_usage(),
            counters: self.counters.list(),
            zones: entries
                .map(|(zone, entries)| ZoneStatus {
                    name: zone.name.clone(),
                    entries,
                    misses: zone.counts.misses.get(),
                    failures: zone.counts.failures.get(),
                    stale: zone.counts.stale.get(),
                })
                .collect(),
            upstreams: upstreams.collect(),
        }
    }

    /// What was counted of each server, whatever the zones that it is asked for.
    pub(crate) fn exchanged(&self) -> Vec<Exchanged> {
        let mut servers: Vec<Exchanged> = Vec::new();
        for more in self.zones().iter().flat_map(|zone| zone.group.exchanged()) {
            if !servers.iter_mut().any(|known| known.add(&more)) {
                servers.push(more);
            }
        }
        servers
    }

    /// Queries that found no server of their zone well.
    pub(crate) fn broken(&self) -> u64 {
        self.zones().iter().map(|zone| zone.group.broken()).sum()
    }

    /// Takes over another configuration's zones, bounds of queries, and who may ask. The answers that other servers would
    /// now be asked for, or that have other caps, are flushed, and the cuts if they may stand elsewhere; all others stay.
    ///
    /// # Errors
    /// As [`Resolver::new`]; then nothing has changed. Also if the servers for everything else got lost.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        let old = self.zones();
        let new = Arc::new(old.reload(config)?);
        self.loops.forget();
        self.zones.store(Arc::clone(&new));
        self.mirror_cut_zone(new.cuts.zone());
        let local = [&old.local, &new.local];
        let local = if old.local == new.local {
            &[]
        } else {
            &local[..]
        };
        self.flush_names(
            |name| !new.agree(&old, name) || local.iter().any(|local| local.decides(name)),
            // What was known of the names that exist goes with the old ones.
            |name| !Arc::ptr_eq(&new.cuts, &old.cuts) && old.cuts.is_point(name),
        );
        if let Some(kernel) = self.kernel.get() {
            kernel.set_contents(config.fingerprint());
        }
        self.limit(config.queries);
        self.access.store(Arc::new(config.access.clone()));
        Ok(())
    }

    /// From here on these bounds hold for queries that wait. Another rate begins with full buckets.
    fn limit(&self, queries: Queries) {
        self.flights.resize(queries.in_flight);
        let per_client = queries.in_flight_per_client;
        self.places.resize(queries.in_flight, per_client);
        let rate = Rate::new(queries);
        if !rate.is_as(&self.rate.load()) {
            self.rate.store(Arc::new(rate));
        }
    }

    /// What is wrong with the resolv.conf that the servers for everything else are to come from.
    pub(crate) fn resolv_conf_error(&self) -> Option<String> {
        let wrong = self.zones.load().resolv_conf_error();
        wrong.map(|error| error.to_string())
    }

    fn zones(&self) -> Arc<Zones> {
        self.zones.load_full()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn addresses(all: &[IpAddr]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join(" and ")
}

/// The cache's limits less what the kernel has of them.
fn own_part(limits: CacheLimits) -> CacheLimits {
    let kernel = if limits.kernel {
        Size::new(&limits).bytes()
    } else {
        0
    };
    CacheLimits {
        max_bytes: limits.max_bytes.saturating_sub(kernel),
        ..limits
    }
}

impl Miss {
    fn new(query: &Query<'_>) -> Self {
        Self {
            client: query.client,
            question: query.question.into(),
            key: query.key.as_bytes().into(),
            arrived: Instant::now(),
        }
    }

    /// It may have come so much before it was read.
    pub(crate) fn came_earlier(&mut self, by: Duration) {
        self.arrived = self.arrived.checked_sub(by).unwrap_or(self.arrived);
    }
}

impl UpstreamStatus {
    fn new(zone: &str, server: ServerStatus) -> Self {
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let kinds = server.failures_by_kind.into_iter();
        Self {
            zone: zone.to_owned(),
            address: server.address,
            distance: server.distance,
            weight: server.weight,
            connections: server.connections as u64,
            in_flight: server.in_flight as u64,
            queries: server.queries,
            hedges: server.hedges,
            retries: server.retries,
            failures: server.failures,
            failures_by_kind: kinds
                .map(|(kind, count)| (kind.to_owned(), count))
                .collect(),
            unmatched: server.unmatched,
            ejections: server.ejections,
            rtt_micros: server.rtt_p50.map(micros),
            rtt_p95_micros: server.rtt_p95.map(micros),
            suspect: server.suspect,
            ejected_seconds: server.ejected_for.map(|time| time.as_secs()),
        }
    }
}
