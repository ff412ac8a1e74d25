//! The resolver's network namespace: no netfilter rules, the service addresses local to it, and one
//! veth to the node over which replies leave.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde::{Deserialize, Serialize};

use super::error::{Error, Step as _};
use crate::privileges::Resident;

/// The veth's end in the node's namespace.
pub(super) const VETH: &str = "dnscache0";
/// The other end's name until it is moved.
const PEER: &str = "dnscache1";
/// Its name in the resolver's namespace.
const INNER: &str = "eth0";
/// The gateway of the resolver's default routes. Nobody has these addresses: neighbour entries give
/// them the MAC address of the node's end.
///
/// The IPv4 one is the dummy address of RFC 7600, which no service has.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Namespace ids that the kernel gives by itself start at 0; ours are taken at random from up here, so that
/// a program that an earlier agent left asks for a namespace that is gone, and not for another one.
const NETNS_IDS: Range<i32> = 0x1000_0000..0x7fff_ffff;
const PRIVILEGE: &str = "needs CAP_SYS_ADMIN or root";
/// Two agents have the same id once in a billion starts.
const TRIES: usize = 8;

/// What the programs need to know to reach the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolverLink {
    /// ifindex of the veth's end in the node's namespace.
    pub(super) ifindex: u32,
    /// The resolver namespace's id as seen from the node's.
    pub(super) netns_id: u32,
    /// MAC address of the inner end.
    pub(super) inner_mac: [u8; 6],
}

/// The resolver's namespace. Nothing but the resident and its sockets keeps it: it ends with the agent, however that
/// ends, and its veth with it.
#[derive(Debug)]
pub(super) struct Namespace {
    path: PathBuf,
    fd: OwnedFd,
    resident: Resident,
    link: ResolverLink,
}

impl Namespace {
    /// Makes the namespace anew, around the resident; what an earlier agent left is removed first.
    pub(super) async fn create(listen: &[IpAddr], resident: Resident) -> Result<Self, Error> {
        remove().await?;
        let (fd, thread) = resident.run(make)?;
        let link = connect(fd.as_fd(), &resident, listen).await?;
        Ok(Self::around(resident, fd, thread, link))
    }

    /// Settles the resident in the namespace of another agent, to which this link leads.
    pub(super) async fn join(
        listen: &[IpAddr],
        resident: Resident,
        fd: OwnedFd,
        link: ResolverLink,
    ) -> Result<Self, Error> {
        let (fd, thread) = resident.run(move || enter(fd))?;
        let this = Self::around(resident, fd, thread, link);
        this.add_addresses(listen).await?;
        Ok(this)
    }

    fn around(resident: Resident, fd: OwnedFd, thread: Pid, link: ResolverLink) -> Self {
        Self {
            path: format!("/proc/{}/task/{thread}/ns/net", Pid::this()).into(),
            fd,
            resident,
            link,
        }
    }

    /// The namespace once more, for [`Self::join`] in another process.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Gives it further addresses; those that it has already are no error.
    pub(super) async fn add_addresses(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let inner = netlink_inside(&self.resident)?;
        add_addresses(&inner, loopback(&inner).await?, addresses).await
    }

    /// Who lives in it.
    pub(super) fn resident(&self) -> &Resident {
        &self.resident
    }

    /// A file that names it, for as long as the agent lives.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn link(&self) -> &ResolverLink {
        &self.link
    }
}

/// Removes the veth, if it is there. It goes by itself with the namespace of an agent that has ended, but not at once.
pub(super) async fn remove() -> Result<Vec<String>, Error> {
    let node = netlink().step(|| "open a netlink socket".to_owned())?;
    let Some((ifindex, _)) = find(&node, VETH).await? else {
        return Ok(Vec::new());
    };
    match node.link().del(ifindex).execute().await {
        Err(error) if is_gone(&error) => {}
        removed => removed.step(|| format!("remove interface {VETH}"))?,
    }
    Ok(vec![format!("interface {VETH}")])
}

/// A new namespace for the calling thread, and that thread's number.
fn make() -> Result<(OwnedFd, Pid), Error> {
    let step = || "make the resolver's network namespace".to_owned();
    unshare(CloneFlags::CLONE_NEWNET).step_hint(step, PRIVILEGE)?;
    set_sysctls();
    let own = File::open("/proc/thread-self/ns/net").step(step)?;
    Ok((own.into(), gettid()))
}

/// Another agent's namespace for the calling thread.
fn enter(namespace: OwnedFd) -> Result<(OwnedFd, Pid), Error> {
    setns(&namespace, CloneFlags::CLONE_NEWNET).step_hint(
        || "enter the resolver's network namespace".to_owned(),
        PRIVILEGE,
    )?;
    Ok((namespace, gettid()))
}

/// Settings of the new namespace, which inherits some of the node's.
///
/// Best effort: in a container `/proc/sys` may be read-only, and the kernel's defaults work as well
/// unless the node's own were changed.
fn set_sysctls() {
    for (name, value) in [
        // Clients' addresses are reached by a default route; the strict check would hold, but costs.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/ip_forward", "0"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        // A handshake by cookie leaves no socket behind the SYN, and steering goes by sockets.
        ("ipv4/tcp_syncookies", "0"),
        ("ipv4/tcp_max_syn_backlog", "4096"),
        ("core/somaxconn", "4096"),
    ] {
        if let Err(error) = fs::write(format!("/proc/sys/net/{name}"), value) {
            tracing::debug!(%error, name, "a sysctl of the resolver's namespace cannot be set");
        }
    }
}

/// Connects the namespace to the node's and gives it addresses and routes.
async fn connect(
    namespace: BorrowedFd<'_>,
    resident: &Resident,
    listen: &[IpAddr],
) -> Result<ResolverLink, Error> {
    let node = netlink().step(|| "open a netlink socket".to_owned())?;
    let inner = netlink_inside(resident)?;

    let netns_id = set_netns_id(&node, namespace).await?;
    node.link()
        .add(LinkVeth::new(VETH, PEER).build())
        .execute()
        .await
        .step(|| format!("create the veth pair {VETH}"))?;
    let (peer, _) = find(&node, PEER)
        .await?
        .ok_or("it is gone")
        .step(|| format!("find {PEER}"))?;
    node.link()
        .change(
            LinkUnspec::new_with_index(peer)
                .name(INNER)
                .setns_by_fd(namespace.as_raw_fd())
                .build(),
        )
        .execute()
        .await
        .step(|| "move the veth's inner end into the resolver's namespace".to_owned())?;
    // The node's stack has no business on this link but the routes to our addresses: no router solicitations, no
    // link-local address.
    for (name, value) in [("addr_gen_mode", "1"), ("accept_ra", "0")] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{VETH}/{name}"), value);
    }

    let (outer_index, outer_mac) = find(&node, VETH)
        .await?
        .ok_or("it is gone")
        .step(|| format!("find {VETH}"))?;
    let (inner_index, inner_mac) = find(&inner, INNER)
        .await?
        .ok_or("it is gone")
        .step(|| format!("find {INNER}"))?;
    let lo = loopback(&inner).await?;
    for (handle, index) in [(&inner, lo), (&inner, inner_index), (&node, outer_index)] {
        handle
            .link()
            .change(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .step(|| "bring the resolver's interfaces up".to_owned())?;
    }
    add_addresses(&inner, lo, listen).await?;
    for gateway in [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)] {
        add_default_route(&inner, inner_index, gateway, outer_mac)
            .await
            .step(|| format!("add the resolver's default route by {gateway}"))?;
    }
    Ok(ResolverLink {
        ifindex: outer_index,
        netns_id,
        inner_mac,
    })
}

async fn loopback(handle: &Handle) -> Result<u32, Error> {
    let found = find(handle, "lo").await?;
    let (index, _) = found.ok_or("it is gone").step(|| "find lo".to_owned())?;
    Ok(index)
}

async fn add_addresses(handle: &Handle, index: u32, addresses: &[IpAddr]) -> Result<(), Error> {
    for address in addresses {
        match add_address(handle, index, *address).await {
            Err(rtnetlink::Error::NetlinkError(error))
                if error.to_io().raw_os_error() == Some(libc::EEXIST) => {}
            added => added.step(|| format!("give the resolver the address {address}"))?,
        }
    }
    Ok(())
}

async fn add_address(handle: &Handle, index: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let mut request = handle.address().add(index, address, prefix);
    // Usable at once: nobody else can have it here.
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await
}

async fn add_default_route(
    handle: &Handle,
    index: u32,
    gateway: IpAddr,
    mac: [u8; 6],
) -> Result<(), rtnetlink::Error> {
    handle
        .neighbours()
        .add(index, gateway)
        .link_layer_address(&mac)
        .execute()
        .await?;
    let route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .gateway(gateway)
            .onlink()
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .gateway(gateway)
            .build(),
    };
    handle.route().add(route).execute().await
}

/// Gives the namespace an id in the node's namespace, one that nobody has.
async fn set_netns_id(node: &Handle, namespace: BorrowedFd<'_>) -> Result<u32, Error> {
    let mut taken = io::Error::from_raw_os_error(libc::EEXIST);
    for try_number in 0..TRIES {
        let random = RandomState::new().hash_one(try_number);
        let id = NETNS_IDS.start + (random % NETNS_IDS.len() as u64) as i32;
        match try_netns_id(node, namespace, id).await {
            Ok(()) => return Ok(id.unsigned_abs()),
            Err(error) => taken = error,
        }
        if taken.raw_os_error() != Some(libc::EEXIST) {
            break;
        }
    }
    Err(taken).step(|| "give the resolver's namespace an id".to_owned())
}

/// `RTM_NEWNSID`.
async fn try_netns_id(node: &Handle, namespace: BorrowedFd<'_>, id: i32) -> io::Result<()> {
    let mut message = NsidMessage::default();
    message.attributes = vec![
        NsidAttribute::Fd(namespace.as_raw_fd().unsigned_abs()),
        NsidAttribute::Id(id),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNsId(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let replies = node.clone().request(request).map_err(io::Error::other)?;
    let replies: Vec<_> = replies.collect().await;
    for reply in replies {
        if let NetlinkPayload::Error(error) = reply.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}

/// ifindex and MAC address of an interface.
async fn find(handle: &Handle, name: &str) -> Result<Option<(u32, [u8; 6])>, Error> {
    let found = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await;
    let link = match found {
        Ok(Some(link)) => link,
        Ok(None) => return Ok(None),
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error).step(|| format!("look for interface {name}")),
    };
    let mac = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => <[u8; 6]>::try_from(address.as_slice()).ok(),
            _ => None,
        });
    Ok(Some((link.header.index, mac.unwrap_or_default())))
}

/// Whether an error says that there is no such interface, or not any more.
pub(super) fn is_gone(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(error) if error.to_io().raw_os_error() == Some(libc::ENODEV))
}

/// A netlink handle for this thread's namespace.
pub(super) fn netlink() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// A netlink handle for the resident's namespace: its socket is made there, and served here.
fn netlink_inside(resident: &Resident) -> Result<Handle, Error> {
    let runtime = tokio::runtime::Handle::current();
    resident.run(move || {
        let _guard = runtime.enter();
        netlink().step(|| "open a netlink socket in the resolver's namespace".to_owned())
    })
}
