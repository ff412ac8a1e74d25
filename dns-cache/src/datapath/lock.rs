//! One agent a node: two would attach to the same interfaces and undo each other's work.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::error::{Error, Step as _};

/// An abstract name: it belongs to the network namespace, as interfaces do, and goes with its process.
const NAME: &[u8] = b"dns-cache/datapath";

/// Held for as long as this process may change the node's interfaces.
#[derive(Debug)]
pub struct NodeLock {
    socket: UnixListener,
}

impl NodeLock {
    /// Takes the lock of this network namespace.
    pub fn take() -> Result<Self, Error> {
        let bound =
            SocketAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name));
        let socket = match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err("another agent runs in this network namespace").step_hint(
                    || "take over the node's interfaces".to_owned(),
                    "one agent a node; stop the other one first",
                );
            }
            bound => bound.step(|| "take over the node's interfaces".to_owned())?,
        };
        Ok(Self { socket })
    }

    /// The lock that another process holds too.
    #[must_use]
    pub fn inherit(lock: OwnedFd) -> Self {
        Self {
            socket: lock.into(),
        }
    }

    /// The lock once more, for [`Self::inherit`] in another process.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }
}
