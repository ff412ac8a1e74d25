//! A view of the headers up to UDP or TCP. What is not plain is not parsed: the packet goes its
//! ordinary way.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::bpf_csum_diff,
    programs::TcContext,
};
use dns_cache_common::maps::Address;

use crate::{checksum, maps::PACKET, source};

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
pub const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
/// More-fragments flag and fragment offset; the don't-fragment bit may be set.
const IPV4_FRAGMENT: u16 = 0x3fff;
const IPV4_DONT_FRAGMENT: u16 = 0x4000;
/// What Linux sends by default (RFC 1700).
const HOP_LIMIT: u8 = 64;

const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

/// `PACKET_HOST` of linux/if_packet.h: addressed to this host.
pub const PACKET_HOST: u32 = 0;

pub const DNS_PORT: u16 = 53;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp { syn: bool },
}

/// Addresses and ports of a UDP or TCP packet whose lengths are sound; ports in host order.
pub struct Packet {
    pub ipv4: bool,
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    pub transport: Transport,
    /// Offset of what follows the UDP header; 0 for TCP.
    pub payload_at: usize,
    /// The UDP header's length; 0 for TCP.
    pub udp_len: u16,
    /// The UDP header's checksum as it stands in memory; 0 for TCP.
    pub checksum: u16,
}

impl Packet {
    /// Keeps it in this CPU's memory, for the next stage and off the stack, until the next packet comes.
    #[inline(always)]
    pub fn keep(self) -> Option<&'static Self> {
        let place = PACKET.get_ptr_mut(0)?;
        // SAFETY: a tc program is not interrupted by another one on its CPU, so nobody else uses the place.
        unsafe {
            place.write(self);
            Some(&*place)
        }
    }

    /// The one that an earlier stage kept.
    #[inline(always)]
    pub fn parsed_before() -> Option<&'static Self> {
        // SAFETY: as above; every byte that is read was written by the stage before.
        PACKET.get_ptr(0).map(|packet| unsafe { &*packet })
    }
}

pub enum Parsed {
    Packet(Packet),
    /// Not IP, not UDP or TCP, too short, or VLAN-tagged.
    Other,
    /// IP to `destination`, but a fragment, with options or extension headers, or of broken lengths.
    Odd {
        destination: Address,
    },
}

/// Parses the packet.
///
/// Headers that lie outside of the linear part are pulled in: pointers taken before are dead then.
#[inline(always)]
pub fn parse(ctx: &TcContext) -> Parsed {
    // SAFETY: the context is the kernel's.
    if unsafe { (*ctx.skb.skb).vlan_present } != 0 {
        return Parsed::Other;
    }
    let Some(ethertype) = ethertype(ctx) else {
        return Parsed::Other;
    };
    match ethertype {
        ETH_P_IP => parse_ipv4(ctx),
        ETH_P_IPV6 => parse_ipv6(ctx),
        _ => Parsed::Other,
    }
}

#[inline(always)]
fn ethertype(ctx: &TcContext) -> Option<u16> {
    // No IP packet of interest is shorter than this.
    reach(ctx, ETH_LEN + IPV4_LEN + UDP_LEN)?;
    Some(u16::from_be(header::<Ethernet>(ctx, 0)?.ethertype))
}

#[inline(always)]
fn parse_ipv4(ctx: &TcContext) -> Parsed {
    let Some(ip) = header::<Ipv4>(ctx, ETH_LEN) else {
        return Parsed::Other;
    };
    let ends = Ends {
        ipv4: true,
        source: Address::from_v4(ip.source.to_ne_bytes()),
        destination: Address::from_v4(ip.destination.to_ne_bytes()),
    };
    let total = u16::from_be(ip.total_len) as usize;
    let fragment = u16::from_be(ip.fragment) & IPV4_FRAGMENT;
    let protocol = ip.protocol;
    if ip.version_ihl != 0x45
        || fragment != 0
        || total < IPV4_LEN
        || ETH_LEN + total > ctx.len() as usize
    {
        return Parsed::Odd {
            destination: ends.destination,
        };
    }
    parse_transport(ctx, protocol, ETH_LEN + IPV4_LEN, total - IPV4_LEN, ends)
}

#[inline(always)]
fn parse_ipv6(ctx: &TcContext) -> Parsed {
    if reach(ctx, ETH_LEN + IPV6_LEN + UDP_LEN).is_none() {
        return Parsed::Other;
    }
    let Some(ip) = header::<Ipv6>(ctx, ETH_LEN) else {
        return Parsed::Other;
    };
    let ends = Ends {
        ipv4: false,
        source: source::from_words(ip.source),
        destination: source::from_words(ip.destination),
    };
    let payload = u16::from_be(ip.payload_len) as usize;
    let protocol = ip.next_header;
    if ip.version_class[0] >> 4 != 6 || ETH_LEN + IPV6_LEN + payload > ctx.len() as usize {
        return Parsed::Odd {
            destination: ends.destination,
        };
    }
    parse_transport(ctx, protocol, ETH_LEN + IPV6_LEN, payload, ends)
}

struct Ends {
    ipv4: bool,
    source: Address,
    destination: Address,
}

#[inline(always)]
fn parse_transport(ctx: &TcContext, protocol: u8, at: usize, len: usize, ends: Ends) -> Parsed {
    let Ends {
        ipv4,
        source,
        destination,
    } = ends;
    match protocol {
        IPPROTO_UDP => {
            let Some(udp) = header::<Udp>(ctx, at) else {
                return Parsed::Odd { destination };
            };
            let udp_len = u16::from_be(udp.len) as usize;
            if udp_len < UDP_LEN || udp_len > len {
                return Parsed::Odd { destination };
            }
            Parsed::Packet(Packet {
                ipv4,
                source,
                destination,
                source_port: u16::from_be(udp.source),
                destination_port: u16::from_be(udp.destination),
                protocol,
                transport: Transport::Udp,
                payload_at: at + UDP_LEN,
                udp_len: udp_len as u16,
                checksum: udp.checksum,
            })
        }
        IPPROTO_TCP => {
            if reach(ctx, at + TCP_LEN).is_none() {
                return Parsed::Odd { destination };
            }
            let Some(tcp) = header::<Tcp>(ctx, at) else {
                return Parsed::Odd { destination };
            };
            let header_len = (tcp.data_offset >> 4) as usize * 4;
            if header_len < TCP_LEN || header_len > len {
                return Parsed::Odd { destination };
            }
            Parsed::Packet(Packet {
                ipv4,
                source,
                destination,
                source_port: u16::from_be(tcp.source),
                destination_port: u16::from_be(tcp.destination),
                protocol,
                transport: Transport::Tcp {
                    syn: tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN,
                },
                payload_at: 0,
                udp_len: 0,
                checksum: 0,
            })
        }
        // Another protocol, or an extension header: its kind does not matter, it is not parsed.
        _ => Parsed::Odd { destination },
    }
}

#[repr(C)]
struct Ethernet {
    macs: [u8; 12],
    ethertype: u16,
}

#[repr(C)]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_len: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

#[repr(C)]
struct Ipv6 {
    version_class: [u8; 4],
    payload_len: u16,
    next_header: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

#[repr(C)]
struct Udp {
    source: u16,
    destination: u16,
    len: u16,
    checksum: u16,
}

#[repr(C)]
struct Tcp {
    source: u16,
    destination: u16,
    seq: u32,
    ack: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// Makes sure that the first `len` bytes are in the linear part; pointers taken before are dead.
#[inline(always)]
fn reach(ctx: &TcContext, len: usize) -> Option<()> {
    if ctx.data() + len > ctx.data_end() {
        ctx.pull_data(len as u32).ok()?;
    }
    Some(())
}

/// The header at `offset`, if all of it is in the linear part.
///
/// Fields may lie unaligned: the kernel allows that on every machine with efficient unaligned access
/// (all that Kubernetes runs on), and refuses to load the program elsewhere.
#[inline(always)]
fn header<T>(ctx: &TcContext, offset: usize) -> Option<&T> {
    let start = ctx.data() + offset;
    if start + mem::size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie before data_end; T is a header of plain integers.
    Some(unsafe { &*(start as *const T) })
}

/// Source (second) and destination (first) of the Ethernet header.
#[inline(always)]
pub fn macs(ctx: &TcContext) -> Option<([u8; 6], [u8; 6])> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = header::<Ethernet>(ctx, 0)?.macs;
    Some(([a, b, c, d, e, f], [g, h, i, j, k, l]))
}

#[inline(always)]
pub fn set_macs(ctx: &TcContext, destination: [u8; 6], source: [u8; 6]) -> Option<()> {
    let data = ctx.data();
    if data + ETH_LEN > ctx.data_end() {
        return None;
    }
    // SAFETY: twelve bytes lie before data_end.
    unsafe {
        ptr::write(data as *mut [u8; 6], destination);
        ptr::write((data + 6) as *mut [u8; 6], source);
    }
    Some(())
}

/// Makes the headers of a UDP query those of a reply of `len` bytes. Nothing that the query's sender chose for
/// its packet (TOS, flow label, hop limit) passes into ours.
#[inline(always)]
pub fn turn_round(ctx: &TcContext, packet: &Packet, len: usize, checksum: u16) -> Option<()> {
    let udp_len = (UDP_LEN + len) as u16;
    if packet.ipv4 {
        let ip = header_mut::<Ipv4>(ctx, ETH_LEN)?;
        ip.tos = 0;
        ip.total_len = (IPV4_LEN as u16 + udp_len).to_be();
        // An atomic datagram needs no identification (RFC 6864 §4.1).
        ip.id = 0;
        ip.fragment = IPV4_DONT_FRAGMENT.to_be();
        ip.ttl = HOP_LIMIT;
        mem::swap(&mut ip.source, &mut ip.destination);
        let sum = u64::from(u16::from_be_bytes([0x45, 0]).to_be())
            + u64::from(ip.total_len)
            + u64::from(ip.fragment)
            + u64::from(u16::from_be_bytes([HOP_LIMIT, IPPROTO_UDP]).to_be())
            + u64::from(ip.source)
            + u64::from(ip.destination);
        ip.checksum = !checksum::fold(sum);
    } else {
        let ip = header_mut::<Ipv6>(ctx, ETH_LEN)?;
        ip.version_class = [0x60, 0, 0, 0];
        ip.payload_len = udp_len.to_be();
        ip.hop_limit = HOP_LIMIT;
        mem::swap(&mut ip.source, &mut ip.destination);
    }
    // Not by `payload_at`, which came from memory: offsets into a packet must be plain to the verifier.
    let udp = if packet.ipv4 {
        header_mut::<Udp>(ctx, ETH_LEN + IPV4_LEN)?
    } else {
        header_mut::<Udp>(ctx, ETH_LEN + IPV6_LEN)?
    };
    udp.source = packet.destination_port.to_be();
    udp.destination = packet.source_port.to_be();
    udp.len = udp_len.to_be();
    udp.checksum = checksum;
    let ethernet = header_mut::<Ethernet>(ctx, 0)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = ethernet.macs;
    ethernet.macs = [g, h, i, j, k, l, a, b, c, d, e, f];
    Some(())
}

/// Makes the headers of the reply to a UDP query that query's again.
#[inline(always)]
pub fn turn_back(ctx: &TcContext, packet: &Packet) -> Option<()> {
    turn_round(
        ctx,
        packet,
        packet.udp_len as usize - UDP_LEN,
        packet.checksum,
    )?;
    let udp = if packet.ipv4 {
        header_mut::<Udp>(ctx, ETH_LEN + IPV4_LEN)?
    } else {
        header_mut::<Udp>(ctx, ETH_LEN + IPV6_LEN)?
    };
    mem::swap(&mut udp.source, &mut udp.destination);
    Some(())
}

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// Puts another address into the packet, and what that changes into its checksums, of whatever form they are. `None`:
/// the packet may be neither the old one nor the new one.
#[inline(always)]
pub fn readdress(ctx: &TcContext, packet: &Packet, end: End, new: Address) -> Option<()> {
    let old = match end {
        End::Source => packet.source,
        End::Destination => packet.destination,
    };
    let (in_transport, flags) = match packet.transport {
        // Zero stands for none (RFC 768).
        Transport::Udp => (
            mem::offset_of!(Udp, checksum),
            BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0,
        ),
        Transport::Tcp { .. } => (mem::offset_of!(Tcp, checksum), BPF_F_PSEUDO_HDR),
    };
    let flags = u64::from(flags);
    if packet.ipv4 {
        let (old, new) = (source::v4_word(old), source::v4_word(new));
        let at = match end {
            End::Source => mem::offset_of!(Ipv4, source),
            End::Destination => mem::offset_of!(Ipv4, destination),
        };
        let in_ip = ETH_LEN + mem::offset_of!(Ipv4, checksum);
        let (old_word, new_word, size) = (u64::from(old), u64::from(new), 4);
        ctx.l3_csum_replace(in_ip, old_word, new_word, size).ok()?;
        let in_transport = ETH_LEN + IPV4_LEN + in_transport;
        ctx.l4_csum_replace(in_transport, old_word, new_word, flags | size)
            .ok()?;
        ctx.store(ETH_LEN + at, &new, 0).ok()
    } else {
        let (mut old, mut new) = (source::words(old), source::words(new));
        let at = match end {
            End::Source => mem::offset_of!(Ipv6, source),
            End::Destination => mem::offset_of!(Ipv6, destination),
        };
        // SAFETY: both are arrays of that many bytes.
        let difference = unsafe { bpf_csum_diff(old.as_mut_ptr(), 16, new.as_mut_ptr(), 16, 0) };
        let in_transport = ETH_LEN + IPV6_LEN + in_transport;
        ctx.l4_csum_replace(in_transport, 0, difference as u32 as u64, flags)
            .ok()?;
        ctx.store(ETH_LEN + at, &new, 0).ok()
    }
}

/// As [`header`], to write to.
#[inline(always)]
fn header_mut<T>(ctx: &TcContext, offset: usize) -> Option<&mut T> {
    let start = ctx.data() + offset;
    if start + mem::size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie before data_end; T is a header of plain integers, and no other reference to them
    // is in use.
    Some(unsafe { &mut *(start as *mut T) })
}
