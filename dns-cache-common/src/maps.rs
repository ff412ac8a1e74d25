//! Layouts of the maps that the agent fills and the eBPF programs read.
//!
//! The programs use the `repr(C)` structs, the agent their byte form (`to_bytes`, `from_bytes`), so
//! that no side needs `unsafe` to agree with the other. Integers are in the machine's byte order,
//! addresses in network order.

use core::net::IpAddr;

/// Changes whenever a layout here, or one of [`crate::cached`], changes: part of the path under which the maps are pinned.
/// (The programs' links are beside that: the next agent takes them over whatever its layout.) A map of another type, size
/// or flags is told without it.
pub const LAYOUT_VERSION: u32 = 3;

/// The slot of [`names::STAGES`] with the program `to_resolver`.
pub const STAGE_TO_RESOLVER: u32 = 0;

/// Slots of [`names::HEARTBEATS`]. Each UDP socket and each TCP listener has one of its own, whose number is the socket's
/// mark (`SO_MARK`).
pub const HEARTBEATS: u32 = 4096;
/// The first one that a socket may have. Slot 0 is nobody's.
pub const FIRST_HEARTBEAT: u32 = 1;

/// Names of the maps, as the object file has them.
pub mod names {
    /// [`super::Address`] → [`super::Address`]: destinations that are intercepted, and where what is left to the
    /// ordinary path goes instead of them; [`Address::NONE`](super::Address::NONE): nowhere else.
    pub const INTERCEPT: &str = "INTERCEPT";
    /// [`super::Address`] → `u32` (unused, 0): addresses that were intercepted until of late, whose last replies are still
    /// delivered.
    pub const LEFT: &str = "LEFT";
    /// ifindex (`u32`) → [`super::Interface`]: interfaces that lead to pods, and their bridges.
    pub const INTERFACES: &str = "INTERFACES";
    /// [`super::BridgePort`] → ifindex (`u32`): behind which port of a bridge a MAC address lives.
    pub const BRIDGE_PORTS: &str = "BRIDGE_PORTS";
    /// [`super::Address`] → [`super::Client`]: where replies to a client go.
    pub const CLIENTS: &str = "CLIENTS";
    /// [`super::Flow`] → [`super::Client`]: the same for one flow, where the address proves nothing.
    pub const FLOWS: &str = "FLOWS";
    /// [`super::Connection`] → `u32` (unused, 0): TCP connections whose first segment was handed over.
    pub const CONNECTIONS: &str = "CONNECTIONS";
    /// [`super::Diversion`] → [`super::Original`]: who had asked whom.
    pub const DIVERSIONS: &str = "DIVERSIONS";
    /// [`super::Flow`] → `u32` (unused, 0): queries and connections of the node's own processes.
    pub const HOST_FLOWS: &str = "HOST_FLOWS";
    /// index 0 → [`super::Instead`]: whom the node's own processes ask in the place of other intercepted addresses.
    pub const INSTEAD: &str = "INSTEAD";
    /// Socket cookie (`u64`) → [`super::Address`]: whom the socket's process believes to ask.
    pub const BELIEVED: &str = "BELIEVED";
    /// index 0 → [`super::Resolver`]: where queries go.
    pub const RESOLVER: &str = "RESOLVER";
    /// Slot → `u64`: when a listener has last looked for work, in nanoseconds since boot; in memory shared with the
    /// agent.
    pub const HEARTBEATS: &str = "HEARTBEATS";
    /// [`super::Counter`] → `u64` a CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// [`crate::hits::Hit`] → `u64` a CPU: queries answered in the kernel.
    pub const HITS: &str = "HITS";
    /// Programs that `pod_ingress` goes on in.
    pub const STAGES: &str = "STAGES";
    /// ifindex (`u32`) → [`super::Traffic`] a CPU: what each pod's interface brought.
    pub const TRAFFIC: &str = "TRAFFIC";
    /// [`crate::cached::Bucket`]s: the kernel cache's index, in memory shared with the agent.
    pub const INDEX: &str = "INDEX";
    /// Elements of [`crate::cached::ELEMENT`] bytes: its entries, in memory shared with the agent.
    pub const ARENA: &str = "ARENA";
    /// Prefix of an [`super::Address`] → `u32`, 1: sources that may be answered, the longest prefix counts; only where not
    /// everybody may: [`globals::VARIABLES`](super::globals::VARIABLES).
    pub const ALLOWED: &str = "ALLOWED";
    /// Ring buffer of [`crate::cached::Refresh`]: entries in use that are about to expire.
    pub const REFRESH: &str = "REFRESH";
}

/// Names of the constants that the agent sets before it loads the programs, and of the map of what it sets later.
pub mod globals {
    /// index 0 → `u32`: not 0 if only the sources in [`names::ALLOWED`](super::names::ALLOWED) may be answered. It is the
    /// programs' section of that name: they read it without a look-up.
    pub const VARIABLES: &str = ".bss";
    /// `u32`: buckets of [`names::INDEX`](super::names::INDEX); 0 switches the kernel cache off.
    pub const BUCKETS: &str = "BUCKETS";
    /// [`crate::hash::Seed`].
    pub const SEED: &str = "SEED";
    /// `u64`: nanoseconds without a heartbeat after which a listener is taken for dead; 0: never.
    pub const PATIENCE: &str = "PATIENCE";
    /// `u64`: the cookie of the node's network namespace (`SO_NETNS_COOKIE`); 0: not known.
    pub const NODE: &str = "NODE";
    /// `u32`: not 0 takes out the guard against entries that change while they are read. For one test.
    pub const UNGUARDED: &str = "UNGUARDED";
}

/// The stages of a hit that the benchmark's program `measure` goes through, by the last one of them.
pub mod measure {
    /// `u32`: the constant that says which.
    pub const STAGE: &str = "STAGE";
    /// `u32`: the constant that says, if not 0, that the packets are real.
    pub const LIVE: &str = "LIVE";
    /// Headers up to UDP.
    pub const HEADERS: u32 = 1;
    /// The message is copied.
    pub const LOAD: u32 = 2;
    /// It is read, and the form of its checksum.
    pub const READ: u32 = 3;
    /// The name is in lower case, and hashed.
    pub const KEY: u32 = 4;
    /// The entry is found, compared, copied and made a reply.
    pub const FIND: u32 = 5;
    /// The packet is the reply's, and was put back.
    pub const SEND: u32 = 6;
    /// All of them, with a name.
    pub const ALL: [(u32, &str); 6] = [
        (HEADERS, "headers"),
        (LOAD, "load"),
        (READ, "read"),
        (KEY, "key"),
        (FIND, "find"),
        (SEND, "send"),
    ];
}

/// An IP address in 16 bytes of network order; IPv4 in its mapped form (RFC 4291 §2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

/// What stands for the node's own address where the node's packets take the ordinary path in another's name: their
/// answers must come back to the resolver's veth, and not to the client. The dummy address of RFC 7600, which no host
/// has.
pub const STAND_IN_V4: core::net::Ipv4Addr = core::net::Ipv4Addr::new(192, 0, 0, 8);
/// The same for IPv6, of the dummy prefix of RFC 9780.
pub const STAND_IN_V6: core::net::Ipv6Addr = core::net::Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 8);

impl Address {
    /// No address: `::`, which nobody has.
    pub const NONE: Self = Self([0; 16]);

    /// The mapped form of four bytes in network order.
    #[inline(always)]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The address that a program or a person means by this key.
    pub fn to_ip(self) -> IpAddr {
        core::net::Ipv6Addr::from(self.0).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

/// One of the node's interfaces that the programs may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Interface {
    /// ifindex of the bridge that it is a port of, else 0.
    pub bridge: u32,
    /// [`Interface::PEER`], [`Interface::BRIDGE`].
    pub flags: u32,
}

impl Interface {
    /// A device with a peer in another namespace (veth, netkit): `bpf_redirect_peer` works on it.
    pub const PEER: u32 = 1;
    /// A bridge with pods behind it; no program is attached to it.
    pub const BRIDGE: u32 = 2;

    /// The value as the map holds it.
    pub fn to_bytes(self) -> [u8; 8] {
        concat(self.bridge.to_ne_bytes(), self.flags.to_ne_bytes())
    }
}

/// A MAC address as one bridge sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BridgePort {
    /// ifindex of the bridge.
    pub bridge: u32,
    /// The address, and two bytes of zero.
    pub mac: [u8; 8],
}

impl BridgePort {
    /// The key of `mac` on `bridge`.
    #[inline(always)]
    pub const fn new(bridge: u32, mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self {
            bridge,
            mac: [a, b, c, d, e, f, 0, 0],
        }
    }

    /// The key as the map holds it.
    pub fn to_bytes(self) -> [u8; 12] {
        concat(self.bridge.to_ne_bytes(), self.mac)
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let (bridge, mac) = split(bytes);
        Self {
            bridge: u32::from_ne_bytes(bridge),
            mac,
        }
    }
}

/// What was learnt from a client's query: where its replies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// ifindex of the interface, in the node's namespace, that leads to the pod.
    pub ifindex: u32,
    /// MAC address that the query came from.
    pub pod: [u8; 6],
    /// MAC address that the query was sent to.
    pub gateway: [u8; 6],
}

impl Client {
    /// The inverse of the map's form; see the struct's layout.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (ifindex, macs): ([u8; 4], [u8; 12]) = split(bytes);
        let (pod, gateway) = split(macs);
        Self {
            ifindex: u32::from_ne_bytes(ifindex),
            pod,
            gateway,
        }
    }
}

/// A client's address and port: one UDP exchange, or one TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The client's address.
    pub address: Address,
    /// Its port, in host order.
    pub port: u16,
    /// The IP protocol: 6 (TCP) or 17 (UDP).
    pub protocol: u16,
}

/// A TCP connection between a client and the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Connection {
    /// The client's address.
    pub client: Address,
    /// The service address.
    pub server: Address,
    /// The client's port, in host order.
    pub port: u32,
}

/// A query, or a TCP connection, that was sent to another address than the one it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Diversion {
    /// ifindex of the interface that it came from, and that the answer leaves by.
    pub ifindex: u32,
    /// The client's address, or the one that it was given.
    pub client: Address,
    /// The address that it was sent to.
    pub server: Address,
    /// The client's port, in host order.
    pub port: u16,
    /// The DNS message's ID as it stands in memory; 0 for TCP.
    pub id: u16,
    /// The IP protocol: 6 (TCP) or 17 (UDP).
    pub protocol: u32,
}

/// The ends that a packet had before it was diverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Original {
    /// The client.
    pub client: Address,
    /// The address that it asked.
    pub server: Address,
}

/// The addresses that the node's own processes ask, by a route to the resolver; [`Address::NONE`]: none of that family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instead {
    /// For IPv4.
    pub v4: Address,
    /// For IPv6.
    pub v6: Address,
}

impl Instead {
    /// The value as the map holds it.
    pub fn to_bytes(self) -> [u8; 32] {
        concat(self.v4.0, self.v6.0)
    }
}

/// Where the resolver is. All zero while there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Resolver {
    /// ifindex of the veth to the resolver's namespace, at its end in the node's.
    pub ifindex: u32,
    /// The resolver namespace's id as seen from the node's (`RTM_NEWNSID`).
    pub netns_id: u32,
    /// MAC address of the veth's end in the resolver's namespace.
    pub mac: [u8; 6],
    /// [`Resolver::CLOSING`].
    pub flags: u16,
}

impl Resolver {
    /// The agent is about to end: nothing new is handed over, what is open goes on.
    pub const CLOSING: u16 = 1;

    /// The value as the map holds it.
    pub fn to_bytes(self) -> [u8; 16] {
        let head: [u8; 8] = concat(self.ifindex.to_ne_bytes(), self.netns_id.to_ne_bytes());
        let tail: [u8; 8] = concat(self.mac, self.flags.to_ne_bytes());
        concat(head, tail)
    }
}

/// What came through one interface: UDP queries to intercepted addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Traffic {
    /// Answered in the kernel.
    pub hits: u64,
    /// Looked up in the kernel cache, and not answered there.
    pub misses: u64,
    /// Not looked up: not the kind of query that the kernel answers.
    pub bypasses: u64,
}

impl Traffic {
    /// The value as the map holds it.
    pub fn to_bytes(self) -> [u8; 24] {
        let rest: [u8; 16] = concat(self.misses.to_ne_bytes(), self.bypasses.to_ne_bytes());
        concat(self.hits.to_ne_bytes(), rest)
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let (hits, rest): ([u8; 8], [u8; 16]) = split(bytes);
        let (misses, bypasses) = split(rest);
        Self {
            hits: u64::from_ne_bytes(hits),
            misses: u64::from_ne_bytes(misses),
            bypasses: u64::from_ne_bytes(bypasses),
        }
    }
}

/// `a` followed by `b`; `N` must be `A + B`.
fn concat<const A: usize, const B: usize, const N: usize>(a: [u8; A], b: [u8; B]) -> [u8; N] {
    const { assert!(A + B == N) };
    let mut out = [0; N];
    let (head, tail) = out.split_at_mut(A);
    head.copy_from_slice(&a);
    tail.copy_from_slice(&b);
    out
}

/// The inverse of [`concat`].
fn split<const N: usize, const A: usize, const B: usize>(bytes: [u8; N]) -> ([u8; A], [u8; B]) {
    const { assert!(A + B == N) };
    let (mut a, mut b) = ([0; A], [0; B]);
    let (head, tail) = bytes.split_at(A);
    a.copy_from_slice(head);
    b.copy_from_slice(tail);
    (a, b)
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// What the programs count, each a slot of a per-CPU array.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Counter {
            /// All of them, in the order of their slots.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name for people and machines.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counters! {
    /// UDP queries handed to the resolver.
    ToResolverUdp = "to_resolver_udp",
    /// TCP segments handed to the resolver.
    ToResolverTcp = "to_resolver_tcp",
    /// UDP queries left to the ordinary path: the resolver has no socket for them.
    OrdinaryNoSocketUdp = "ordinary_no_socket_udp",
    /// TCP segments left to the ordinary path: the resolver has no socket for them.
    OrdinaryNoSocketTcp = "ordinary_no_socket_tcp",
    /// UDP queries left to the ordinary path: the resolver has a socket for them, and makes no progress.
    OrdinaryWedgedUdp = "ordinary_wedged_udp",
    /// TCP connections left to the ordinary path: the resolver listens, and makes no progress.
    OrdinaryWedgedTcp = "ordinary_wedged_tcp",
    /// Packets handed over although nothing proves or refutes their source; replies go where they came from.
    Unverified = "unverified",
    /// Packets left to the ordinary path: a link-local source, a flow that another interface has claimed,
    /// or an interface that is not registered.
    OrdinarySource = "ordinary_source",
    /// Packets to an intercepted address and port 53 that are fragments or carry options; ordinary path.
    OrdinaryUnparsed = "ordinary_unparsed",
    /// Packets dropped: their source is the address of another pod.
    ForgedSource = "forged_source",
    /// Replies delivered to a pod.
    Replies = "replies",
    /// Replies dropped: no client with that address is known any more.
    RepliesUnknownClient = "replies_unknown_client",
    /// Other packets that the resolver's namespace sent, dropped.
    ResolverOther = "resolver_other",
    /// Packets of the ordinary path that were sent to the fallback of their destination.
    Diverted = "diverted",
    /// Answers to them that got back the source that was asked.
    DivertedBack = "diverted_back",
    /// Packets of the node's own processes handed to the resolver.
    FromHost = "from_host",
    /// Other packets that the node sends into the resolver's namespace, dropped.
    HostOther = "host_other",
    /// Client → interface pairs learnt or changed.
    Learnt = "learnt",
    /// Those among the queries answered in the kernel that the NXDOMAIN of a name above answered (RFC 8020).
    CacheCut = "cache_cuts",
    /// Kernel cache: no entry.
    CacheMissAbsent = "cache_misses_absent",
    /// Kernel cache: an entry, and it has expired.
    CacheMissExpired = "cache_misses_expired",
    /// Kernel cache: an answer longer than the client takes.
    CacheMissTooLong = "cache_misses_too_long",
    /// Kernel cache: the entry of another name with the same bits of hash.
    CacheMissCollision = "cache_misses_collision",
    /// Kernel cache: the entry was replaced while it was read.
    CacheMissChanged = "cache_misses_changed",
    /// Kernel cache: the packet could not be made longer or shorter.
    CacheMissPacket = "cache_misses_packet",
    /// Kernel cache: queries lost because the packet could not be written after it was resized.
    CacheDropped = "cache_dropped",
    /// Not looked up in the kernel cache: not a query, or malformed.
    CacheBypassMalformed = "cache_bypasses_malformed",
    /// Not looked up: longer than the programs read, or with more EDNS options.
    CacheBypassLong = "cache_bypasses_long",
    /// Not looked up: an opcode other than QUERY.
    CacheBypassOpcode = "cache_bypasses_opcode",
    /// Not looked up: an EDNS version other than 0.
    CacheBypassVersion = "cache_bypasses_edns_version",
    /// Not looked up: an EDNS Client Subnet option.
    CacheBypassSubnet = "cache_bypasses_client_subnet",
    /// Not looked up: a class other than IN, or a type that no record has.
    CacheBypassType = "cache_bypasses_type",
    /// Not looked up: recursion is not desired.
    CacheBypassNoRecursion = "cache_bypasses_no_recursion",
    /// Not looked up: several datagrams in one buffer (GSO), or a checksum that may be complete or not.
    CacheBypassPacket = "cache_bypasses_packet",
    /// Not looked up: the source may not ask, or is not verified yet where not all may.
    CacheBypassAccess = "cache_bypasses_access",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cached::{self, Bucket, Counts, Shape, word};
    use crate::header::Flags;
    use crate::reply::Rotation;
    use core::mem::{offset_of, size_of};

    #[test]
    fn byte_forms_have_the_structs_layout() {
        assert_eq!((size_of::<Address>(), size_of::<Interface>()), (16, 8));
        assert_eq!(
            (size_of::<BridgePort>(), offset_of!(BridgePort, mac)),
            (12, 4)
        );
        assert_eq!(
            (
                size_of::<Client>(),
                offset_of!(Client, pod),
                offset_of!(Client, gateway)
            ),
            (16, 4, 10)
        );
        assert_eq!(
            (
                size_of::<Resolver>(),
                offset_of!(Resolver, netns_id),
                offset_of!(Resolver, mac)
            ),
            (16, 4, 8)
        );
    }

    /// FNV-1a over what a layout is: the names and places of fields.
    struct Digest(u64);

    impl Digest {
        fn add(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }

        fn number(&mut self, number: u64) {
            self.add(&number.to_le_bytes());
        }
    }

    macro_rules! layouts {
        ($digest:ident: $($name:ident { $($field:tt)* })*) => {$(
            $digest.add(stringify!($name).as_bytes());
            $digest.number(size_of::<$name>() as u64);
            $(
                $digest.add(stringify!($field).as_bytes());
                $digest.number(offset_of!($name, $field) as u64);
            )*
        )*};
    }

    /// What agents of one version leave to each other.
    fn layout() -> u64 {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        layouts! { digest:
            Address { 0 }
            Interface { bridge flags }
            BridgePort { bridge mac }
            Client { ifindex pod gateway }
            Flow { address port protocol }
            Connection { client server port }
            Diversion { ifindex client server port id protocol }
            Original { client server }
            Resolver { ifindex netns_id mac flags }
            Bucket { ways hits asked }
        }
        let shape = Shape {
            body_len: 1,
            flags: Flags(2),
            rtype: 3,
            name_words: 4,
            bits: 5,
            covers_below: true,
        };
        let counts = Counts {
            sections: [1, 2, 3],
            records: 4,
        };
        let rotation = Rotation {
            start: 1,
            len: 2,
            count: 3,
        };
        let numbers = [
            HEARTBEATS.into(),
            FIRST_HEARTBEAT.into(),
            Resolver::CLOSING.into(),
            Interface::PEER.into(),
            Interface::BRIDGE.into(),
            shape.pack(),
            counts.pack(),
            cached::pack_rotation(rotation, 4),
            cached::way(u64::MAX, 1),
        ];
        let sizes = [
            cached::CELL,
            cached::ELEMENT,
            cached::CUT_ZONE_LEN,
            cached::HEAD_WORDS,
            word::GENERATION,
            word::HASH,
            word::STORED,
            word::UNTIL,
            word::PREFETCH,
            word::SHAPE,
            word::COUNTS,
            word::ROTATION,
        ];
        let sizes = sizes.map(|size| size as u64);
        numbers
            .into_iter()
            .chain(sizes)
            .for_each(|number| digest.number(number));
        digest.0
    }

    /// If it fails, a layout is another one: raise the version, and record both.
    #[test]
    fn another_layout_has_another_version() {
        assert_eq!((LAYOUT_VERSION, layout()), (3, 0x2a01_ab76_ea8b_8982));
    }

    #[test]
    fn addresses_keep_their_family() {
        for ip in ["10.96.0.10", "fd00::a", "::"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Address::from(ip).to_ip(), ip);
        }
    }

    #[test]
    fn counters_are_numbered_in_order_and_named_once() {
        for (slot, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, slot);
            assert_eq!(
                Counter::ALL
                    .iter()
                    .filter(|other| other.name() == counter.name())
                    .count(),
                1
            );
        }
    }

    #[test]
    fn traffic_has_its_structs_layout() {
        let traffic = Traffic {
            hits: 1,
            misses: 2,
            bypasses: 3,
        };
        assert_eq!(size_of::<Traffic>(), 24);
        assert_eq!(Traffic::from_bytes(traffic.to_bytes()), traffic);
    }

    #[test]
    fn byte_forms_come_back() {
        let port = BridgePort::new(7, [1, 2, 3, 4, 5, 6]);
        assert_eq!(BridgePort::from_bytes(port.to_bytes()), port);
        let resolver = Resolver {
            ifindex: 3,
            netns_id: 9,
            mac: [1, 2, 3, 4, 5, 6],
            flags: 0,
        };
        assert_eq!(resolver.to_bytes()[8..14], [1, 2, 3, 4, 5, 6]);
    }
}
