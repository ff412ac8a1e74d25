//! A query is answered from the kernel cache: read it, find its entry or a cut above it, make that the reply.
//!
//! The rules of the messages are dns-cache-common's, the same as the resolver's. What is not answered here is
//! handed to the resolver as it came.

use core::ptr;

use aya_ebpf::{helpers::generated::bpf_skb_load_bytes, programs::TcContext};
use dns_cache_common::{
    header::{self, Flags},
    maps::{Counter, Traffic},
    question::{self, Question, Scanned},
    types::rcode,
};

use crate::{
    answer,
    checksum::{self, Form},
    counters::count,
    cut, entry,
    key::Key,
    maps::TRAFFIC,
    packet::{Packet, UDP_LEN},
    scratch::{self, Asked, Memory, Query, Scratch},
    source,
};

/// Buckets of the index; 0 switches the cache off. Set by the agent before it loads the program.
#[unsafe(no_mangle)]
static BUCKETS: u32 = 0;

/// Not 0: not everybody may be answered. Set by the agent at any time; the only variable of the programs.
#[unsafe(no_mangle)]
static mut RESTRICTED: u32 = 0;

/// Longest query that is looked at: name, OPT, and room for cookies and padding.
const MAX_QUERY: usize = 512;
/// Header, root, type and class.
const MIN_QUERY: usize = header::LEN + 5;
/// EDNS options that are looked at; clients send none, a cookie, or padding as well.
const MAX_OPTIONS: usize = 4;

/// Answers a UDP query to an intercepted address; `None`: the resolver must.
#[inline(always)]
pub fn answer(ctx: &TcContext, packet: &Packet, ifindex: u32) -> Option<i32> {
    let buckets = buckets();
    if buckets == 0 {
        return None;
    }
    let outcome = look_up(ctx, packet, ifindex, buckets);
    // SAFETY: the slot is this CPU's own.
    let traffic = TRAFFIC.get_ptr_mut(&ifindex);
    match outcome {
        Ok(verdict) => {
            add(traffic, |traffic| &mut traffic.hits);
            Some(verdict)
        }
        Err(reason) => {
            count(reason);
            if reason as u32 >= Counter::CacheBypassMalformed as u32 {
                add(traffic, |traffic| &mut traffic.bypasses);
            } else {
                add(traffic, |traffic| &mut traffic.misses);
            }
            None
        }
    }
}

/// Buckets of the index; 0: there is no cache.
#[inline(always)]
pub fn buckets() -> u32 {
    // SAFETY: a constant of the loaded program.
    unsafe { ptr::read_volatile(&BUCKETS) }
}

#[inline(always)]
fn add(traffic: Option<*mut Traffic>, field: impl Fn(&mut Traffic) -> &mut u64) {
    if let Some(traffic) = traffic {
        // SAFETY: the value is this CPU's own, and lives until the program ends.
        *field(unsafe { &mut *traffic }) += 1;
    }
}

#[inline(always)]
fn look_up(ctx: &TcContext, packet: &Packet, ifindex: u32, buckets: u32) -> Result<i32, Counter> {
    // SAFETY: a word that is read at once, whoever writes it.
    if unsafe { ptr::read_volatile(&raw const RESTRICTED) } != 0
        && !source::may_ask(packet, ifindex)
    {
        return Err(Counter::CacheBypassAccess);
    }
    let (memory, len) = load(ctx, packet)?;
    let (asked, scratch) = read(packet, memory, len)?;
    // An entry of the name's own, else a cut above it: a loop, for code and stack of one. The verifier knows the turn, but not
    // why the first one was a miss: else it would follow the second turn once for each reason.
    let mut is_above = false;
    let mut missed = Counter::CacheMissAbsent;
    loop {
        let key = if is_above {
            cut::key(scratch, &asked.question, buckets).ok_or(missed)?
        } else {
            Key::whole(scratch, &asked.question)
        };
        match entry::find(scratch, &asked.question, &key, buckets) {
            Ok(found) => {
                let verdict =
                    answer::send(ctx, packet, ifindex, scratch, asked.form, &found.reply)?;
                found.used(asked.question.rtype, packet.ipv4);
                return Ok(verdict);
            }
            Err(_) if is_above => return Err(missed),
            Err(reason @ (Counter::CacheMissAbsent | Counter::CacheMissExpired)) => {
                missed = scratch.forget(reason);
                is_above = true;
            }
            Err(reason) => return Err(reason),
        }
    }
}

/// Copies the query's message into the scratch; its length is known to be that of a query.
#[inline(always)]
pub fn load(ctx: &TcContext, packet: &Packet) -> Result<(&'static mut Memory, usize), Counter> {
    // SAFETY: the context is the kernel's.
    if unsafe { (*ctx.skb.skb).gso_size } != 0 {
        return Err(Counter::CacheBypassPacket);
    }
    let len = packet.udp_len as usize - UDP_LEN;
    if len < MIN_QUERY {
        return Err(Counter::CacheBypassMalformed);
    }
    if len > MAX_QUERY {
        return Err(Counter::CacheBypassLong);
    }
    let memory = scratch::memory().ok_or(Counter::CacheBypassPacket)?;
    let scratch = &mut memory.scratch;
    // Linux 5.10 forgets what was compared once the number was on the stack.
    let len = Scratch::reach(len);
    // SAFETY: `len` bytes of the scratch are its to write.
    let loaded = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            packet.payload_at as u32,
            scratch.at(0).cast(),
            len as u32,
        )
    };
    if loaded != 0 {
        return Err(Counter::CacheBypassPacket);
    }
    scratch.write(len, 0u32);
    Ok((memory, len))
}

/// Reads the query, and the form of its checksum.
#[inline(always)]
pub fn read(
    packet: &Packet,
    memory: &'static mut Memory,
    len: usize,
) -> Result<(&'static Asked, &'static mut Scratch), Counter> {
    let scratch = &mut memory.scratch;
    let question = scan(&Query::new(scratch, len))?;
    let form = checksum::form(packet, scratch, len);
    if form == Form::Either {
        return Err(Counter::CacheBypassPacket);
    }
    Ok(memory.keep(Asked { question, form }))
}

/// Reads the query: whether the kernel may answer it, and what it asks.
#[inline(always)]
fn scan(query: &Query) -> Result<Question, Counter> {
    let question = match question::scan(query, question::Transport::Udp, MAX_OPTIONS) {
        Scanned::Query(question) => question,
        Scanned::Refuse { rcode, .. } => {
            return Err(match rcode {
                rcode::NOTIMP => Counter::CacheBypassOpcode,
                rcode::BADVERS => Counter::CacheBypassVersion,
                rcode::REFUSED => Counter::CacheBypassType,
                _ => Counter::CacheBypassMalformed,
            });
        }
        Scanned::Drop => return Err(Counter::CacheBypassMalformed),
        Scanned::Long => return Err(Counter::CacheBypassLong),
    };
    if !question::is_cacheable(question.rtype, question.class) {
        return Err(Counter::CacheBypassType);
    }
    if !question.client.flags.has(Flags::RD) {
        return Err(Counter::CacheBypassNoRecursion);
    }
    if question.client.edns.is_some_and(|edns| edns.client_subnet) {
        return Err(Counter::CacheBypassSubnet);
    }
    Ok(question)
}
