//! What is handed over.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use crate::datapath::ResolverLink;
use crate::serve::Sockets;

/// Says which descriptors there are: the lock of the state directory, the listener of the control socket, the node's
/// lock, the resolver's network namespace; then UDP sockets, TCP listeners, and the metrics endpoint's listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The inode of the network namespace whose agent it is.
    pub(super) node_netns: u64,
    link: ResolverLink,
    udp: usize,
    tcp: usize,
    metrics: bool,
    /// It answers whether it still waits.
    #[serde(default)]
    pub(super) says_whether_it_waits: bool,
}

/// All that belongs to the agent of a node, whichever process that is.
#[derive(Debug)]
pub struct Estate {
    /// The lock of the state directory.
    pub lock: OwnedFd,
    /// The listener of the control socket.
    pub control: OwnedFd,
    /// The node's lock.
    pub node: OwnedFd,
    /// The inode of the node's network namespace.
    pub node_netns: u64,
    /// The resolver's network namespace.
    pub namespace: OwnedFd,
    /// The way there.
    pub link: ResolverLink,
    /// The resolver's sockets, which keep their marks.
    pub sockets: Sockets,
    /// The metrics endpoint's listener.
    pub metrics: Option<TcpListener>,
}

/// The inode of the network namespace that this process is in.
///
/// # Errors
/// If there is no `/proc`.
pub fn own_netns() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}

impl Estate {
    pub(super) fn manifest(&self) -> Manifest {
        Manifest {
            node_netns: self.node_netns,
            link: self.link,
            udp: self.sockets.udp.len(),
            tcp: self.sockets.tcp.len(),
            metrics: self.metrics.is_some(),
            says_whether_it_waits: true,
        }
    }

    /// In the manifest's order.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let Self {
            lock,
            control,
            node,
            node_netns: _,
            namespace,
            link: _,
            sockets,
            metrics,
        } = self;
        let single = [lock, control, node, namespace];
        let single = single.map(|descriptor| descriptor.as_fd());
        let udp = sockets.udp.iter().map(UdpSocket::as_fd);
        let tcp = sockets.tcp.iter().chain(metrics);
        let tcp = tcp.map(TcpListener::as_fd);
        single.into_iter().chain(udp).chain(tcp).collect()
    }
}

impl Manifest {
    /// How many descriptors there are.
    pub(super) fn count(&self) -> usize {
        4 + self.udp + self.tcp + usize::from(self.metrics)
    }

    /// What there is, from the descriptors in this order.
    pub(super) fn estate(&self, descriptors: Vec<OwnedFd>) -> io::Result<Estate> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || {
            let next = descriptors.next();
            next.ok_or_else(|| io::Error::other("descriptors are missing"))
        };
        let (lock, control, node, namespace) = (next()?, next()?, next()?, next()?);
        let udp = (0..self.udp).map(|_| Ok(next()?.into()));
        let udp = udp.collect::<io::Result<_>>()?;
        let tcp = (0..self.tcp).map(|_| Ok(next()?.into()));
        let tcp = tcp.collect::<io::Result<_>>()?;
        let metrics = self.metrics.then(next).transpose()?;
        Ok(Estate {
            lock,
            control,
            node,
            node_netns: self.node_netns,
            namespace,
            link: self.link,
            sockets: Sockets { udp, tcp },
            metrics: metrics.map(TcpListener::from),
        })
    }
}
