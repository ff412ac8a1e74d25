//! The way of a hit up to a stage, for the benchmark: how long each takes. The agent never loads it.
//!
//! A test run that repeats itself hands the same packet in again, so what was written is put back. Under a real load the
//! query goes back as from [`reflect`], whatever the stage, so that its sender goes on.

use core::ptr;

use aya_ebpf::{helpers::generated::bpf_skb_change_tail, programs::TcContext};
use dns_cache_common::{header, maps::measure};

use crate::{
    answer, cache, entry,
    fallback::LEAVE,
    key::Key,
    packet::{self, Parsed, Transport},
    reflect,
};

/// The last stage to go through. Set by the benchmark before it loads the program.
#[unsafe(no_mangle)]
static STAGE: u32 = 0;

/// Not 0: the packets are real. Set by the benchmark before it loads the program.
#[unsafe(no_mangle)]
static LIVE: u32 = 0;

/// In a test run it gives the stage that was reached, which is the one asked for unless something went wrong.
#[inline(always)]
pub fn measure(ctx: &TcContext) -> i32 {
    // SAFETY: constants of the loaded program.
    let (last, live) = unsafe { (ptr::read_volatile(&STAGE), ptr::read_volatile(&LIVE) != 0) };
    match stages(ctx, last, live) {
        Some(Reached::Stage(_)) if live => reflect::reflect(ctx),
        Some(Reached::Stage(stage)) => stage as i32,
        Some(Reached::Sent(verdict)) => verdict,
        // Nothing that this measures.
        None => LEAVE,
    }
}

enum Reached {
    Stage(u32),
    /// The reply is on its way.
    Sent(i32),
}

#[inline(always)]
fn stages(ctx: &TcContext, last: u32, live: bool) -> Option<Reached> {
    let done = |stage: u32| Some(Reached::Stage(stage));
    let Parsed::Packet(packet) = packet::parse(ctx) else {
        return None;
    };
    if packet.transport != Transport::Udp {
        return None;
    }
    let packet = packet.keep()?;
    if last == measure::HEADERS {
        return done(measure::HEADERS);
    }
    let (memory, len) = cache::load(ctx, packet).ok()?;
    let message = &mut memory.scratch;
    let before: [u32; 3] = [message.read(0), message.read(4), message.read(8)];
    if last == measure::LOAD {
        return done(measure::LOAD);
    }
    let (asked, scratch) = cache::read(packet, memory, len).ok()?;
    let question = &asked.question;
    if last == measure::READ {
        return done(measure::READ);
    }
    let key = Key::whole(scratch, question);
    if last == measure::KEY {
        return (key.hash != 0).then_some(Reached::Stage(measure::KEY));
    }
    let found = entry::find(scratch, question, &key, cache::buckets()).ok()?;
    if last == measure::FIND {
        return done(measure::FIND);
    }
    // SAFETY: the context is the kernel's.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let verdict = answer::send(ctx, packet, ifindex, scratch, asked.form, &found.reply).ok()?;
    found.used(question.rtype, packet.ipv4);
    if live {
        return Some(Reached::Sent(verdict));
    }

    // SAFETY: the context is the kernel's.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, (packet.payload_at + len) as u32, 0) } != 0 {
        return None;
    }
    packet::turn_back(ctx, packet)?;
    ctx.store(packet.payload_at, &before, 0).ok()?;
    // The question was left as it was; an OPT record behind it is lost.
    (header::LEN + question.len == len).then_some(Reached::Stage(measure::SEND))
}
