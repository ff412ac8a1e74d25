//! Does this node rewrite a Service's addresses at the socket?
//!
//! A kube-proxy replacement that does (Cilium's socket load balancing, say) changes the address in `connect(2)`: what
//! leaves a pod is addressed to an endpoint. The kernel shows what a socket is really connected to, whoever did it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether a socket of this process that connects to `service` is connected to something else. Nothing is sent.
pub(super) fn is_rewritten(service: IpAddr) -> io::Result<bool> {
    let (any, table) = match service {
        IpAddr::V4(_) => (IpAddr::from(Ipv4Addr::UNSPECIFIED), "udp"),
        IpAddr::V6(_) => (IpAddr::from(Ipv6Addr::UNSPECIFIED), "udp6"),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(SocketAddr::new(service, 53))?;
    let port = socket.local_addr()?.port();
    let table = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
    Ok(peer(&table, port).is_some_and(|peer| peer != service))
}

/// The peer's address of the connected socket at this local port, in the kernel's table of sockets.
fn peer(table: &str, port: u16) -> Option<IpAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (_, local_port) = fields.next()?.rsplit_once(':')?;
        let (peer, peer_port) = fields.next()?.rsplit_once(':')?;
        let is_ours = u16::from_str_radix(local_port, 16) == Ok(port) && peer_port != "0000";
        is_ours.then(|| address(peer))?
    })
}

/// Words of the host's byte order in hexadecimal.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (n, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(n * 8)?.to_ne_bytes());
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without anything that rewrites, the kernel's table says what was asked for.
    #[test]
    fn the_kernel_tells_the_peer() {
        for loopback in ["127.0.0.1", "::1"] {
            let loopback: IpAddr = loopback.parse().unwrap();
            assert!(!is_rewritten(loopback).unwrap());
            let server = UdpSocket::bind((loopback, 0)).unwrap();
            let socket = UdpSocket::bind((loopback, 0)).unwrap();
            socket.connect(server.local_addr().unwrap()).unwrap();
            let name = if loopback.is_ipv4() { "udp" } else { "udp6" };
            let table = fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
            let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
            assert_eq!(peer(&table, port(&socket)), Some(loopback));
            assert_eq!(peer(&table, port(&server)), None);
        }
    }

    #[test]
    fn another_peer_is_seen() {
        let table = "  sl  local_address rem_address   st\n\
                     10: 0100007F:A0B1 0A00F40A:0035 01 00000000:00000000\n";
        let expected = u32::from_str_radix("0A00F40A", 16).unwrap().to_ne_bytes();
        assert_eq!(peer(table, 0xa0b1), Some(IpAddr::from(expected)));
        assert_eq!(peer(table, 1), None);
        assert_eq!(peer("", 1), None);
    }
}
