//! The embedded cluster DNS: a hickory-server authority, so that a demonstration needs no Go.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_proto::serialize::txt::Parser;
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

use crate::netns::Netns;
use crate::or_panic::OrPanic;
use crate::zones::Zone;

/// An authority in a namespace, over UDP and TCP, IPv4 and IPv6. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Embedded {
    runtime: Option<Runtime>,
}

impl Embedded {
    /// Starts it; it serves when this returns.
    #[must_use]
    pub(crate) fn start(netns: &Netns, zones: &[Zone]) -> Self {
        let (udp, tcp) = listen(netns);
        let runtime = runtime();
        let catalog = catalog(zones);
        let guard = runtime.enter();
        let mut server = Server::new(catalog);
        server.register_socket(
            tokio::net::UdpSocket::from_std(udp).or_panic("taking over a UDP socket"),
        );
        let tcp = tokio::net::TcpListener::from_std(tcp).or_panic("taking over a TCP socket");
        server.register_listener(tcp, Duration::from_secs(30), 64);
        drop(guard);
        runtime.spawn(async move {
            if let Err(error) = server.block_until_done().await {
                eprintln!("the embedded cluster DNS has ended: {error}");
            }
        });
        Self {
            runtime: Some(runtime),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// One thread is enough for a server of the lab.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .or_panic("starting a runtime")
}

/// Sockets on port 53 of all addresses in the namespace. They belong to it wherever they are used.
pub(crate) fn listen(netns: &Netns) -> (UdpSocket, TcpListener) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 53));
    netns.run(|| {
        let socket = |kind: Type| {
            let socket = Socket::new(Domain::IPV6, kind, None).or_panic("opening a socket");
            socket
                .set_only_v6(false)
                .or_panic("opening a socket for both families");
            socket
                .set_reuse_address(true)
                .or_panic("setting SO_REUSEADDR");
            socket
                .set_nonblocking(true)
                .or_panic("making a socket non-blocking");
            socket.bind(&any.into()).or_panic("binding port 53");
            socket
        };
        let udp = socket(Type::DGRAM);
        let tcp = socket(Type::STREAM);
        tcp.listen(128).or_panic("listening on port 53");
        (udp.into(), tcp.into())
    })
}

fn catalog(zones: &[Zone]) -> Catalog {
    let mut catalog = Catalog::new();
    for zone in zones {
        let origin = Name::from_ascii(format!("{}.", zone.name)).or_panic(zone.name);
        let parser = Parser::new(zone.text.as_str(), None, Some(origin.clone()));
        let (_, records) = parser
            .parse()
            .or_panic(format_args!("reading the zone {}", zone.name));
        let handler: InMemoryZoneHandler =
            InMemoryZoneHandler::new(origin.clone(), records, ZoneType::Primary, AxfrPolicy::Deny)
                .or_panic(format_args!("loading the zone {}", zone.name));
        catalog.upsert(origin.into(), vec![Arc::new(handler)]);
    }
    catalog
}
