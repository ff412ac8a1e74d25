//! A query is answered from the kernel cache: read it, find its entry, copy that, make it the reply.
//!
//! The rules of the messages are dns-cache-common's, the same as the resolver's. What is not answered here is
//! handed to the resolver as it came.

use core::{arch::asm, ptr};

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes},
    programs::TcContext,
};
use dns_cache_common::{
    cached::{
        self, Bucket, Counts, ELEMENT, ELEMENT_CELLS, HEAD_WORDS, MAX_RECORDS, MAX_TAIL_WORDS,
        Refresh, Shape, WAYS, WINDOW, WORD, word,
    },
    edns::{self, OPT_LEN},
    hash::{self, NAME_WORDS, Seed},
    header::{self, Flags},
    maps::{Counter, Traffic},
    name,
    question::{self, Question, Scanned},
    reply::{self, Rotation, Source},
    types::rcode,
};

use crate::{
    answer,
    checksum::{self, Form},
    counters::count,
    maps::{ARENA, INDEX, REFRESH, TRAFFIC},
    packet::{Packet, UDP_LEN},
    scratch::{Query, Scratch, scratch},
    source,
};

/// Buckets of the index; 0 switches the cache off. Set by the agent before it loads the program.
#[unsafe(no_mangle)]
static BUCKETS: u32 = 0;
/// The agent's seed; set likewise.
#[unsafe(no_mangle)]
static SEED: Seed = Seed([0; NAME_WORDS + 1]);

/// Not 0: an entry is taken as it is read, though it changes meanwhile. Set by the test that shows that the guard
/// is needed, and by nothing else.
#[unsafe(no_mangle)]
static UNGUARDED: u32 = 0;

/// Not 0: not everybody may be answered. Set by the agent before it loads the program.
#[unsafe(no_mangle)]
static RESTRICTED: u32 = 0;

/// Longest query that is looked at: name, OPT, and room for cookies and padding.
const MAX_QUERY: usize = 512;
/// Header, root, type and class.
const MIN_QUERY: usize = header::LEN + 5;
/// EDNS options that are looked at; clients send none, a cookie, or padding as well.
const MAX_OPTIONS: usize = 4;
/// A mask; the longest question has 259 bytes.
const MAX_QUESTION: usize = 0x1ff;
const NANOS: u64 = 1_000_000_000;

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
    // SAFETY: a constant of the loaded program.
    if unsafe { ptr::read_volatile(&RESTRICTED) } != 0 && !source::may_ask(packet, ifindex) {
        return Err(Counter::CacheBypassAccess);
    }
    let (scratch, len) = load(ctx, packet)?;
    let (question, form) = read(packet, scratch, len)?;
    let (question, hash) = key(scratch, question);
    let found = find(scratch, &question, hash, buckets)?;
    let verdict = answer::send(ctx, packet, ifindex, scratch, form, &found.reply)?;
    found.used();
    Ok(verdict)
}

/// Copies the query's message into the scratch; its length is known to be that of a query.
#[inline(always)]
pub fn load(ctx: &TcContext, packet: &Packet) -> Result<(&'static mut Scratch, usize), Counter> {
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
    let scratch = scratch().ok_or(Counter::CacheBypassPacket)?;
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
    Ok((scratch, len))
}

/// Reads the query, and the form of its checksum.
#[inline(always)]
pub fn read(
    packet: &Packet,
    scratch: &mut Scratch,
    len: usize,
) -> Result<(Question, Form), Counter> {
    let question = scan(&Query::new(scratch, len))?;
    let form = checksum::form(packet, scratch, len);
    if form == Form::Either {
        return Err(Counter::CacheBypassPacket);
    }
    Ok((scratch.forget(question), scratch.forget(form)))
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

/// Puts the name in lower case into the scratch, and hashes the key.
#[inline(always)]
pub fn key(scratch: &mut Scratch, mut question: Question) -> (Question, u64) {
    question.len &= MAX_QUESTION;
    let len = question.len - 4;
    let mut sum = 0;
    let mut i = 0;
    while i < NAME_WORDS {
        let at = i * WORD;
        if at >= len {
            break;
        }
        let mut word = name::lower_word(scratch.read::<u64>(header::LEN + at));
        let left = len - at;
        if left < WORD {
            word &= (1 << (left * 8)) - 1;
        }
        scratch.name[i] = word;
        // SAFETY: a constant of the loaded program; `i` is less than its length.
        let seed = unsafe { ptr::read_volatile(&SEED.0[i]) };
        sum = hash::add(sum, word, seed);
        i += 1;
    }
    let tail = hash::tail(question.rtype, question.bits());
    // SAFETY: as above.
    let seed = unsafe { ptr::read_volatile(&SEED.0[NAME_WORDS]) };
    // Where the loop ended says how long the name is: nothing that the rest need know.
    question.len = scratch.forget(question.len) & MAX_QUESTION;
    (question, hash::finish(hash::add(sum, tail, seed)))
}

/// Reads a shared entry word by word, and gathers what it read.
struct Reader {
    base: *const u8,
    seen: u64,
}

impl Reader {
    #[inline(always)]
    fn word(&mut self, index: usize) -> u64 {
        // SAFETY: the caller stays within WINDOW bytes, which follow the base.
        let word = unsafe { ptr::read_volatile(self.base.add(index * WORD).cast::<u64>()) };
        self.seen ^= word;
        word
    }

    /// The generation, read after everything else: its address depends on all that was read.
    #[inline(always)]
    fn generation_again(&self) -> u64 {
        // SAFETY: the first word of the entry.
        unsafe { ptr::read_volatile(self.base.add(after(self.seen)).cast::<u64>()) }
    }
}

/// Zero that is known only when `value` is. An address that it is part of is not read before: machines keep
/// reads in the order in which their addresses depend on each other, and need no barrier, which eBPF has not.
#[inline(always)]
fn after(value: u64) -> usize {
    let mut zero = value;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= 0", inout(reg) zero, options(pure, nomem, nostack)) };
    zero as usize
}

/// `number`, whose origin the compiler does not see: what is compared is what is used afterwards.
#[inline(always)]
fn hidden(number: usize) -> usize {
    let mut number = number;
    // SAFETY: one instruction that changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// An entry whose answer is the reply in the scratch.
pub struct Found {
    pub reply: Reply,
    rcode: u16,
    bucket: *mut Bucket,
    index: usize,
    way: u64,
    generation: u64,
    /// It shall be refreshed soon.
    due: bool,
}

/// A reply in the scratch; its addresses are not turned yet.
pub struct Reply {
    pub len: usize,
    pub body_at: usize,
    pub rotation: Rotation,
}

/// Finds the question's entry, and makes its answer the reply in the scratch.
#[inline(always)]
pub fn find(
    scratch: &mut Scratch,
    question: &Question,
    hash: u64,
    buckets: u32,
) -> Result<Found, Counter> {
    let absent = Counter::CacheMissAbsent;
    let bucket = INDEX
        .get_ptr_mut(cached::bucket(hash, buckets))
        .ok_or(absent)?;
    let mut index = WAYS;
    let mut i = 0;
    while i < WAYS {
        // SAFETY: shared memory, read once; `i` is a way of the bucket.
        let way = unsafe { ptr::read_volatile(&raw const (*bucket).ways[i]) };
        if cached::may_lead(way, hash) {
            index = i;
            break;
        }
        i += 1;
    }
    if index == WAYS {
        return Err(absent);
    }
    let index = scratch.forget(index) & (WAYS - 1);
    let way = way(bucket, index);
    let cell = cached::cell(way);
    let offset = hidden((cell % ELEMENT_CELLS) as usize * cached::CELL);
    if offset > ELEMENT - WINDOW {
        return Err(absent);
    }
    let element = ARENA.get_ptr(cell / ELEMENT_CELLS).ok_or(absent)?;
    let mut entry = Reader {
        // SAFETY: WINDOW bytes follow in the element.
        base: unsafe { element.cast::<u8>().add(offset) },
        seen: 0,
    };
    // The second line, where most entries end, and the bucket's, for the hits: all three come from memory at once.
    entry.word(cached::CELL / WORD);
    // SAFETY: a word of the bucket.
    unsafe { ptr::read_volatile(&raw const (*bucket).hits[0]) };
    let generation = entry.word(word::GENERATION);
    // SAFETY: nothing is added.
    entry.base = unsafe { entry.base.add(after(generation)) };
    // SAFETY: a constant of the loaded program; the verifier leaves out what it excludes.
    let guarded = unsafe { ptr::read_volatile(&UNGUARDED) } == 0;
    if guarded && generation == 0 {
        return Err(Counter::CacheMissChanged);
    }
    if entry.word(word::HASH) != hash {
        return Err(Counter::CacheMissCollision);
    }
    let (stored, until, prefetch) = (
        entry.word(word::STORED),
        entry.word(word::UNTIL),
        entry.word(word::PREFETCH),
    );
    let shape = Shape::unpack(entry.word(word::SHAPE));
    let counts = Counts::unpack(entry.word(word::COUNTS));
    let (rotation, _) = cached::unpack_rotation(entry.word(word::ROTATION));

    let name_words = (question.len - 4).div_ceil(WORD);
    if shape.name_words as usize != name_words
        || shape.rtype != question.rtype
        || shape.bits != question.bits()
        || name_words > NAME_WORDS
    {
        return Err(Counter::CacheMissCollision);
    }
    let mut difference = 0;
    let mut i = 0;
    while i < NAME_WORDS {
        if i >= name_words {
            break;
        }
        difference |= entry.word(HEAD_WORDS + i) ^ scratch.name[i];
        i += 1;
    }
    if difference != 0 {
        return Err(Counter::CacheMissCollision);
    }
    let name_words = scratch.forget(name_words) & (2 * NAME_WORDS - 1);

    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now >= until {
        return Err(Counter::CacheMissExpired);
    }
    let age = (now.saturating_sub(stored) / NANOS) as u32;
    let opt_len = match question.client.edns {
        Some(_) => OPT_LEN,
        None => 0,
    };
    let body_len = shape.body_len as usize;
    let body_at = header::LEN + question.len;
    let len = body_at + body_len + opt_len;
    if len > question.client.limit {
        return Err(Counter::CacheMissTooLong);
    }

    let body_words = body_len.div_ceil(WORD);
    let tail_words = body_words + (counts.records as usize * 2).div_ceil(WORD);
    let mut i = 0;
    while i < MAX_TAIL_WORDS {
        if i >= tail_words {
            break;
        }
        let word = entry.word(HEAD_WORDS + name_words + i);
        scratch.write(body_at + i * WORD, word);
        i += 1;
    }
    let changed = self::way(bucket, index + after(entry.seen)) != way
        || entry.generation_again() != generation;
    if guarded && changed {
        return Err(Counter::CacheMissChanged);
    }

    if age != 0 {
        let table_at = body_at + body_words * WORD;
        let mut i = 0;
        while i < MAX_RECORDS {
            if i >= counts.records as usize {
                break;
            }
            let at = body_at + scratch.read::<u16>(table_at + 2 * i) as usize;
            let ttl = u32::from_be(scratch.read(at));
            scratch.write(at, reply::aged(ttl, age).to_be());
            i += 1;
        }
    }
    if let Some(edns) = question.client.edns {
        let opt = edns::opt(edns.dnssec_ok, 0);
        let mut i = 0;
        while i < OPT_LEN {
            scratch.write(body_at + body_len + i, opt[i]);
            i += 1;
        }
    }
    let flags = reply::flags(&question.client, shape.flags, Source::Cache { age });
    let [answers, authority, additional] = counts.sections;
    let additional = additional + (opt_len != 0) as u16;
    scratch.write(2, flags.0.to_be());
    scratch.write(6, answers.to_be());
    scratch.write(8, authority.to_be());
    scratch.write(10, additional.to_be());

    Ok(Found {
        reply: Reply {
            len,
            body_at,
            rotation,
        },
        rcode: shape.flags.rcode(),
        bucket,
        index,
        way,
        generation,
        due: now >= prefetch,
    })
}

#[inline(always)]
fn way(bucket: *const Bucket, index: usize) -> u64 {
    // SAFETY: shared memory, read once; `index` is a way of the bucket.
    unsafe { ptr::read_volatile((&raw const (*bucket).ways).cast::<u64>().add(index)) }
}

impl Found {
    /// Counts the hit, and asks for a refresh if one is due and was not asked for yet.
    #[inline(always)]
    pub fn used(&self) {
        count(match self.rcode {
            rcode::NOERROR => Counter::CacheHitNoerror,
            rcode::NXDOMAIN => Counter::CacheHitNxdomain,
            _ => Counter::CacheHitOther,
        });
        // SAFETY: `index` is a way of the bucket. Other CPUs write here too: of two hits at once one is lost,
        // and a refresh may be asked for twice.
        unsafe {
            let hits = (&raw mut (*self.bucket).hits).cast::<u32>().add(self.index);
            ptr::write_volatile(hits, ptr::read_volatile(hits).wrapping_add(1));
            let asked = (&raw mut (*self.bucket).asked)
                .cast::<u32>()
                .add(self.index);
            if self.due && ptr::read_volatile(asked) != self.generation as u32 {
                let refresh = Refresh {
                    way: self.way,
                    generation: self.generation,
                };
                if REFRESH.output::<Refresh>(&refresh, 0).is_ok() {
                    ptr::write_volatile(asked, self.generation as u32);
                }
            }
        }
    }
}
