//! The packet of a query becomes the packet of its reply, and goes back to where it came from.

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::generated::{
        bpf_get_prandom_u32, bpf_redirect, bpf_redirect_peer, bpf_skb_change_tail,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use dns_cache_common::maps::{Counter, Interface};

use crate::{
    checksum::{self, Form},
    counters::count,
    entry::Reply,
    packet::{self, PACKET_HOST, Packet},
    scratch::Scratch,
    source,
};

/// Sends the reply in the scratch back through `ifindex`. An error leaves the query as it was.
#[inline(always)]
pub fn send(
    ctx: &TcContext,
    packet: &Packet,
    ifindex: u32,
    scratch: &mut Scratch,
    form: Form,
    reply: &Reply,
) -> Result<i32, Counter> {
    let interface = source::interface(ifindex).ok_or(Counter::CacheMissPacket)?;
    let checksum = checksum::of_reply(packet, form, scratch, reply.len);
    let total = packet.payload_at + reply.len;
    if ctx.len() as usize != total {
        // SAFETY: the context is the kernel's. Pointers into the packet are dead from here on.
        if unsafe { bpf_skb_change_tail(ctx.skb.skb, total as u32, 0) } != 0 {
            return Err(Counter::CacheMissPacket);
        }
    }
    let done = store(ctx, packet, scratch, reply)
        .and_then(|()| packet::turn_round(ctx, packet, reply.len, checksum));
    if done.is_none() || to_this_host(ctx).is_none() {
        // Neither query nor reply any more.
        count(Counter::CacheDropped);
        return Ok(TC_ACT_SHOT);
    }
    // SAFETY: plain integers; a device that is gone drops the packet.
    Ok((unsafe {
        if interface.flags & Interface::PEER != 0 {
            bpf_redirect_peer(ifindex, 0)
        } else {
            bpf_redirect(ifindex, 0)
        }
    }) as i32)
}

/// Writes the message into the packet, its addresses turned: a part before them, those from the first one
/// on, those that were in front of it, and the rest.
#[inline(always)]
fn store(ctx: &TcContext, packet: &Packet, scratch: &mut Scratch, reply: &Reply) -> Option<()> {
    let rotation = reply.rotation;
    if rotation.count < 2 {
        return write(ctx, packet, scratch, 0, 0, reply.len);
    }
    // SAFETY: a helper without arguments.
    let turn = unsafe { bpf_get_prandom_u32() };
    let set = reply.body_at + rotation.start as usize;
    let len = rotation.len as usize * rotation.count as usize;
    let front = rotation.first(turn) * rotation.len as usize;
    write(ctx, packet, scratch, 0, 0, set)?;
    write(ctx, packet, scratch, set + front, set, len - front)?;
    if front != 0 {
        write(ctx, packet, scratch, set, set + len - front, front)?;
    }
    let end = set + len;
    if end < reply.len {
        write(ctx, packet, scratch, end, end, reply.len - end)?;
    }
    Some(())
}

/// Copies `len` bytes (at least one) of the message from `from` to offset `to` of the packet's message.
#[inline(always)]
fn write(
    ctx: &TcContext,
    packet: &Packet,
    scratch: &mut Scratch,
    from: usize,
    to: usize,
    len: usize,
) -> Option<()> {
    let len = Scratch::reach(len);
    // SAFETY: `len` bytes of the scratch follow `from`.
    let stored = unsafe {
        bpf_skb_store_bytes(
            ctx.skb.skb.cast(),
            (packet.payload_at + to) as u32,
            scratch.at(from).cast(),
            len as u32,
            0,
        )
    };
    (stored == 0).then_some(())
}

/// Behind a bridge the query was addressed to the bridge's MAC, so the port took it for another host's.
#[inline(always)]
fn to_this_host(ctx: &TcContext) -> Option<()> {
    // SAFETY: the context is the kernel's.
    if unsafe { (*ctx.skb.skb).pkt_type } == PACKET_HOST {
        return Some(());
    }
    ctx.change_type(PACKET_HOST).ok()
}
