//! A view of the headers up to UDP or TCP. What is not plain is not parsed: the packet goes its
//! ordinary way.

use core::{mem, ptr};

use aya_ebpf::programs::TcContext;
use dns_cache_common::maps::Address;

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// More-fragments flag and fragment offset; the don't-fragment bit may be set.
const IPV4_FRAGMENT: u16 = 0x3fff;

const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

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
        source: from_words(ip.source),
        destination: from_words(ip.destination),
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

#[inline(always)]
fn from_words(words: [u32; 4]) -> Address {
    // SAFETY: sixteen bytes without padding on both sides.
    unsafe { mem::transmute(words) }
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
