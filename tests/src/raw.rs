//! Packets that no ordinary socket sends: forged sources, fragments, options.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;
use crate::or_panic::OrPanic;

const UDP: u8 = 17;
/// `IPPROTO_RAW`: the sender writes the IP header.
const RAW: i32 = 255;

/// A UDP datagram with a header of its own.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// What it says where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Sends it whole.
    pub fn send(&self, netns: &Netns) {
        let udp = self.udp();
        self.send_parts(netns, &[self.packet(UDP, &udp, None)]);
    }

    /// Sends it whole from a raw socket, and returns what comes back to its source port: all of IP for IPv4, UDP and
    /// what follows for IPv6. The checksums are in it: the sender is no ordinary socket, so nobody leaves them out.
    #[must_use]
    pub fn exchange(&self, netns: &Netns, patience: Duration) -> Option<Vec<u8>> {
        let domain = Domain::for_address(self.destination);
        let socket = netns.run(|| {
            Socket::new(domain, Type::RAW, Some(Protocol::UDP)).or_panic("opening a raw socket")
        });
        self.send(netns);
        let end = Instant::now() + patience;
        let mut buffer = [0; 4096];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .or_panic("setting a time-out");
            let Ok(length) = (&socket).read(&mut buffer) else {
                continue;
            };
            let bytes = &buffer[..length];
            let udp = if domain == Domain::IPV4 { 20 } else { 0 };
            if bytes.get(udp + 2..udp + 4) == Some(&self.source.port().to_be_bytes()) {
                return Some(bytes.to_vec());
            }
        }
        None
    }

    /// Whether its checksum is right both as a whole one and as one that is still to be made: the kernel cannot tell which
    /// is meant, and leaves the query to the resolver. That is one of 65,535.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        let udp = self.udp();
        let pseudo = !checksum(&self.pseudo(udp.len() as u16));
        udp[6..8] == pseudo.to_be_bytes()
    }

    /// Sends it in two fragments, the first of which ends after `at` bytes of UDP (a multiple of 8).
    pub fn send_fragmented(&self, netns: &Netns, at: usize) {
        assert!(
            at.is_multiple_of(8),
            "fragments end at multiples of eight, not at {at}"
        );
        let udp = self.udp();
        let (first, second) = udp.split_at(at);
        self.send_parts(
            netns,
            &[
                self.packet(UDP, first, Some((0, true))),
                self.packet(UDP, second, Some((at, false))),
            ],
        );
    }

    /// Sends it with an IPv4 option, or an IPv6 destination-options header, that does nothing.
    pub fn send_with_option(&self, netns: &Netns) {
        let udp = self.udp();
        let packet = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4(source, destination, UDP, &[1, 1, 1, 0], &udp, None)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut payload = vec![UDP, 0, 1, 4, 0, 0, 0, 0];
                payload.extend(&udp);
                ipv6(source, destination, 60, &payload)
            }
            _ => panic!("source and destination are of two families"),
        };
        self.send_parts(netns, &[packet]);
    }

    fn send_parts(&self, netns: &Netns, packets: &[Vec<u8>]) {
        netns.run(|| {
            let domain = if self.destination.is_ipv4() {
                Domain::IPV4
            } else {
                Domain::IPV6
            };
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))
                .or_panic("opening a raw socket");
            // A raw socket has no ports, and IPv6 refuses one here.
            let destination = SocketAddr::new(self.destination.ip(), 0);
            for packet in packets {
                socket
                    .send_to(packet, &destination.into())
                    .or_panic("sending a raw packet");
            }
        });
    }

    fn packet(&self, protocol: u8, payload: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4(source, destination, protocol, &[], payload, fragment)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => match fragment {
                None => ipv6(source, destination, protocol, payload),
                Some((offset, more)) => {
                    let mut fragmented = vec![protocol, 0];
                    fragmented.extend((offset as u16 | u16::from(more)).to_be_bytes());
                    fragmented.extend([0, 0, 0x12, 0x34]);
                    fragmented.extend(payload);
                    ipv6(source, destination, 44, &fragmented)
                }
            },
            _ => panic!("source and destination are of two families"),
        }
    }

    /// The UDP header and the payload.
    fn udp(&self) -> Vec<u8> {
        let length = (8 + self.payload.len()) as u16;
        let mut bytes: Vec<u8> = [self.source.port(), self.destination.port(), length, 0]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        bytes.extend(&self.payload);
        let mut pseudo = self.pseudo(length);
        pseudo.extend(&bytes);
        // 0 would say that there is none (RFC 768).
        let sum = match checksum(&pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The header that is only summed up.
    fn pseudo(&self, length: u16) -> Vec<u8> {
        let mut pseudo = Vec::new();
        for address in [self.source.ip(), self.destination.ip()] {
            match address {
                IpAddr::V4(a) => pseudo.extend(a.octets()),
                IpAddr::V6(a) => pseudo.extend(a.octets()),
            }
        }
        pseudo.extend([0, UDP]);
        pseudo.extend(length.to_be_bytes());
        pseudo
    }
}

/// The kernel fills in the checksum.
fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    options: &[u8],
    payload: &[u8],
    fragment: Option<(usize, bool)>,
) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let (offset, more) = fragment.unwrap_or((0, false));
    let mut bytes = vec![0x40 | words as u8, 0];
    bytes.extend(((words * 4 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(((offset / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

/// The internet checksum (RFC 1071); 0 over bytes that carry theirs.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_rfc() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn of_all_ids_one_is_ambiguous() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (source, destination) in [
            ("10.244.0.2:40000", "10.96.0.10:53"),
            ("[fd00:10:244::2]:40000", "[fd00:10:96::a]:53"),
        ] {
            let with = |id| Datagram {
                source: address(source),
                destination: address(destination),
                payload: crate::Query::new("a.example", 1).id(id).to_bytes(),
            };
            let ambiguous: Vec<_> = (0..=u16::MAX)
                .filter(|id| with(*id).is_ambiguous())
                .collect();
            // 0000 and ffff are the same to it.
            assert!(
                ambiguous.len() == 1 || ambiguous == [0, u16::MAX],
                "{ambiguous:?}"
            );
            let datagram = with(ambiguous[0]);
            let udp = datagram.udp();
            let pseudo = datagram.pseudo(udp.len() as u16);
            assert_eq!(checksum(&[&pseudo[..], &udp].concat()), 0);
            assert_eq!(!checksum(&pseudo), u16::from_be_bytes([udp[6], udp[7]]));
        }
    }
}
