//! Pods by the hundred a second. Their namespaces are there beforehand and are used again; what is made for each pod is a
//! veth pair with its addresses and routes, by netlink sockets that stay open. They go all at once, as the kernel takes them
//! apart when their namespaces end: one at a time each would wait for two grace periods of RCU, and 46 a second is all that a
//! machine gets rid of, with or without an agent.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use dns_cache_tests::addresses::{CLUSTER_IP, GATEWAY};
use dns_cache_tests::node::BRIDGE;
use dns_cache_tests::{Client, Family, Flavour, Lab, Netns, OrPanic, Pair};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, State};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::{self, Runtime};

/// The group of the first crowd's interfaces in the node; others' are the next ones.
const GROUP: u32 = 7_777;

/// Places where pods can be, one at each at a time.
pub(super) struct Crowd {
    runtime: Runtime,
    node: Handle,
    /// The bridge's index, where pods hang on one.
    bridge: Option<u32>,
    places: Vec<Place>,
    index: usize,
    made: usize,
}

struct Place {
    netns: Arc<Netns>,
    file: File,
    handle: Handle,
}

impl Crowd {
    pub(super) fn new(lab: &Lab, index: usize, places: usize) -> Self {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .or_panic("starting a runtime");
        let place = |number| {
            let name = format!("place{index}-{number}");
            let netns = Arc::new(Netns::new(lab.scope(), &name));
            without_link_local(&netns);
            let file = File::open(netns.path()).or_panic("opening a namespace");
            let handle = handle(&runtime, &netns);
            Place {
                netns,
                file,
                handle,
            }
        };
        let places = (0..places).map(place).collect();
        without_link_local(lab.node().netns());
        let node = handle(&runtime, lab.node().netns());
        let bridge = match lab.node().flavour() {
            Flavour::Routed => None,
            Flavour::Bridged => {
                // The node takes up an address's new MAC address from any word of its pod. It does not within a second of the last
                // one (`arp_process` of net/ipv4/arp.c), unless the pod says it unasked, as CNI plugins do for theirs.
                let locktime = format!("net/ipv4/neigh/{BRIDGE}/locktime");
                lab.node().netns().sysctl(&locktime, "0");
                let bridge = runtime.block_on(self::index(&node, BRIDGE));
                Some(bridge.or_panic("looking for the bridge"))
            }
        };
        Self {
            places,
            node,
            bridge,
            runtime,
            index,
            made: 0,
        }
    }

    /// A new pod at each place, with these addresses; the names of their interfaces in the node.
    pub(super) fn come(&mut self, addresses: impl Fn(usize) -> Pair) -> Vec<String> {
        // Never twice: what goes is gone some time later.
        let names = self.made..self.made + self.places.len();
        let names: Vec<_> = names
            .map(|number| format!("veth{}x{number:07}", self.index))
            .collect();
        self.made += names.len();
        let all = async {
            for (index, (place, name)) in self.places.iter().zip(&names).enumerate() {
                let veth = Veth {
                    name,
                    group: self.group(),
                    bridge: self.bridge,
                };
                place.fill(&self.node, veth, addresses(index)).await?;
            }
            for name in &names {
                carrier(&self.node, name).await?;
            }
            let handles = self.places.iter().map(|place| &place.handle);
            for handle in handles.chain([&self.node]) {
                addresses_settle(handle).await?;
            }
            Ok::<_, Error>(())
        };
        self.runtime.block_on(all).or_panic("making pods");
        names
    }

    /// All pods that are there go.
    pub(super) fn go(&self) {
        let mut request = self.node.link().del(0);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(LinkAttribute::Group(self.group()));
        self.runtime
            .block_on(request.execute())
            .or_panic("removing a group of interfaces");
    }

    const fn group(&self) -> u32 {
        GROUP + self.index as u32
    }

    /// The namespaces of all places.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Netns> {
        self.places.iter().map(|place| &*place.netns)
    }

    /// A client in the pod at this place. It leaves no connection behind, for the next pod has its namespace, and IPv6 would
    /// go on sending from the address that this one had (a pod's own namespace ends with it).
    pub(super) fn client(&self, place: usize, family: Family) -> Client {
        let netns = Arc::clone(&self.places[place].netns);
        Client::new(netns, CLUSTER_IP.dns(family)).resetting()
    }
}

/// New interfaces get no link-local address, which would be another neighbour for each pod. All of a machine's namespaces share
/// a table of 1,024 (net.ipv6.neigh.default.gc_thresh3): when it is full of what was heard of within five seconds, the kernel
/// refuses to send to a new one (EINVAL, `ip6_finish_output2` of net/ipv6/ip6_output.c), in whichever namespace that is.
fn without_link_local(netns: &Netns) {
    netns.sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
}

/// A socket in the namespace.
fn handle(runtime: &Runtime, netns: &Netns) -> Handle {
    let (connection, handle, _) = netns
        .run(|| {
            let _runtime = runtime.enter();
            rtnetlink::new_connection()
        })
        .or_panic("opening a netlink socket");
    runtime.spawn(connection);
    handle
}

/// A new pod's interface in the node.
struct Veth<'a> {
    name: &'a str,
    group: u32,
    bridge: Option<u32>,
}

impl Place {
    /// As the plugins ptp and bridge do it.
    async fn fill(&self, node: &Handle, veth: Veth<'_>, addresses: Pair) -> Result<(), Error> {
        let Veth {
            name,
            group,
            bridge,
        } = veth;
        let eth0 = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .setns_by_fd(self.file.as_raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new(name, "eth0")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(eth0)))
            .link_group(group)
            .up();
        let veth = match bridge {
            Some(bridge) => veth.controller(bridge),
            None => veth,
        };
        node.link().add(veth.build()).execute().await?;
        let (veth, eth0) = (index(node, name).await?, index(&self.handle, "eth0").await?);
        let own = &self.handle;
        let up = LinkUnspec::new_with_index(eth0).up();
        own.link().set(up.build()).execute().await?;
        for family in Family::BOTH {
            let (pod, gateway) = (addresses.of(family), GATEWAY.of(family));
            if bridge.is_some() {
                address(own, eth0, pod, in_subnet(pod)).await?;
            } else {
                address(node, veth, gateway, bits(gateway)).await?;
                route(node, on_link(veth, pod)).await?;
                address(own, eth0, pod, bits(pod)).await?;
                route(own, on_link(eth0, gateway)).await?;
            }
            route(own, everything_by(gateway)).await?;
        }
        Ok(())
    }
}

async fn index(handle: &Handle, name: &str) -> Result<u32, Error> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await?;
    Ok(link.or_panic("it was just made").header.index)
}

/// Waits until the interface sends, which begins some time after both ends are up (net/core/link_watch.c).
async fn carrier(handle: &Handle, name: &str) -> Result<(), Error> {
    let up = LinkAttribute::OperState(State::Up);
    loop {
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await?;
        if link.is_some_and(|link| link.attributes.contains(&up)) {
            return Ok(());
        }
    }
}

/// Waits until neighbours can find the addresses, as CNI plugins do (`addrconf_dad_work` of net/ipv6/addrconf.c).
async fn addresses_settle(handle: &Handle) -> Result<(), Error> {
    let settled =
        |message: &AddressMessage| !message.header.flags.contains(AddressHeaderFlags::Tentative);
    loop {
        let all = handle
            .address()
            .get()
            .execute()
            .try_collect::<Vec<_>>()
            .await?;
        if all.iter().all(settled) {
            return Ok(());
        }
    }
}

async fn address(
    handle: &Handle,
    interface: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), Error> {
    let request = handle.address().add(interface, address, prefix);
    request.execute().await
}

async fn route(handle: &Handle, route: Route) -> Result<(), Error> {
    handle.route().add(route.build()).execute().await
}

type Route = RouteMessageBuilder<IpAddr>;

fn on_link(interface: u32, address: IpAddr) -> Route {
    let to = Route::new().destination_prefix(address, bits(address));
    let to = to.or_panic("a prefix as long as the address");
    let to = to.output_interface(interface);
    if address.is_ipv4() {
        to.scope(RouteScope::Link)
    } else {
        to
    }
}

fn everything_by(gateway: IpAddr) -> Route {
    let any = match gateway {
        IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0_u8; 16]),
    };
    let to = Route::new().destination_prefix(any, 0);
    let by = to.and_then(|to| to.gateway(gateway));
    by.or_panic("addresses of one family")
}

/// The length of the prefix of the pods' subnet.
const fn in_subnet(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
