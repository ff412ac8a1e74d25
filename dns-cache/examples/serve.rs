//! Serves on a loopback port with one upstream, for measurements: `serve LISTEN UPSTREAM [SOCKETS]`.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use dns_cache::config::{AttachMode, CacheLimits, Cluster, Config, Log, LogFormat, TtlCaps, Zone};
use dns_cache::resolver::Resolver;
use dns_cache::serve::{Server, Sockets};
use socket2::{Domain, Protocol, Socket, Type};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let listen: SocketAddr = args.next().context("a listen address")?.parse()?;
    let upstream: SocketAddr = args.next().context("an upstream address")?.parse()?;
    let sockets: usize = args.next().map_or(Ok(2), |count| count.parse())?;
    let ttl = TtlCaps {
        positive: 3600,
        negative: 3600,
    };
    let resolver = Resolver::new(&Config {
        listen: vec![listen.ip()],
        interfaces: vec![],
        cluster: Cluster {
            domain: "cluster.local".to_owned(),
            reverse_zones: vec![],
            upstreams: vec![upstream],
            ttl,
        },
        zones: vec![Zone {
            zone: ".".to_owned(),
            upstreams: vec![upstream],
            ttl,
        }],
        resolv_conf: "/etc/resolv.conf".into(),
        cache: CacheLimits {
            max_entries: 1_000_000,
            max_bytes: 1 << 30,
        },
        attach: AttachMode::Auto,
        state_dir: "/tmp".into(),
        bpffs: "/tmp".into(),
        log: Log {
            format: LogFormat::Text,
            level: "info".to_owned(),
        },
    })?;
    let udp = (0..sockets).map(|_| -> Result<_> {
        let socket = Socket::new(
            Domain::for_address(listen),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&listen.into())?;
        Ok(socket.into())
    });
    let tcp = std::net::TcpListener::bind(listen)?;
    tcp.set_nonblocking(true)?;
    let server = Server::start(
        Sockets {
            udp: udp.collect::<Result<_>>()?,
            tcp: vec![tcp],
        },
        resolver.clone(),
    )?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    println!("{:#?}", resolver.status());
    Ok(())
}
