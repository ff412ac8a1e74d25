//! The UDP checksum (RFC 768, RFC 8200 §8.1), as the Internet checksum of RFC 1071: sums of words in the order
//! in which they stand in memory, so that the result is too.
//!
//! A packet from a socket of the same machine carries no checksum yet (`CHECKSUM_PARTIAL`): its field holds the
//! sum of the pseudo-header, and whoever sends the packet to a wire adds the rest. A program is not told, but it
//! can see it. A reply made of such a packet must keep to that form; any other gets its whole checksum.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_csum_diff;

use crate::{
    packet::{IPPROTO_UDP, Packet, UDP_LEN},
    scratch::Scratch,
    source,
};

/// What `bpf_csum_diff` takes at once (its scratchpad until Linux 6.12).
const CHUNK: usize = 512;
/// As many chunks hold the longest reply.
const CHUNKS: usize = 3;

/// The form of a packet's checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The pseudo-header's sum.
    Partial,
    /// The whole checksum, or none (zero, IPv4 only).
    Whole,
    /// Both at once, by chance.
    Either,
}

/// The form of the query's checksum. Its message is in the scratch, with zeros behind it.
#[inline(always)]
pub fn form(packet: &Packet, scratch: &mut Scratch, len: usize) -> Form {
    let pseudo = pseudo(packet, packet.udp_len);
    if packet.checksum != fold(pseudo) {
        return Form::Whole;
    }
    let sum = pseudo + ports(packet, packet.udp_len) + u64::from(packet.checksum);
    if fold(sum + sum_of(scratch, 0, len)) == 0xffff {
        return Form::Either;
    }
    Form::Partial
}

/// The checksum of the reply to `packet`, whose message of `len` bytes is in the scratch.
#[inline(always)]
pub fn of_reply(packet: &Packet, form: Form, scratch: &mut Scratch, len: usize) -> u16 {
    let udp_len = (UDP_LEN + len) as u16;
    let pseudo = pseudo(packet, udp_len);
    if form == Form::Partial {
        return fold(pseudo);
    }
    scratch.write(len, 0u32);
    let mut sum = pseudo + ports(packet, udp_len);
    let mut chunk = 0;
    while chunk < CHUNKS {
        let at = chunk * CHUNK;
        if at >= len {
            break;
        }
        sum += sum_of(scratch, at, (len - at).min(CHUNK));
        chunk += 1;
    }
    match !fold(sum) {
        // Zero would mean that there is none.
        0 => 0xffff,
        checksum => checksum,
    }
}

/// The sum of addresses, protocol and length. Source and destination may change places.
#[inline(always)]
fn pseudo(packet: &Packet, udp_len: u16) -> u64 {
    // An IPv4 address in its mapped form adds ffff, which is nothing here.
    let [a, b, c, d] = source::words(packet.source);
    let [e, f, g, h] = source::words(packet.destination);
    let addresses =
        a as u64 + b as u64 + c as u64 + d as u64 + e as u64 + f as u64 + g as u64 + h as u64;
    addresses + u64::from(u16::from(IPPROTO_UDP).to_be()) + u64::from(udp_len.to_be())
}

/// The sum of the UDP header without its checksum.
#[inline(always)]
fn ports(packet: &Packet, udp_len: u16) -> u64 {
    u64::from(packet.source_port.to_be())
        + u64::from(packet.destination_port.to_be())
        + u64::from(udp_len.to_be())
}

/// The sum of `len` bytes of the message from `at`, at most [`CHUNK`]; zeros fill the last word.
#[inline(always)]
fn sum_of(scratch: &mut Scratch, at: usize, len: usize) -> u64 {
    let len = (len + 3) & (2 * CHUNK - 4);
    // SAFETY: `len` bytes follow `at` in the scratch.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, scratch.at(at).cast(), len as u32, 0) };
    u64::from(sum as u32)
}

#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
