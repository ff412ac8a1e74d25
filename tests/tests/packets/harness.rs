//! The programs, loaded, in a node's namespace with two routed pods, two bridged ones and a resolver.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{
    Array, HashMap, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, ProgramArray, RingBuf,
};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use dns_cache::config::Network;
use dns_cache::datapath::{self, LoadOptions};
use dns_cache::kernel_cache::{KernelCache, Size, random_seed};
use dns_cache_common::cached::{ELEMENT, Refresh};
use dns_cache_common::hash::Seed;
use dns_cache_common::hits::{Code, Hit};
use dns_cache_common::maps::{
    Address, BridgePort, Client, Counter, FIRST_HEARTBEAT, Interface, Resolver, STAGE_TO_RESOLVER,
    Traffic, names,
};
use dns_cache_tests::patience::wait_until;
use dns_cache_tests::{Netns, Scope};
use socket2::SockRef;

use super::packet::Packet;

/// `TC_ACT_*` of linux/pkt_cls.h, as far as the programs return them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `TC_ACT_UNSPEC`: the next program's turn. Never `TC_ACT_OK`, which would end the chain.
    Unspec,
    Shot,
    Redirect,
}

/// What a run gave: the verdict, the packet, and which counters moved, by how much.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) packet: Vec<u8>,
    pub(super) counted: BTreeMap<&'static str, u64>,
}

pub(super) const V4: &str = "10.96.0.10";
pub(super) const V6: &str = "fd00:10:96::a";
pub(super) const RESOLVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const NETNS_ID: u32 = 77;

/// A pod's place: its interface on the node, its addresses, its MAC and its gateway's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) ifindex: u32,
    pub(super) v4: &'static str,
    pub(super) v6: &'static str,
    pub(super) mac: [u8; 6],
    pub(super) gateway: [u8; 6],
}

pub(super) struct Harness {
    node: Netns,
    resolver: Netns,
    _pods: Netns,
    ebpf: Ebpf,
    intercept: HashMap<MapData, [u8; 16], [u8; 16]>,
    left: HashMap<MapData, [u8; 16], u32>,
    interfaces: HashMap<MapData, u32, [u8; 8]>,
    bridge_ports: HashMap<MapData, [u8; 12], u32>,
    clients: HashMap<MapData, [u8; 16], [u8; 16]>,
    resolver_map: Array<MapData, [u8; 16]>,
    resolver_value: Resolver,
    counters: PerCpuArray<MapData, u64>,
    hits: PerCpuArray<MapData, u64>,
    traffic: PerCpuHashMap<MapData, u32, [u8; 24]>,
    refreshes: RingBuf<MapData>,
    cache: Option<Arc<KernelCache>>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    connections: Vec<TcpStream>,
    pub(super) bridge: u32,
}

/// What most tests load the programs with.
fn options(cache: Option<Size>) -> LoadOptions {
    LoadOptions {
        log_level: 0,
        patience: Duration::ZERO,
        cache,
        seed: random_seed(),
        node: 0,
        unguarded: false,
    }
}

impl Harness {
    /// Everything in place: the resolver listens on both addresses, all four pods are registered. Nothing is
    /// answered in the kernel.
    pub(super) fn new() -> Self {
        Self::load(&[], &options(None))
    }

    /// The same with a kernel cache of this size.
    pub(super) fn with_cache(size: Size) -> Self {
        Self::load(&[], &options(Some(size)))
    }

    /// The same with a seed for its hash.
    pub(super) fn with_seed(size: Size, seed: Seed) -> Self {
        let options = LoadOptions {
            seed,
            ..options(Some(size))
        };
        Self::load(&[], &options)
    }

    /// A kernel cache that answers these networks only.
    pub(super) fn restricted(size: Size, allowed: &[Network]) -> Self {
        Self::load(allowed, &options(Some(size)))
    }

    /// A kernel cache whose entries are taken as they are read, though they change meanwhile.
    pub(super) fn unguarded(size: Size) -> Self {
        let options = LoadOptions {
            unguarded: true,
            ..options(Some(size))
        };
        Self::load(&[], &options)
    }

    /// A resolver whose sockets count as dead when they have not shown progress for so long.
    pub(super) fn patient(patience: Duration) -> Self {
        let options = LoadOptions {
            patience,
            ..options(None)
        };
        Self::load(&[], &options)
    }

    fn load(allowed: &[Network], options: &LoadOptions) -> Self {
        let scope = Scope::new();
        let node = Netns::new(&scope, "node");
        let resolver = Netns::new(&scope, "resolver");
        let pods = Netns::new(&scope, "pods");
        node.sysctl("net/ipv4/ip_forward", "1");
        node.sysctl("net/ipv6/conf/all/forwarding", "1");
        let inside = pods.name();
        node.ip(&format!(
            "netns set {resolver} {NETNS_ID}
             link add r0 type veth peer name eth0 netns {resolver}
             link set r0 up
             link add br0 type bridge
             link set br0 up
             addr add 10.245.0.1/24 dev br0
             addr add fd00:10:245::1/64 dev br0 nodad
             link add va type veth peer name pa netns {inside}
             link add vb type veth peer name pb netns {inside}
             link add vc type veth peer name pc netns {inside}
             link add vd type veth peer name pd netns {inside}
             link set vc master br0
             link set vd master br0
             link set va up
             link set vb up
             link set vc up
             link set vd up
             route add 10.244.0.2/32 dev va
             route add 10.244.0.3/32 dev vb
             route add fd00:10:244::2/128 dev va
             route add fd00:10:244::3/128 dev vb",
            resolver = resolver.name(),
        ));
        pods.ip("link set pa up\nlink set pb up\nlink set pc up\nlink set pd up");
        resolver.ip(&format!(
            "link set eth0 up\naddr add {V4}/32 dev lo\naddr add {V6}/128 dev lo nodad\naddr add 10.244.0.2/32 dev lo\naddr add fd00:10:244::2/128 dev lo nodad\naddr add 169.254.20.10/32 dev lo\naddr add fd00:20::a/128 dev lo nodad"
        ));

        let mut ebpf = datapath::load(options).unwrap();
        datapath::Access::of(&mut ebpf)
            .unwrap()
            .set(allowed)
            .unwrap();
        let cache = options.cache;
        let cache = cache.map(|size| datapath::kernel_cache(&ebpf, size, options.seed, 0).unwrap());
        let cache = cache.map(Arc::new);
        datapath::link_stages(&mut ebpf).unwrap();
        let mut harness = Self {
            intercept: ebpf.take_map(names::INTERCEPT).unwrap().try_into().unwrap(),
            left: ebpf.take_map(names::LEFT).unwrap().try_into().unwrap(),
            interfaces: ebpf
                .take_map(names::INTERFACES)
                .unwrap()
                .try_into()
                .unwrap(),
            bridge_ports: ebpf
                .take_map(names::BRIDGE_PORTS)
                .unwrap()
                .try_into()
                .unwrap(),
            clients: ebpf.take_map(names::CLIENTS).unwrap().try_into().unwrap(),
            resolver_map: ebpf.take_map(names::RESOLVER).unwrap().try_into().unwrap(),
            counters: ebpf.take_map(names::COUNTERS).unwrap().try_into().unwrap(),
            hits: ebpf.take_map(names::HITS).unwrap().try_into().unwrap(),
            traffic: ebpf.take_map(names::TRAFFIC).unwrap().try_into().unwrap(),
            refreshes: ebpf.take_map(names::REFRESH).unwrap().try_into().unwrap(),
            cache,
            resolver_value: Resolver {
                ifindex: 0,
                netns_id: 0,
                mac: [0; 6],
                flags: 0,
            },
            bridge: ifindex(&node, "br0"),
            udp: Vec::new(),
            tcp: Vec::new(),
            connections: Vec::new(),
            ebpf,
            node,
            resolver,
            _pods: pods,
        };
        for address in [V4, V6] {
            harness
                .intercept
                .insert(Address::from(ip(address)).0, Address::NONE.0, 0)
                .unwrap();
        }
        let resolver = Resolver {
            ifindex: ifindex(&harness.node, "r0"),
            netns_id: NETNS_ID,
            mac: RESOLVER_MAC,
            flags: 0,
        };
        harness.resolver_map.set(0, resolver.to_bytes(), 0).unwrap();
        harness.resolver_value = resolver;
        let bridge = harness.bridge;
        for (name, bridge) in [("va", 0), ("vb", 0), ("vc", bridge), ("vd", bridge)] {
            let interface = Interface {
                bridge,
                flags: Interface::PEER,
            };
            let ifindex = ifindex(&harness.node, name);
            harness
                .interfaces
                .insert(ifindex, interface.to_bytes(), 0)
                .unwrap();
            let zeros = vec![Traffic::default().to_bytes(); aya::util::nr_cpus().unwrap()];
            let zeros = PerCpuValues::try_from(zeros).unwrap();
            harness.traffic.insert(ifindex, zeros, 0).unwrap();
        }
        let bridge_itself = Interface {
            bridge: 0,
            flags: Interface::BRIDGE,
        };
        harness
            .interfaces
            .insert(bridge, bridge_itself.to_bytes(), 0)
            .unwrap();
        harness.listen();
        harness
    }

    /// Pod `a` or `b`, each behind a route of its own; `c` or `d`, behind the bridge.
    pub(super) fn pod(&self, name: char) -> Place {
        let (v4, v6, last) = match name {
            'a' => ("10.244.0.2", "fd00:10:244::2", 0xa),
            'b' => ("10.244.0.3", "fd00:10:244::3", 0xb),
            'c' => ("10.245.0.2", "fd00:10:245::2", 0xc),
            'd' => ("10.245.0.3", "fd00:10:245::3", 0xd),
            _ => panic!("no such pod"),
        };
        Place {
            ifindex: ifindex(&self.node, &format!("v{name}")),
            v4,
            v6,
            mac: [2, 0, 0, 0, 0, last],
            gateway: [2, 0, 0, 0, 1, last],
        }
    }

    /// Opens the resolver's sockets.
    pub(super) fn listen(&mut self) {
        self.listen_at(&[V4, V6].map(ip));
    }

    /// Opens the resolver's sockets at these addresses of its namespace. The slots of their heartbeats follow each
    /// other, for each address UDP's first.
    pub(super) fn listen_at(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            let at = SocketAddr::new(*address, 53);
            let slot = FIRST_HEARTBEAT + (self.udp.len() + self.tcp.len()) as u32;
            let bind = || {
                let (udp, tcp) = (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
                SockRef::from(&udp).set_mark(slot).unwrap();
                SockRef::from(&tcp).set_mark(slot + 1).unwrap();
                (udp, tcp)
            };
            let (udp, tcp) = self.resolver.run(bind);
            self.udp.push(udp);
            self.tcp.push(tcp);
        }
    }

    /// The nth of the sockets has shown progress at that moment, in nanoseconds since boot.
    pub(super) fn beat(&mut self, nth: usize, moment: u64) {
        let beats = self.ebpf.map_mut(names::HEARTBEATS).unwrap();
        let mut beats: Array<_, u64> = beats.try_into().unwrap();
        beats.set(FIRST_HEARTBEAT + nth as u32, moment, 0).unwrap();
    }

    /// Leaves `pod_ingress` alone, as the kernel does when nobody holds the array of the stages any more.
    pub(super) fn unlink_stages(&mut self) {
        let stages = self.ebpf.map_mut(names::STAGES).unwrap();
        let mut stages: ProgramArray<_> = stages.try_into().unwrap();
        stages.clear_index(&STAGE_TO_RESOLVER).unwrap();
    }

    /// Closes the resolver's sockets, as a kill does.
    pub(super) fn close_sockets(&mut self) {
        self.udp.clear();
        self.tcp.clear();
        self.connections.clear();
        // A process that another test is about to run has them for a moment.
        wait_until(
            || "the sockets stay open",
            || !self.resolver.run(is_listening),
        );
    }

    /// A connection between pod a's address and the resolver; pod a's port.
    pub(super) fn connect(&mut self, to: &str) -> u16 {
        let stream = self.resolver.run(|| {
            let from = if ip(to).is_ipv4() {
                "10.244.0.2"
            } else {
                "fd00:10:244::2"
            };
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(SocketAddr::new(ip(to), 53)),
                socket2::Type::STREAM,
                None,
            )
            .unwrap();
            socket.bind(&SocketAddr::new(ip(from), 0).into()).unwrap();
            socket.connect(&SocketAddr::new(ip(to), 53).into()).unwrap();
            TcpStream::from(socket)
        });
        let port = stream.local_addr().unwrap().port();
        self.connections.push(stream);
        let listener = self
            .tcp
            .iter()
            .find(|listener| listener.local_addr().unwrap().ip() == ip(to))
            .unwrap();
        self.connections.push(listener.accept().unwrap().0);
        port
    }

    /// Runs `pod_ingress` on the packet as coming from `place`.
    pub(super) fn sent_by_pod(&mut self, place: Place, packet: &Packet) -> Outcome {
        self.run("pod_ingress", place.ifindex, &packet.bytes())
    }

    /// Runs `pod_egress` on the packet as going to `place`.
    pub(super) fn sent_to_pod(&mut self, place: Place, packet: &Packet) -> Outcome {
        self.run("pod_egress", place.ifindex, &packet.bytes())
    }

    /// Intercepts `address` as well; what is left to the ordinary path goes to `to` instead.
    pub(super) fn fall_back(&mut self, address: &str, to: &str) {
        let (address, to) = (Address::from(ip(address)).0, Address::from(ip(to)).0);
        self.intercept.insert(address, to, 0).unwrap();
    }

    /// Leaves `address` alone, whose last replies are on their way.
    pub(super) fn leave(&mut self, address: &str) {
        let address = Address::from(ip(address)).0;
        self.left.insert(address, 0, 0).unwrap();
        self.intercept.remove(&address).unwrap();
    }

    /// Runs `resolver_ingress` on the packet.
    pub(super) fn sent_by_resolver(&mut self, packet: &Packet) -> Outcome {
        let ifindex = ifindex(&self.node, "r0");
        self.run("resolver_ingress", ifindex, &packet.bytes())
    }

    /// Runs `host_egress` on the packet as sent by the node itself.
    pub(super) fn sent_by_node(&mut self, packet: &Packet) -> Outcome {
        let context = context(ifindex(&self.node, "r0"));
        self.run_in("host_egress", context, &packet.bytes())
    }

    /// The same, as come in by an interface; `None` where the kernel's test runs cannot be told by which, as on 5.10.
    pub(super) fn forwarded_by_node(&mut self, from: Place, packet: &Packet) -> Option<Outcome> {
        let mut context = context(ifindex(&self.node, "r0"));
        context[INGRESS_IFINDEX..][..4].copy_from_slice(&from.ifindex.to_ne_bytes());
        if !Runner::new(&self.ebpf, "host_egress", context).is_possible(&packet.bytes()) {
            println!(
                "not tried: this kernel's test runs take no interface that a packet came in by"
            );
            return None;
        }
        Some(self.run_in("host_egress", context, &packet.bytes()))
    }

    /// Runs a program on raw bytes.
    pub(super) fn run(&mut self, name: &str, ifindex: u32, bytes: &[u8]) -> Outcome {
        self.run_in(name, context(ifindex), bytes)
    }

    /// Runs `pod_ingress` on the packet as one of several datagrams in one buffer.
    pub(super) fn sent_together(&mut self, place: Place, packet: &Packet) -> Outcome {
        let mut context = context(place.ifindex);
        context[GSO_SIZE..][..4].copy_from_slice(&500u32.to_ne_bytes());
        self.run_in("pod_ingress", context, &packet.bytes())
    }

    fn run_in(&mut self, name: &str, context: Context, bytes: &[u8]) -> Outcome {
        let before = self.counters();
        let runner = Runner::new(&self.ebpf, name, context);
        let (verdict, packet) = self.node.run(|| {
            let mut out = [0; LONGEST];
            let (verdict, packet) = runner.run(bytes, &mut out);
            (verdict, packet.to_vec())
        });
        let counted = self
            .counters()
            .into_iter()
            .filter_map(|(name, now)| {
                Some((name, now - before[name])).filter(|(_, more)| *more > 0)
            })
            .collect();
        Outcome {
            verdict,
            packet,
            counted,
        }
    }

    /// Gives `work` a quick way to run `pod_ingress` on packets from `place`, on a thread of its own.
    pub(super) fn inside<T: Send>(
        &self,
        place: Place,
        work: impl FnOnce(&Runner<'_>) -> T + Send,
    ) -> T {
        let runner = Runner::new(&self.ebpf, "pod_ingress", context(place.ifindex));
        self.node.run(|| work(&runner))
    }

    /// Changes the first element of the kernel cache's memory.
    pub(super) fn change_arena(&mut self, change: impl FnOnce(&mut [u8]) + Send) {
        let map = self.ebpf.map_mut(names::ARENA).unwrap();
        // Values pass by the stack, more than once.
        let large = thread::Builder::new().stack_size(16 * ELEMENT);
        thread::scope(|scope| {
            let work = || {
                let mut arena: Array<_, [u8; ELEMENT]> = map.try_into().unwrap();
                let mut element = arena.get(&0, 0).unwrap();
                change(&mut element);
                arena.set(0, element, 0).unwrap();
            };
            large.spawn_scoped(scope, work).unwrap();
        });
    }

    /// The kernel cache.
    pub(super) fn cache(&self) -> &Arc<KernelCache> {
        self.cache.as_ref().unwrap()
    }

    /// What came through an interface: hits, misses and bypasses.
    pub(super) fn traffic(&self, place: Place) -> [u64; 3] {
        let values = self.traffic.get(&place.ifindex, 0).unwrap();
        values.iter().fold([0; 3], |[hits, misses, bypasses], cpu| {
            let cpu = Traffic::from_bytes(*cpu);
            [
                hits + cpu.hits,
                misses + cpu.misses,
                bypasses + cpu.bypasses,
            ]
        })
    }

    /// The refreshes that were asked for since the last call.
    pub(super) fn refreshes(&mut self) -> Vec<Refresh> {
        let mut all = Vec::new();
        while let Some(event) = self.refreshes.next() {
            all.push(Refresh::from_bytes(&event).unwrap());
        }
        all
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let counters = Counter::ALL.iter();
        let mut all: BTreeMap<_, _> = counters
            .map(|counter| (counter.name(), sum(&self.counters, *counter as u32)))
            .collect();
        for code in Code::ALL {
            all.insert(code.counter(), 0);
        }
        for (hit, count) in self.hits() {
            *all.get_mut(hit.outcome.code.counter()).unwrap() += count;
        }
        all
    }

    /// The kinds of queries that were answered in the kernel, and how many of each.
    pub(super) fn hits(&self) -> Vec<(Hit, u64)> {
        let counted = Hit::all().map(|hit| (hit, sum(&self.hits, hit.slot())));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// What the programs have learnt of a client.
    pub(super) fn client(&self, address: &str) -> Option<Client> {
        self.clients
            .get(&Address::from(ip(address)).0, 0)
            .ok()
            .map(Client::from_bytes)
    }

    /// Which port of the bridge a MAC address is noted at.
    pub(super) fn bridge_port(&self, mac: [u8; 6]) -> Option<u32> {
        self.bridge_ports
            .get(&BridgePort::new(self.bridge, mac).to_bytes(), 0)
            .ok()
    }

    /// Makes an interface one of no bridge, as the agent has it before it hears of that.
    pub(super) fn forget_bridge(&mut self, pod: Place) {
        let interface = Interface {
            bridge: 0,
            flags: Interface::PEER,
        };
        self.interfaces
            .insert(pod.ifindex, interface.to_bytes(), 0)
            .unwrap();
    }

    /// Takes an interface out, as the agent does when it is gone.
    pub(super) fn forget_interface(&mut self, ifindex: u32) {
        self.interfaces.remove(&ifindex).unwrap();
    }

    /// Runs `ip` commands in the node's namespace.
    pub(super) fn ip(&self, batch: &str) {
        self.node.ip(batch);
    }

    /// The node learns the pod's MAC address, as from its ARP request or neighbour solicitation.
    pub(super) fn set_neighbour(&self, pod: Place) {
        let mac = pod.mac.map(|byte| format!("{byte:02x}")).join(":");
        for address in [pod.v4, pod.v6] {
            self.ip(&format!(
                "neigh replace {address} lladdr {mac} dev br0 nud reachable"
            ));
        }
    }

    /// The agent says that it is about to end.
    pub(super) fn set_closing(&mut self) {
        let resolver = Resolver {
            flags: Resolver::CLOSING,
            ..self.resolver_value
        };
        self.resolver_map.set(0, resolver.to_bytes(), 0).unwrap();
    }

    /// No resolver at all.
    pub(super) fn clear_resolver(&mut self) {
        self.resolver_map.set(0, [0; 16], 0).unwrap();
    }
}

/// The first fields of struct `__sk_buff` of linux/bpf.h.
type Context = [u8; 180];
/// Offsets of some of them.
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;
/// No packet out is longer.
pub(super) const LONGEST: usize = 2048;

fn context(ifindex: u32) -> Context {
    let mut context = [0; _];
    context[IFINDEX..][..4].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// A program that can be run, on a thread in the node's namespace.
pub(super) struct Runner<'a> {
    program: &'a SchedClassifier,
    context: Context,
}

impl<'a> Runner<'a> {
    fn new(ebpf: &'a Ebpf, name: &str, context: Context) -> Self {
        Self {
            program: ebpf.program(name).unwrap().try_into().unwrap(),
            context,
        }
    }

    /// Whether the kernel takes the context.
    fn is_possible(&self, bytes: &[u8]) -> bool {
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.ctx_in = Some(&self.context);
        self.program.test_run(options).is_ok()
    }

    /// The verdict on a packet, and the packet then.
    pub(super) fn run<'o>(
        &self,
        bytes: &[u8],
        out: &'o mut [u8; LONGEST],
    ) -> (Verdict, &'o mut [u8]) {
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.data_out = Some(out);
        options.ctx_in = Some(&self.context);
        let result = self.program.test_run(options).unwrap();
        let verdict = match result.return_value {
            u32::MAX => Verdict::Unspec,
            2 => Verdict::Shot,
            7 => Verdict::Redirect,
            other => panic!("verdict {other}"),
        };
        (verdict, &mut out[..result.data_size_out as usize])
    }
}

fn sum(counts: &PerCpuArray<MapData, u64>, slot: u32) -> u64 {
    counts.get(&slot, 0).unwrap().iter().sum()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ifindex(node: &Netns, name: &str) -> u32 {
    let text = node.succeed(Command::new("ip").args(["-oneline", "link", "show", "dev", name]));
    text.split(':').next().unwrap().trim().parse().unwrap()
}

/// One row of a table: what it is, the packet, what must come of it.
pub(super) type Row = (&'static str, Packet, Verdict, &'static [&'static str]);

/// Runs pod a's rows; a packet that is not redirected must come out as it went in.
pub(super) fn check(rows: Vec<Row>) {
    let mut harness = Harness::new();
    let pod = harness.pod('a');
    for (name, packet, verdict, counted) in rows {
        let outcome = harness.sent_by_pod(pod, &packet);
        assert_eq!(outcome.verdict, verdict, "{name}: {outcome:?}");
        let moved: Vec<_> = outcome
            .counted
            .keys()
            .copied()
            .filter(|name| *name != "learnt")
            .collect();
        assert_eq!(moved, counted, "{name}");
        if verdict == Verdict::Redirect {
            let sent = packet.bytes();
            assert_eq!(
                outcome.packet[..6],
                RESOLVER_MAC,
                "{name}: addressed to the resolver"
            );
            assert_eq!(
                outcome.packet[12..],
                sent[12..],
                "{name}: all behind the MAC addresses is as it was"
            );
        } else {
            assert_eq!(outcome.packet, packet.bytes(), "{name}: untouched");
        }
    }
}

/// Whether this thread's namespace has a UDP socket on port 53, or a TCP one that listens (`SS_*` and `TCP_*` of the files in
/// /proc/net).
fn is_listening() -> bool {
    [("udp", "07"), ("udp6", "07"), ("tcp", "0A"), ("tcp6", "0A")]
        .into_iter()
        .any(|(file, listening)| {
            let table = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
            table.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                local.ends_with(":0035") && fields.nth(1) == Some(listening)
            })
        })
}
