//! The node's own way to the addresses that only this cache answers at: a route to the resolver's veth, and a neighbour
//! that is the resolver. They go with the veth.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use dns_cache_common::maps::{STAND_IN_V4, STAND_IN_V6};
use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tracing::warn;

use super::error::{Error, Step as _};
use super::namespace::{ResolverLink, netlink};

/// Somewhere else, to see which address the node sends from; no packet goes there (RFC 3849).
const ELSEWHERE: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    53,
);

/// The routes that there are.
#[derive(Debug)]
pub(super) struct HostRoutes {
    link: ResolverLink,
    present: Vec<IpAddr>,
}

impl HostRoutes {
    pub(super) fn new(link: ResolverLink) -> Self {
        Self {
            link,
            present: Vec::new(),
        }
    }

    /// Routes to these addresses and no others. One that cannot be made (the node has no IPv6, say) is left out, with a
    /// warning.
    ///
    /// # Errors
    ///
    /// There is no netlink socket to be had.
    pub(super) async fn set(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let mut wanted = addresses.to_vec();
        for stand_in in [IpAddr::V4(STAND_IN_V4), IpAddr::V6(STAND_IN_V6)] {
            if addresses
                .iter()
                .any(|ip| ip.is_ipv4() == stand_in.is_ipv4())
            {
                wanted.push(stand_in);
            }
        }
        let handle = netlink().step(|| "open a netlink socket".to_owned())?;
        let mut present = Vec::new();
        for address in &wanted {
            if !self.present.contains(address)
                && let Err(error) = self.add(&handle, *address).await
            {
                warn!(%address, %error, "the node's own processes cannot ask this address");
                continue;
            }
            present.push(*address);
        }
        for address in self.present.iter().filter(|ip| !wanted.contains(ip)) {
            // Absent is as good as removed.
            let _ = handle.route().del(self.route(*address)).execute().await;
        }
        self.present = present;
        Ok(())
    }

    /// Takes away what an agent before has made and this one has not.
    ///
    /// # Errors
    ///
    /// There is no netlink socket to be had, or the routes cannot be listed.
    pub(super) async fn remove_others(&self) -> Result<(), Error> {
        let handle = netlink().step(|| "open a netlink socket".to_owned())?;
        let all = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        for family in all {
            let routes = handle.route().get(family).execute();
            let routes: Vec<_> = routes
                .try_collect()
                .await
                .step(|| "list the node's routes".to_owned())?;
            for route in routes {
                let address = self.ours(&route);
                if address.is_some_and(|address| !self.present.contains(&address)) {
                    // Absent is as good as removed.
                    let _ = handle.route().del(route).execute().await;
                }
            }
        }
        Ok(())
    }

    /// The address that a route of an agent's leads to.
    fn ours(&self, route: &RouteMessage) -> Option<IpAddr> {
        let RouteHeader {
            destination_prefix_length,
            protocol: RouteProtocol::Static,
            kind: RouteType::Unicast,
            ..
        } = route.header
        else {
            return None;
        };
        let output = RouteAttribute::Oif(self.link.ifindex);
        let attributes = &route.attributes;
        let address = attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        })?;
        let is_whole = destination_prefix_length == if address.is_ipv4() { 32 } else { 128 };
        (is_whole && attributes.contains(&output)).then_some(address)
    }

    /// Where the node's own processes reach the resolver.
    pub(super) fn present(&self) -> impl Iterator<Item = IpAddr> {
        let stands_in =
            |ip: &IpAddr| [IpAddr::V4(STAND_IN_V4), IpAddr::V6(STAND_IN_V6)].contains(ip);
        self.present
            .iter()
            .copied()
            .filter(move |ip| !stands_in(ip))
    }

    async fn add(&self, handle: &Handle, address: IpAddr) -> Result<(), rtnetlink::Error> {
        let neighbour = handle.neighbours().add(self.link.ifindex, address);
        let neighbour = neighbour.link_layer_address(&self.link.inner_mac).replace();
        neighbour.execute().await?;
        let route = self.route(address);
        handle.route().add(route).replace().execute().await
    }

    fn route(&self, address: IpAddr) -> RouteMessage {
        match address {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, 32)
                .output_interface(self.link.ifindex)
                .scope(RouteScope::Link)
                .build(),
            IpAddr::V6(to) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(to, 128)
                    .output_interface(self.link.ifindex);
                match usual_source() {
                    // The kernel would take the address that is most like the destination (RFC 6724): on many nodes the
                    // pods' gateway, whose packets a CNI's rules masquerade.
                    Ok(IpAddr::V6(source)) => route.pref_source(source).build(),
                    _ => route.build(),
                }
            }
        }
    }
}

/// The IPv6 address from which the node asks others.
fn usual_source() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.connect(ELSEWHERE)?;
    Ok(socket.local_addr()?.ip())
}
