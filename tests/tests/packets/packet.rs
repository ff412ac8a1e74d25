//! Packets, field by field, so that a table can bend each.

use super::harness::{Place, V4, V6, ip};
use std::net::IpAddr;

pub(super) const UDP: u8 = 17;
pub(super) const TCP: u8 = 6;
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;
pub(super) const RST: u8 = 0x04;
pub(super) const FIN: u8 = 0x01;

/// An Ethernet frame with IP and UDP or TCP; fields left at `None` are as they should be.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) macs: [[u8; 6]; 2],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ports: [u16; 2],
    pub(super) protocol: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
    pub(super) ethertype: Option<u16>,
    pub(super) vlan: bool,
    pub(super) version_ihl: Option<u8>,
    /// The IPv4 header's total length, or the IPv6 header's payload length.
    pub(super) ip_len: Option<u16>,
    pub(super) fragment: u16,
    /// Bytes of IPv4 options, or an IPv6 extension header of this kind before the transport header.
    pub(super) options: Vec<u8>,
    pub(super) extension: Option<u8>,
    pub(super) udp_len: Option<u16>,
    /// The UDP checksum; zero, which stands for none, unless given.
    pub(super) checksum: u16,
    pub(super) data_offset: Option<u8>,
    pub(super) cut_at: Option<usize>,
    pub(super) padding: usize,
}

/// A DNS query's first bytes are enough: the programs here do not look into it.
const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";

impl Packet {
    fn new(place: Place, destination: &str, protocol: u8) -> Self {
        let destination = ip(destination);
        Self {
            macs: [place.gateway, place.mac],
            source: ip(if destination.is_ipv4() {
                place.v4
            } else {
                place.v6
            }),
            destination,
            ports: [40000, 53],
            protocol,
            flags: SYN,
            payload: if protocol == UDP {
                QUERY.to_vec()
            } else {
                Vec::new()
            },
            ethertype: None,
            vlan: false,
            version_ihl: None,
            ip_len: None,
            fragment: 0,
            options: Vec::new(),
            extension: None,
            udp_len: None,
            checksum: 0,
            data_offset: None,
            cut_at: None,
            padding: 0,
        }
    }

    /// The same with a change.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut out: Vec<u8> = self.macs.concat();
        if self.vlan {
            out.extend([0x81, 0x00, 0x00, 0x05]);
        }
        let ethertype = if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        out.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        out.extend(self.ip_header(transport.len()));
        out.extend(transport);
        out.extend(vec![0; self.padding]);
        if let Some(at) = self.cut_at {
            out.truncate(at);
        }
        out
    }

    fn ip_header(&self, transport: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.options.len();
                out.push(self.version_ihl.unwrap_or(0x40 | (header / 4) as u8));
                out.push(0);
                out.extend(
                    self.ip_len
                        .unwrap_or((header + transport) as u16)
                        .to_be_bytes(),
                );
                out.extend([0, 1]);
                out.extend(self.fragment.to_be_bytes());
                out.extend([64, self.protocol, 0, 0]);
                out.extend(source.octets());
                out.extend(destination.octets());
                out.extend(&self.options);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extension = if self.extension.is_some() { 8 } else { 0 };
                out.push(self.version_ihl.unwrap_or(0x60));
                out.extend([0, 0, 0]);
                out.extend(
                    self.ip_len
                        .unwrap_or((extension + transport) as u16)
                        .to_be_bytes(),
                );
                out.push(self.extension.unwrap_or(self.protocol));
                out.push(64);
                out.extend(source.octets());
                out.extend(destination.octets());
                if extension > 0 {
                    out.extend([self.protocol, 0, 1, 4, 0, 0, 0, 0]);
                }
            }
            _ => panic!("one family"),
        }
        out
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for port in self.ports {
            out.extend(port.to_be_bytes());
        }
        match self.protocol {
            UDP => {
                out.extend(
                    self.udp_len
                        .unwrap_or(8 + self.payload.len() as u16)
                        .to_be_bytes(),
                );
                out.extend(self.checksum.to_be_bytes());
            }
            _ => {
                out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
                out.extend([
                    self.data_offset.unwrap_or(0x50),
                    self.flags,
                    0xff,
                    0xff,
                    0,
                    0,
                    0,
                    0,
                ]);
            }
        }
        out.extend(&self.payload);
        out
    }
}

/// A query over UDP to the service address of that family.
pub(super) fn udp(place: Place, v4: bool) -> Packet {
    Packet::new(place, if v4 { V4 } else { V6 }, UDP)
}

/// A first SYN to the service address of that family.
pub(super) fn tcp(place: Place, v4: bool) -> Packet {
    Packet::new(place, if v4 { V4 } else { V6 }, TCP)
}

/// The resolver's answer to a pod: addresses and ports turned round.
pub(super) fn answer(query: &Packet) -> Packet {
    query.clone().with(|packet| {
        std::mem::swap(&mut packet.source, &mut packet.destination);
        packet.ports.swap(0, 1);
        packet.macs = [[2, 9, 9, 9, 9, 1], [2, 9, 9, 9, 9, 2]];
    })
}

impl Packet {
    /// The sum of the pseudo-header, as it stands in a packet whose checksum is still to be made.
    pub(super) fn pseudo_sum(&self) -> u16 {
        let mut words = Vec::new();
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(v4) => words.extend(v4.octets()),
                IpAddr::V6(v6) => words.extend(v6.octets()),
            }
        }
        let length = 8 + self.payload.len() as u16;
        words.extend([0, self.protocol]);
        words.extend(length.to_be_bytes());
        sum(&words)
    }

    /// The sum of pseudo-header, UDP header and payload: ffff if the checksum in it is right.
    pub(super) fn whole_sum(&self) -> u16 {
        let mut words = self.pseudo_sum().to_be_bytes().to_vec();
        words.extend(self.transport());
        sum(&words)
    }

    /// Whether its checksum is right both as a whole one and as one still to be made.
    pub(super) fn checksum_is_ambiguous(&self) -> bool {
        self.checksum == self.pseudo_sum() && self.whole_sum() == 0xffff
    }

    /// The same with its whole checksum.
    pub(super) fn with_whole_checksum(self) -> Self {
        let bare = self.with(|packet| packet.checksum = 0);
        let checksum = !bare.whole_sum();
        bare.with(|packet| packet.checksum = if checksum == 0 { 0xffff } else { checksum })
    }

    /// The same with its checksum still to be made (`CHECKSUM_PARTIAL`).
    pub(super) fn with_partial_checksum(self) -> Self {
        let sum = self.pseudo_sum();
        self.with(|packet| packet.checksum = sum)
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071).
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
