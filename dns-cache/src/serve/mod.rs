//! Bytes in, bytes out: the listeners of the resolver's namespace.

/// Sockets made in the resolver's namespace, all non-blocking.
#[derive(Debug)]
pub struct Sockets {
    /// One a listen address and core, bound with `SO_REUSEPORT` to that address and port 53.
    pub udp: Vec<std::net::UdpSocket>,
    /// One a listen address.
    pub tcp: Vec<std::net::TcpListener>,
}
