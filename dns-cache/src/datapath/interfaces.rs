//! Which interfaces lead to pods: rtnetlink's events, the configured patterns, and what is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dns_cache_common::maps::{BridgePort, Interface};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup};
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use super::attach::{Attacher, Mechanism, Standing};
use super::error::{Error, Step as _};
use super::namespace::{ResolverLink, VETH, netlink};
use super::programs::{Carried, Programs};
use super::{Status, has_fallback};
use crate::config::{Destination, InterfacePattern, Network};

/// Bytes of events that may wait while we work: some thousands of interfaces at once.
const EVENT_BUFFER: usize = 8 << 20;
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at whether our programs are where they were put.
const CHECK: Duration = Duration::from_secs(2);
/// Looks after which interfaces that could not be attached to are tried again.
const CHECKS_PER_SCAN: u32 = 10;
/// How often a program in front of ours is looked at before ours is put in front of it again, from one attempt to the
/// next: it doubles, for the other one may insist as well.
const PATIENCE: RangeInclusive<u32> = 1..=256;
/// Looks in a row at which ours were in front, after which the next displacement is as good as the first one.
const TRUCE: u32 = 30;

/// An interface that leads to a pod and carries the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its name now.
    pub name: String,
    /// Its index in the node's namespace.
    pub ifindex: u32,
    /// How the program is attached.
    pub mechanism: Mechanism,
    /// The id of another's program that has the packets first; whether ours sees them is up to that.
    #[serde(default)]
    pub behind: Option<u32>,
    /// Queries from it that the kernel answered.
    pub hits: u64,
    /// Queries from it that the kernel had no answer for.
    pub misses: u64,
    /// Queries from it that were not of the kind that the kernel answers.
    pub bypasses: u64,
}

/// What is attached, and with what.
pub(super) struct State {
    patterns: Vec<InterfacePattern>,
    /// Whether the interfaces carry the program for what goes to the pod as well.
    egress: bool,
    programs: Programs,
    attacher: Attacher,
    attached: BTreeMap<u32, (Attached, Interface)>,
    /// Bridges that have pods behind them.
    bridges: BTreeSet<u32>,
    /// Interfaces with which the node is in a network: uplinks, and bridges themselves.
    in_subnets: BTreeSet<u32>,
    /// How often attaching has failed.
    failed: u64,
    /// Another agent does all this.
    paused: bool,
    /// The names of the interfaces that should have a program and have none.
    missing: BTreeMap<u32, String>,
    /// Looks so far.
    checks: u32,
    /// Interfaces where another's program is in front, or was of late.
    taken: BTreeMap<u32, Taken>,
    /// The resolver's link. It carries programs, but it is no pod's.
    link: ResolverLink,
}

/// How long it is borne that an interface's packets are another's first.
#[derive(Debug)]
struct Taken {
    /// The id of the program in front.
    by: Option<u32>,
    /// Looks until the next attempt.
    wait: u32,
    /// And from that to the one after it.
    pause: u32,
    /// Looks in a row at which ours were in front.
    good: u32,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            by: None,
            wait: 0,
            pause: *PATIENCE.start(),
            good: 0,
        }
    }
}

impl Taken {
    /// Ours are not in front: whether that is to be changed now.
    fn is_due(&mut self) -> bool {
        self.good = 0;
        if self.wait > 0 {
            self.wait -= 1;
            return false;
        }
        self.wait = self.pause;
        self.pause = (self.pause * 2).min(*PATIENCE.end());
        true
    }

    /// Ours are in front: whether the other one has come to terms with that.
    fn is_over(&mut self) -> bool {
        self.by = None;
        self.good += 1;
        self.good >= TRUCE
    }
}

/// The first of others' programs that ours are behind of.
fn first_of(displaced: &[(Carried, Standing)]) -> Option<u32> {
    displaced.iter().find_map(|(_, standing)| match standing {
        Standing::Behind(program) => Some(*program),
        Standing::First | Standing::Gone => None,
    })
}

/// A link as far as it matters here.
struct Link {
    ifindex: u32,
    name: String,
    interface: Interface,
    /// Its peer is in another network namespace.
    leads_out: bool,
}

impl State {
    pub(super) fn new(
        patterns: Vec<InterfacePattern>,
        egress: bool,
        programs: Programs,
        attacher: Attacher,
        link: ResolverLink,
    ) -> Self {
        Self {
            patterns,
            egress,
            programs,
            attacher,
            attached: BTreeMap::new(),
            bridges: BTreeSet::new(),
            in_subnets: BTreeSet::new(),
            failed: 0,
            paused: false,
            missing: BTreeMap::new(),
            checks: 0,
            taken: BTreeMap::new(),
            link,
        }
    }

    /// Answers these networks from the kernel and no others, or all if there are none.
    pub(super) fn set_allowed(&mut self, networks: &[Network]) -> Result<(), Error> {
        self.programs.set_allowed(networks)
    }

    /// Intercepts these destinations and no others. Nothing goes to a fallback before its answers find back.
    pub(super) fn set_intercepted(&mut self, destinations: &[Destination]) -> Result<(), Error> {
        let egress = has_fallback(destinations);
        let changed = std::mem::replace(&mut self.egress, egress) != egress;
        if changed && egress {
            self.attach_egress_everywhere();
        }
        self.programs.set_intercepted(destinations)?;
        if changed && !egress {
            self.attach_egress_everywhere();
        }
        Ok(())
    }

    fn attach_egress_everywhere(&mut self) {
        let interfaces = self.attached.values();
        let interfaces = interfaces.map(|(attached, _)| (attached.name.clone(), attached.ifindex));
        for (name, ifindex) in interfaces.collect::<Vec<_>>() {
            if let Err(error) = self.attach_egress(&name, ifindex) {
                self.failed += 1;
                warn!(interface = name, ifindex, %error, "answers of fallbacks do not find back");
            }
        }
    }

    /// Attaches the program for what goes to the pod, or takes it away.
    fn attach_egress(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        if !self.egress {
            let direction = Carried::PodEgress.direction();
            self.attacher.detach(Some(name), ifindex, direction);
            return Ok(());
        }
        self.attach_program(name, ifindex, Carried::PodEgress)?;
        Ok(())
    }

    fn attach_program(
        &mut self,
        name: &str,
        ifindex: u32,
        which: Carried,
    ) -> Result<Mechanism, Error> {
        let program = self.programs.carried(which)?;
        self.attacher
            .attach(program, name, ifindex, which.direction())
    }

    fn attach_programs(&mut self, name: &str, ifindex: u32) -> Result<Mechanism, Error> {
        // First, so that the answer to whatever is diverted finds back.
        self.attach_egress(name, ifindex)?;
        self.attach_program(name, ifindex, Carried::PodIngress)
    }

    /// Nothing new is handed to the resolver from here on.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.programs.set_closing(&self.link)
    }

    /// Leaves the interfaces to another agent.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends [`Self::pause`], and puts the programs everywhere anew: another agent's are there by now, and its settings.
    fn take_back(&mut self, destinations: &[Destination]) -> Result<(), Error> {
        self.paused = false;
        self.programs.keep_stages()?;
        self.programs.set_resolver(&self.link)?;
        self.attach_resolver()?;
        self.programs.attach_to_cgroup();
        let attached = self.attached.values().cloned().collect::<Vec<_>>();
        for (Attached { name, ifindex, .. }, interface) in attached {
            let set = self.programs.set_interface(ifindex, interface);
            match set.and_then(|()| self.attach_programs(&name, ifindex)) {
                Ok(mechanism) => {
                    if let Some((attached, _)) = self.attached.get_mut(&ifindex) {
                        attached.mechanism = mechanism;
                    }
                }
                Err(error) => {
                    debug!(interface = name, %error, "not taken back; its pod may be gone");
                    // If it is there, the scan that follows attaches to it as to a new one.
                    self.attached.remove(&ifindex);
                }
            }
        }
        self.set_intercepted(destinations)
    }

    /// Puts the programs on the resolver's link.
    pub(super) fn attach_resolver(&mut self) -> Result<(), Error> {
        for which in [Carried::ResolverIngress, Carried::HostEgress] {
            self.attach_program(VETH, self.link.ifindex, which)?;
        }
        Ok(())
    }

    pub(super) fn status(&self) -> Result<Status, Error> {
        let hits = self.programs.hits()?;
        Ok(Status {
            mechanism: self.attacher.mechanism(),
            lacks: self.attacher.capabilities().lacks().to_owned(),
            interfaces: self
                .attached
                .values()
                .map(|(attached, _)| {
                    let traffic = self.programs.traffic(attached.ifindex);
                    Attached {
                        hits: traffic.hits,
                        misses: traffic.misses,
                        bypasses: traffic.bypasses,
                        ..attached.clone()
                    }
                })
                .collect(),
            missing: self.missing.values().cloned().collect(),
            failed_interfaces: self.failed,
            counters: self.programs.counters(&hits)?,
            hits,
        })
    }

    /// Of each interface that carries the program, the first of the addresses that have asked through it.
    pub(super) fn senders(&self) -> Result<BTreeMap<String, IpAddr>, Error> {
        let mut senders = BTreeMap::new();
        for (address, ifindex) in self.programs.clients()? {
            if let Some((attached, _)) = self.attached.get(&ifindex) {
                let first = senders.entry(attached.name.clone()).or_insert(address);
                *first = address.min(*first);
            }
        }
        Ok(senders)
    }

    /// Whether the programs on the sockets of the node's own processes are attached.
    pub(super) const fn has_host_sockets(&self) -> bool {
        self.programs.has_host_sockets()
    }

    /// Attaches, detaches or leaves alone, as the link's name and kind say.
    fn link_changed(&mut self, link: Link) {
        let wanted = self.is_wanted(&link);
        match self.attached.get_mut(&link.ifindex) {
            Some(_) if !wanted => self.drop_interface(link.ifindex, Some(&link.name)),
            Some((attached, interface)) => {
                attached.name.clone_from(&link.name);
                if *interface != link.interface {
                    *interface = link.interface;
                    self.register(link.ifindex, link.interface);
                }
            }
            None if wanted => self.attach(link),
            None => drop(self.missing.remove(&link.ifindex)),
        }
    }

    /// A pod's interface has its peer in the pod's namespace, and hangs on a bridge, or is reached by routes to the pod's own
    /// addresses: with an uplink, which may be a veth as well, the node is in a subnet.
    fn is_wanted(&self, link: &Link) -> bool {
        let looks_like_pod = link.leads_out
            && (link.interface.bridge != 0 || !self.in_subnets.contains(&link.ifindex));
        link.name != VETH
            && InterfacePattern::any_matches(&self.patterns, &link.name, looks_like_pod)
    }

    /// An address has come to an interface.
    fn address_came(&mut self, message: &AddressMessage) {
        let ifindex = message.header.index;
        if !makes_subnet(message) || !self.in_subnets.insert(ifindex) {
            return;
        }
        let Some((attached, interface)) = self.attached.get(&ifindex) else {
            return;
        };
        let link = Link {
            ifindex,
            name: attached.name.clone(),
            interface: *interface,
            leads_out: true,
        };
        self.link_changed(link);
    }

    fn attach(&mut self, link: Link) {
        let Link {
            ifindex,
            name,
            interface,
            ..
        } = link;
        // First, so that the program knows the interface from its first packet on.
        self.register(ifindex, interface);
        match self.attach_programs(&name, ifindex) {
            Ok(mechanism) => {
                info!(
                    interface = name,
                    ifindex,
                    %mechanism,
                    "attached"
                );
                self.missing.remove(&ifindex);
                self.attached.insert(
                    ifindex,
                    (
                        Attached {
                            name,
                            ifindex,
                            mechanism,
                            behind: None,
                            hits: 0,
                            misses: 0,
                            bypasses: 0,
                        },
                        interface,
                    ),
                );
            }
            Err(error) => {
                self.failed += 1;
                self.attacher.forget(Some(&name), ifindex);
                self.programs.remove_interface(ifindex);
                // A pod that was removed at once is no fault.
                warn!(interface = name, ifindex, %error, "not attached: its DNS takes the ordinary path");
                self.missing.insert(ifindex, name);
            }
        }
    }

    /// Looks whether another's program has come in front of ours, or ours was taken off, says so, and puts ours in front
    /// again: at once, and then ever more seldom.
    fn check_order(&mut self) -> Result<(), Error> {
        let mut own = |which| Ok::<_, Error>((which, self.programs.id(which)?));
        // In the order in which they are put back: answers find their way first.
        let pods = [own(Carried::PodEgress)?, own(Carried::PodIngress)?];
        let resolver = [own(Carried::ResolverIngress)?, own(Carried::HostEgress)?];
        let pods = &pods[usize::from(!self.egress)..];
        let names = self.attached.values();
        let names: Vec<_> = names
            .map(|(attached, _)| (attached.ifindex, attached.name.clone()))
            .collect();
        for (ifindex, name) in names {
            self.check_interface(ifindex, &name, pods);
        }
        self.check_interface(self.link.ifindex, VETH, &resolver);
        Ok(())
    }

    /// The same for one interface, which is to carry these programs of these ids.
    fn check_interface(&mut self, ifindex: u32, name: &str, carried: &[(Carried, u32)]) {
        let displaced = self.displaced(ifindex, carried);
        let behind = first_of(&displaced);
        self.set_behind(ifindex, behind);
        if displaced.is_empty() {
            self.missing.remove(&ifindex);
            if self.taken.get_mut(&ifindex).is_some_and(Taken::is_over) {
                self.taken.remove(&ifindex);
            }
            return;
        }
        let is_gone = displaced.iter().any(|(_, found)| *found == Standing::Gone);
        if is_gone && self.missing.insert(ifindex, name.to_owned()).is_none() {
            warn!(interface = name, "our program was taken off by another");
        }
        let taken = self.taken.entry(ifindex).or_default();
        if let Some(program) = behind
            && taken.by != behind
        {
            warn!(
                interface = name,
                program, "another's program runs before ours"
            );
        }
        taken.by = behind;
        if !taken.is_due() {
            return;
        }
        let moved = displaced
            .iter()
            .try_for_each(|(which, ..)| self.put_back(ifindex, name, *which));
        match moved {
            Ok(()) => {
                info!(interface = name, "in front again");
                self.missing.remove(&ifindex);
                let displaced = self.displaced(ifindex, carried);
                self.set_behind(ifindex, first_of(&displaced));
            }
            Err(error) => {
                self.failed += 1;
                self.missing.insert(ifindex, name.to_owned());
                warn!(interface = name, %error, "not attached: its DNS takes the ordinary path");
            }
        }
    }

    /// Those of the programs that are not first of an interface's.
    fn displaced(&self, ifindex: u32, carried: &[(Carried, u32)]) -> Vec<(Carried, Standing)> {
        let standing = |(which, own): &(Carried, u32)| {
            self.attacher.standing(*own, ifindex, which.direction())
        };
        let standings = carried.iter().map(|one| (one.0, standing(one)));
        standings
            .filter(|(_, standing)| *standing != Standing::First)
            .collect()
    }

    /// Notes whose program has a pod's packets first.
    fn set_behind(&mut self, ifindex: u32, behind: Option<u32>) {
        if let Some((attached, _)) = self.attached.get_mut(&ifindex) {
            attached.behind = behind;
        }
    }

    /// Puts a program of ours in front of all others of an interface.
    fn put_back(&mut self, ifindex: u32, name: &str, which: Carried) -> Result<(), Error> {
        let program = self.programs.carried(which)?;
        let direction = which.direction();
        let mechanism = self
            .attacher
            .move_to_front(program, name, ifindex, direction)?;
        if which == Carried::PodIngress
            && let Some((attached, _)) = self.attached.get_mut(&ifindex)
        {
            attached.mechanism = mechanism;
        }
        Ok(())
    }

    /// Looks after what is attached; whether all interfaces have to be gone through again.
    fn check(&mut self) -> bool {
        if self.paused {
            return false;
        }
        if let Err(error) = self.check_order() {
            warn!(%error, "the order of programs cannot be looked at");
        }
        self.checks = self.checks.wrapping_add(1);
        self.checks.is_multiple_of(CHECKS_PER_SCAN) && !self.missing.is_empty()
    }

    fn register(&mut self, ifindex: u32, interface: Interface) {
        let bridge = interface.bridge;
        let known = bridge == 0 || !self.bridges.insert(bridge);
        let result = self
            .programs
            .set_interface(ifindex, interface)
            .and_then(|()| {
                if known {
                    return Ok(());
                }
                self.programs.set_interface(
                    bridge,
                    Interface {
                        bridge: 0,
                        flags: Interface::BRIDGE,
                    },
                )
            });
        if let Err(error) = result {
            warn!(ifindex, %error, "interface not registered");
        }
    }

    /// `name` is the interface's, if it still exists.
    fn drop_interface(&mut self, ifindex: u32, name: Option<&str>) {
        if self.bridges.remove(&ifindex) {
            self.programs.remove_interface(ifindex);
        }
        self.missing.remove(&ifindex);
        if let Some((attached, _)) = self.attached.remove(&ifindex) {
            self.attacher.forget(name, ifindex);
            self.programs.remove_interface(ifindex);
            self.taken.remove(&ifindex);
            info!(interface = attached.name, ifindex, "detached");
        }
    }

    /// A bridge has learnt behind which port a MAC address lives.
    fn bridge_learnt(&mut self, port: u32, message: &NeighbourMessage) {
        let Some((_, Interface { bridge, .. })) = self.attached.get(&port) else {
            return;
        };
        let mac = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => {
                    <[u8; 6]>::try_from(mac.as_slice()).ok()
                }
                _ => None,
            });
        if let Some(mac) = mac
            && *bridge != 0
            && let Err(error) = self
                .programs
                .set_bridge_port(BridgePort::new(*bridge, mac), port)
        {
            debug!(%error, "a bridge port's MAC address is not noted");
        }
    }

    /// Brings everything in line with the interfaces that exist.
    fn reconcile(&mut self, links: Vec<Link>) {
        let present: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<u32> = self
            .attached
            .keys()
            .chain(self.missing.keys())
            .chain(&self.bridges)
            .copied()
            .filter(|ifindex| !present.contains(ifindex))
            .collect();
        for ifindex in gone {
            self.drop_interface(ifindex, None);
        }
        for ifindex in self.programs.interfaces() {
            if !present.contains(&ifindex) {
                self.programs.remove_interface(ifindex);
            }
        }
        for link in links {
            let (name, ifindex) = (link.name.clone(), link.ifindex);
            self.link_changed(link);
            // What an earlier agent left on an interface that is not, or no longer, ours.
            if ifindex != self.link.ifindex && !self.attached.contains_key(&ifindex) {
                self.attacher.forget(Some(&name), ifindex);
            }
        }
        self.attacher
            .keep_only(|ifindex| present.contains(&ifindex));
    }

    /// Takes in a scan.
    fn scanned(&mut self, found: Found) {
        if self.paused {
            return;
        }
        let subnets = found
            .addresses
            .iter()
            .filter(|message| makes_subnet(message));
        self.in_subnets = subnets.map(|message| message.header.index).collect();
        self.reconcile(found.links);
        for message in &found.neighbours {
            self.neighbour(message);
        }
    }

    fn event(&mut self, message: RouteNetlinkMessage) {
        if self.paused {
            return;
        }
        match message {
            // An AF_BRIDGE message speaks of a port's membership, not of the link's life.
            RouteNetlinkMessage::NewLink(message)
                if message.header.interface_family != AddressFamily::Bridge =>
            {
                if let Some(link) = parse_link(&message) {
                    self.link_changed(link);
                }
            }
            RouteNetlinkMessage::DelLink(message)
                if message.header.interface_family != AddressFamily::Bridge =>
            {
                self.drop_interface(message.header.index, None);
            }
            RouteNetlinkMessage::NewNeighbour(message) => self.neighbour(&message),
            RouteNetlinkMessage::NewAddress(message) => self.address_came(&message),
            _ => {}
        }
    }

    fn neighbour(&mut self, message: &NeighbourMessage) {
        // Permanent entries are the ports' own addresses. Entries that age out are kept: a pod that
        // sends nothing but DNS is not seen by the bridge, because we take its packets first.
        if message.header.family == AddressFamily::Bridge
            && message.header.state != NeighbourState::Permanent
        {
            self.bridge_learnt(message.header.ifindex, message);
        }
    }
}

/// All links, the node's addresses, and all bridges' tables.
struct Found {
    links: Vec<Link>,
    addresses: Vec<AddressMessage>,
    neighbours: Vec<NeighbourMessage>,
}

/// Subscribed events, and a handle for questions.
pub(super) struct Events {
    handle: Handle,
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl Events {
    /// Subscribes, then brings `state` in line with what exists: nothing falls between the two.
    pub(super) async fn connect(state: &mut State) -> Result<Self, Error> {
        let (events, found) = Self::subscribe_and_scan().await?;
        state.scanned(found);
        Ok(events)
    }

    async fn subscribe_and_scan() -> Result<(Self, Found), Error> {
        let step = || "subscribe to the node's interfaces".to_owned();
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (mut connection, handle, messages) =
            rtnetlink::new_multicast_connection(&groups).step(step)?;
        if let Err(error) = connection
            .socket_mut()
            .socket_mut()
            .set_rx_buf_sz(EVENT_BUFFER)
        {
            debug!(%error, "the netlink socket keeps its ordinary buffer");
        }
        tokio::spawn(connection);
        let addresses = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .step(|| "list the node's addresses".to_owned())?;
        let links = links(&handle).await?;
        let neighbours = handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Bridge)
            .execute()
            .try_collect()
            .await
            .step(|| "read the bridges' tables".to_owned())?;
        let messages = messages.map(|(message, _)| message).boxed();
        let found = Found {
            links,
            addresses,
            neighbours,
        };
        Ok((Self { handle, messages }, found))
    }
}

async fn links(handle: &Handle) -> Result<Vec<Link>, Error> {
    let messages: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .step(|| "list the node's interfaces".to_owned())?;
    Ok(messages.iter().filter_map(parse_link).collect())
}

/// Index and name of each of the node's interfaces.
pub(super) async fn names(handle: &Handle) -> Result<Vec<(u32, String)>, Error> {
    Ok(links(handle)
        .await?
        .into_iter()
        .map(|link| (link.ifindex, link.name))
        .collect())
}

/// Brings what is attached in line with other patterns.
pub(super) async fn follow_patterns(
    state: &Mutex<State>,
    patterns: Vec<InterfacePattern>,
) -> Result<(), Error> {
    // First, so that an interface that comes while the others are read is judged by them.
    lock(state).patterns = patterns;
    let handle = netlink().step(|| "open a netlink socket".to_owned())?;
    let links = links(&handle).await?;
    for link in links {
        lock(state).link_changed(link);
    }
    Ok(())
}

/// Takes everything back from another agent, whose end may have come at any moment.
pub(super) async fn take_back(
    state: &Mutex<State>,
    destinations: &[Destination],
) -> Result<(), Error> {
    lock(state).take_back(destinations)?;
    // Nobody looked meanwhile.
    let (_, found) = Events::subscribe_and_scan().await?;
    lock(state).scanned(found);
    Ok(())
}

fn parse_link(message: &LinkMessage) -> Option<Link> {
    let (mut name, mut bridge, mut flags, mut is_port) = (None, 0, 0, false);
    let mut is_elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found.clone()),
            LinkAttribute::Controller(found) => bridge = *found,
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(info) => {
                for info in info {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth | InfoKind::Netkit) => {
                            flags |= Interface::PEER
                        }
                        LinkInfo::PortKind(netlink_packet_route::link::InfoPortKind::Bridge) => {
                            is_port = true
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // The master of a port may be a bond or a VRF as well.
    let bridge = if is_port { bridge } else { 0 };
    Some(Link {
        ifindex: message.header.index,
        name: name?,
        interface: Interface { bridge, flags },
        leads_out: is_elsewhere && flags & Interface::PEER != 0,
    })
}

/// Whether the node reaches more than itself by this address. Each interface has link-local ones.
fn makes_subnet(message: &AddressMessage) -> bool {
    let host = match message.header.family {
        AddressFamily::Inet => 32,
        _ => 128,
    };
    message.header.prefix_len < host && message.header.scope == AddressScope::Universe
}

/// Follows the events until the task is aborted.
pub(super) async fn watch(mut events: Events, state: Arc<Mutex<State>>) {
    loop {
        let lost = follow(&mut events, &state).await;
        if let Some(reason) = lost {
            warn!(
                reason,
                "interface events were lost, reading all of them anew"
            );
        }
        loop {
            match Events::subscribe_and_scan().await {
                Ok((new, found)) => {
                    lock(&state).scanned(found);
                    events = new;
                    break;
                }
                Err(error) => {
                    warn!(%error, "cannot read the interfaces; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Handles events until some were lost, and says why; or until something has to be tried again.
async fn follow(events: &mut Events, state: &Mutex<State>) -> Option<&'static str> {
    let mut checks = tokio::time::interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = events.messages.next() => message,
            _ = checks.tick() => {
                if lock(state).check() {
                    return None;
                }
                continue;
            }
        };
        match message.map(|message| message.payload) {
            Some(NetlinkPayload::InnerMessage(message)) => lock(state).event(message),
            Some(NetlinkPayload::Overrun(_)) => return Some("netlink overrun"),
            Some(_) => {}
            // The handle lives as long as the stream: the connection ends with both.
            None => {
                let _ = &events.handle;
                return Some("netlink connection ended");
            }
        }
    }
}

pub(super) fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // Each change is complete in itself; after a panic elsewhere the state is still usable.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until the next attempt.
    fn waits(taken: &mut Taken) -> u32 {
        (0..).find(|_| taken.is_due()).unwrap()
    }

    #[test]
    fn one_that_insists_is_borne_with_for_ever_longer_until_it_rests() {
        let mut taken = Taken::default();
        let first: Vec<_> = (0..11).map(|_| waits(&mut taken)).collect();
        assert_eq!(first, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
        // A pause of the other one's is none of its displacement.
        assert!((1..TRUCE).all(|_| !taken.is_over()));
        assert_eq!(waits(&mut taken), 256);
        assert!((1..TRUCE).all(|_| !taken.is_over()));
        assert!(taken.is_over());
    }
}
