//! An entry of the kernel cache: found by its key, and made a reply.

use core::{arch::asm, ptr};

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use dns_cache_common::{
    cached::{
        self, Bucket, Counts, ELEMENT, ELEMENT_CELLS, HEAD_WORDS, MAX_RECORDS, MAX_TAIL_WORDS,
        Refresh, Shape, WAYS, WINDOW, WORD, word,
    },
    edns::{self, OPT_LEN},
    hash::NAME_WORDS,
    header,
    hits::{self, Code, Hit, Outcome},
    maps::Counter,
    question::{self, Question},
    reply::{self, Rotation, Source},
};

use crate::{
    counters::{count, count_hit},
    key::{self, Key},
    maps::{ARENA, INDEX, REFRESH},
    scratch::Scratch,
};

/// Not 0: an entry is taken as it is read, though it changes meanwhile. Set by the test that shows that the guard
/// is needed, and by nothing else.
#[unsafe(no_mangle)]
static UNGUARDED: u32 = 0;

const NANOS: u64 = 1_000_000_000;

/// Reads a shared entry word by word, and gathers what it read.
pub struct Reader {
    base: *const u8,
    seen: u64,
}

impl Reader {
    #[inline(always)]
    fn word(&mut self, index: usize) -> u64 {
        let word = self.peek(index);
        self.seen ^= word;
        word
    }

    /// A word of an entry that may be another one's meanwhile.
    #[inline(always)]
    pub fn peek(&self, index: usize) -> u64 {
        // SAFETY: the caller stays within WINDOW bytes, which follow the base.
        unsafe { ptr::read_volatile(self.base.add(index * WORD).cast::<u64>()) }
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
pub fn hidden(number: usize) -> usize {
    let mut number = number;
    // SAFETY: one instruction that changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// An entry whose answer is the reply in the scratch.
pub struct Found {
    pub reply: Reply,
    outcome: Outcome,
    /// The question's, which is the entry's.
    dnssec_ok: bool,
    bucket: *mut Bucket,
    index: usize,
    way: u64,
    generation: u64,
    /// It is that of a name above.
    above: bool,
    /// It shall be refreshed soon.
    due: bool,
}

/// A reply in the scratch; its addresses are not turned yet.
pub struct Reply {
    pub len: usize,
    pub body_at: usize,
    pub rotation: Rotation,
}

/// Finds the entry of the key whose name is in the scratch, and makes its answer the reply there.
#[inline(always)]
pub fn find(
    scratch: &mut Scratch,
    question: &Question,
    key: &Key,
    buckets: u32,
) -> Result<Found, Counter> {
    let absent = Counter::CacheMissAbsent;
    let (bucket, index) = way_to(key.hash, buckets).ok_or(absent)?;
    let index = scratch.forget(index) & (WAYS - 1);
    let way = way(bucket, index);
    let mut entry = behind(way).ok_or(absent)?;
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
    if entry.word(word::HASH) != key.hash {
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

    let name_words = key.name_words;
    if shape.name_words as usize != name_words
        || shape.rtype != key.rtype
        || shape.bits != key.bits
        || key.above && !shape.covers_below
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
    let opt_len = scratch.forget(match question.client.edns {
        Some(_) => OPT_LEN,
        None => 0,
    });
    let body_len = shape.body_len as usize;
    let body_at = header::LEN + key::name_len(question) + 4;
    let len = body_at + body_len + opt_len;
    if len > question.client.limit {
        return Err(Counter::CacheMissTooLong);
    }

    let body_words = shape.body_words();
    let tail_words = body_words + counts.table_words();
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
        outcome: Outcome {
            code: Code::of(shape.flags.rcode()),
            is_denial: answers == 0,
        },
        dnssec_ok: question::is_dnssec_ok(shape.bits),
        bucket,
        index,
        way,
        generation,
        above: key.above,
        due: now >= prefetch,
    })
}

/// The bucket of a hash, and the first way in it that may lead to its entry.
#[inline(always)]
pub fn way_to(hash: u64, buckets: u32) -> Option<(*mut Bucket, usize)> {
    let bucket = INDEX.get_ptr_mut(cached::bucket(hash, buckets))?;
    let mut i = 0;
    while i < WAYS {
        if cached::may_lead(way(bucket, i), hash) {
            return Some((bucket, i));
        }
        i += 1;
    }
    None
}

/// Where a way leads.
#[inline(always)]
pub fn behind(way: u64) -> Option<Reader> {
    let cell = cached::cell(way);
    let offset = hidden((cell % ELEMENT_CELLS) as usize * cached::CELL);
    if offset > ELEMENT - WINDOW {
        return None;
    }
    let element = ARENA.get_ptr(cell / ELEMENT_CELLS)?;
    Some(Reader {
        // SAFETY: WINDOW bytes follow in the element.
        base: unsafe { element.cast::<u8>().add(offset) },
        seen: 0,
    })
}

#[inline(always)]
pub fn way(bucket: *const Bucket, index: usize) -> u64 {
    // SAFETY: shared memory, read once; `index` is a way of the bucket.
    unsafe { ptr::read_volatile((&raw const (*bucket).ways).cast::<u64>().add(index)) }
}

impl Found {
    /// Counts the hit of a query for this type, and asks for a refresh if one is due and was not asked for yet.
    #[inline(always)]
    pub fn used(&self, rtype: u16, ipv4: bool) {
        count_hit(Hit {
            is_ipv6: !ipv4,
            dnssec_ok: self.dnssec_ok,
            kind: hits::kind(rtype),
            outcome: self.outcome,
        });
        if self.above {
            count(Counter::CacheCut);
        }
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
