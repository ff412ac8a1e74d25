//! The benchmark's limit: a DNS query goes back as it came, with the QR bit set. What this costs, every answer
//! from tc costs. The agent never loads it.

use core::mem;

use aya_ebpf::{bindings::TC_ACT_OK, helpers::generated::bpf_redirect, programs::TcContext};

use crate::packet::{self, DNS_PORT, Parsed, Transport};

const QR: u8 = 0x80;

#[inline(always)]
pub fn reflect(ctx: &TcContext) -> i32 {
    let Parsed::Packet(packet) = packet::parse(ctx) else {
        return TC_ACT_OK;
    };
    if packet.transport != Transport::Udp || packet.destination_port != DNS_PORT {
        return TC_ACT_OK;
    }
    let bounced = if packet.ipv4 {
        bounce::<6, 2>(ctx)
    } else {
        bounce::<4, 8>(ctx)
    };
    if bounced.is_none() {
        return TC_ACT_OK;
    }
    // SAFETY: plain integers.
    (unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) }) as i32
}

/// The headers as 16-bit words, which lie aligned in every frame: `HEAD` of IP before its addresses,
/// `ADDRESS` an address.
#[repr(C)]
struct Frame<const HEAD: usize, const ADDRESS: usize> {
    destination_mac: [u16; 3],
    source_mac: [u16; 3],
    ethertype: u16,
    head: [u16; HEAD],
    source: [u16; ADDRESS],
    destination: [u16; ADDRESS],
    source_port: u16,
    destination_port: u16,
    udp_len: u16,
    udp_checksum: u16,
    id: u16,
    flags: [u8; 2],
}

/// Turns the packet round. Swapping leaves the checksums right; the QR bit does not, but a pod's packet on a
/// veth carries no checksum that anybody checks (CHECKSUM_PARTIAL).
#[inline(always)]
fn bounce<const HEAD: usize, const ADDRESS: usize>(ctx: &TcContext) -> Option<()> {
    let len = mem::size_of::<Frame<HEAD, ADDRESS>>();
    if ctx.data() + len > ctx.data_end() {
        ctx.pull_data(len as u32).ok()?;
    }
    let start = ctx.data();
    if start + len > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie before data_end, and are plain integers of alignment two.
    let frame = unsafe { &mut *(start as *mut Frame<HEAD, ADDRESS>) };
    mem::swap(&mut frame.destination_mac, &mut frame.source_mac);
    mem::swap(&mut frame.source, &mut frame.destination);
    mem::swap(&mut frame.source_port, &mut frame.destination_port);
    frame.flags[0] |= QR;
    Some(())
}
