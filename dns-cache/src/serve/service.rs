//! Where queries are read, by whom, and from which sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::Sockets;

pub(super) type Sender = watch::Sender<Service>;

/// Where queries are read.
#[derive(Debug, Default)]
pub(super) struct Service {
    addresses: Vec<IpAddr>,
    /// Whether another agent reads them where this one does not.
    has_successor: bool,
}

impl Service {
    /// At no address.
    pub(super) fn nowhere() -> Self {
        Self::default()
    }

    /// By a successor alone.
    pub(super) fn of_successor() -> Self {
        Self {
            has_successor: true,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, addresses: Vec<IpAddr>) {
        self.addresses.extend(addresses);
    }

    pub(super) fn leave(&mut self, addresses: &[IpAddr]) {
        self.addresses
            .retain(|address| !addresses.contains(address));
    }
}

/// Tells those who read.
#[derive(Debug, Clone)]
pub(super) struct Receiver(watch::Receiver<Service>);

pub(super) fn channel() -> (Sender, Receiver) {
    let (sender, receiver) = watch::channel(Service::default());
    (sender, Receiver(receiver))
}

impl Receiver {
    /// Returns when nothing is read at an address any more; says whether a successor does.
    pub(super) async fn left(&mut self, address: IpAddr) -> bool {
        let left = |service: &Service| !service.addresses.contains(&address);
        // An error means that the server was dropped.
        self.0
            .wait_for(left)
            .await
            .is_ok_and(|service| service.has_successor)
    }

    /// Returns when the server has ended.
    pub(super) async fn ended(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// The sockets that are read, as long as they are.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Late replies may keep one open that is read no longer.
    udp: Vec<Weak<UdpSocket>>,
    tcp: Vec<TcpListener>,
}

impl Open {
    /// Says at which addresses they are.
    pub(super) fn add(
        &mut self,
        udp: &[Arc<UdpSocket>],
        tcp: &[TcpListener],
    ) -> io::Result<Vec<IpAddr>> {
        let addresses = udp.iter().map(|socket| socket.local_addr());
        let addresses = addresses.chain(tcp.iter().map(TcpListener::local_addr));
        let addresses: io::Result<_> = addresses.map(|address| Ok(address?.ip())).collect();
        let tcp: Vec<_> = tcp
            .iter()
            .map(TcpListener::try_clone)
            .collect::<Result<_, _>>()?;
        self.tcp.extend(tcp);
        self.udp.extend(udp.iter().map(Arc::downgrade));
        addresses
    }

    /// Those at these addresses are read no longer.
    pub(super) fn remove(&mut self, addresses: &[IpAddr]) {
        let stays = |address: io::Result<SocketAddr>| {
            address.is_ok_and(|address| !addresses.contains(&address.ip()))
        };
        self.tcp.retain(|listener| stays(listener.local_addr()));
        self.udp.retain(|socket| {
            socket
                .upgrade()
                .is_some_and(|socket| stays(socket.local_addr()))
        });
    }

    /// Each under a descriptor of its own.
    pub(super) fn duplicate(&self) -> io::Result<Sockets> {
        let udp = self.udp.iter().filter_map(Weak::upgrade);
        Ok(Sockets {
            udp: udp
                .map(|socket| socket.try_clone())
                .collect::<io::Result<_>>()?,
            tcp: self
                .tcp
                .iter()
                .map(TcpListener::try_clone)
                .collect::<io::Result<_>>()?,
        })
    }
}
