//! Entries that change while they are read: the old answer, the new one, or a miss; never a mixture.
//!
//! Every record of an entry carries the number of its writing, which also decides how many records there are. So
//! entries are written in place, over one another, and moved, and others keep coming and push them out. One test has
//! nothing but what is written in place: there its generation alone tells a reader that an entry changes.

use std::array;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache::kernel_cache::Size;
use dns_cache::resolver::{Entry, Time};
use dns_cache_common::question::{Key, KeyParts};
use dns_cache_tests::cpus;

use super::super::harness::{Harness, LONGEST, Place, Runner};
use super::super::packet::udp;
use super::message::{Opt, QUESTION, Query, Record, Response};
use super::{CAPS, NEVER, SECOND, key, now, repeated, terms};

/// Fewer entries than names, so that insertions push others out and places are soon used again.
const SMALL: Size = Size {
    entries: 24,
    buckets: 16,
    elements: 1,
};
/// Room for all, and for each where it is: nothing moves.
const ROOMY: Size = Size {
    entries: 1000,
    buckets: 500,
    elements: 1,
};
const READS: u64 = 2_000_000;
/// Each on a CPU of its own; each has at least one part in so many of the reads.
const READERS: usize = 2;
const LEAST_SHARE: u64 = 10;
/// Names that are asked for, and as many that only push others out.
const NAMES: u32 = 16;
/// Writings of each name that differ.
const WRITINGS: u32 = 64;
const RTYPE: u16 = 65_280;
const MAX_RECORDS: u32 = 50;
/// So many seconds old are the entries: their TTLs are changed on the way.
const AGE: u32 = 2;
/// Without the guard a mixture is seen within this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

fn name(number: u32) -> Vec<u8> {
    format!("\x04n{number:03}\x04test\0").into_bytes()
}

fn records(writing: u32) -> u32 {
    1 + writing * 7 % MAX_RECORDS
}

/// A TTL that says which writing it belongs to, as long as no hour has passed.
fn ttl(writing: u32) -> u32 {
    (1 + writing) * 4000
}

fn entry(number: u32, writing: u32, stored: Time) -> (Key, Entry) {
    let name = name(number);
    let data = [number.to_be_bytes(), writing.to_be_bytes()].concat();
    let record = Record::new(QUESTION, RTYPE, ttl(writing), &data);
    let answers = vec![record; records(writing) as usize];
    let response = Response::new(&name, RTYPE, answers).bytes();
    let key = key(&name, RTYPE, 0);
    let parts = KeyParts::read(key.as_bytes()).unwrap();
    let entry = Entry::new(&response, &parts, terms(CAPS, stored)).unwrap();
    (key, entry)
}

/// Whether all parts of an answer are of one writing. A mixture may be anything.
fn is_sound(number: u32, message: &[u8]) -> bool {
    const RECORD: usize = 12 + 8;
    let question = 12 + name(number).len() + 4;
    let body = message
        .len()
        .checked_sub(11)
        .and_then(|opt| message.get(question..opt))
        .filter(|body| body.len() >= RECORD);
    let Some(body) = body else { return false };
    let answers = usize::from(u16::from_be_bytes([message[6], message[7]]));
    let word = |at: usize| u32::from_be_bytes(*body[at..].first_chunk().unwrap());
    let (shown, writing) = (word(6), word(16));
    writing < WRITINGS
        && body.len() == answers * RECORD
        && answers == records(writing) as usize
        && body[..6] == [0xc0, 12, 0xff, 0, 0, 1]
        && (AGE..3600).contains(&ttl(writing).wrapping_sub(shown))
        && word(12) == number
        // Each record is the same as the one before it.
        && body[RECORD..] == body[..body.len() - RECORD]
}

#[derive(Debug, Default)]
struct Seen {
    /// By each reader.
    reads: [AtomicU64; READERS],
    hits: AtomicU64,
    mixtures: AtomicU64,
}

impl Seen {
    fn counts(&self) -> [u64; 3] {
        let [hits, mixtures] = [&self.hits, &self.mixtures].map(|count| count.load(Relaxed));
        [self.reads().iter().sum(), hits, mixtures]
    }

    fn reads(&self) -> [u64; READERS] {
        self.reads.each_ref().map(|reads| reads.load(Relaxed))
    }

    /// Whether there are so many reads, and enough of each reader's.
    fn has_reads(&self, enough: u64) -> bool {
        let reads = self.reads();
        reads.iter().sum::<u64>() >= enough && reads.iter().all(|own| *own >= enough / LEAST_SHARE)
    }
}

fn read(runner: &Runner<'_>, pod: Place, reader: usize, seen: &Seen, done: &AtomicBool) {
    if cpus::stay_on(reader).is_none() {
        println!("reader {reader} has no CPU of its own: this machine has too few");
    }
    let queries: Vec<_> = (0..NAMES)
        .map(|number| {
            let ask = Query::new(&name(number), RTYPE).with(|q| q.opt = Some(Opt::of_size(1232)));
            udp(pod, true).with(|p| p.payload = ask.bytes()).bytes()
        })
        .collect();
    let mut out = [0; LONGEST];
    let mut number = 0;
    while !done.load(Relaxed) {
        number = (number + 1) % NAMES;
        let (_, frame) = runner.run(&queries[number as usize], &mut out);
        let message = &frame[14 + 20 + 8..];
        seen.reads[reader].fetch_add(1, Relaxed);
        // QR
        if message[2] & 0x80 != 0 {
            seen.hits.fetch_add(1, Relaxed);
            if !is_sound(number, message) {
                seen.mixtures.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Reads and writes until `enough` has been seen. `names` are written, of which the first ones are read.
fn run(harness: &Harness, names: u32, enough: impl Fn(&Seen) -> bool) -> Seen {
    let pod = harness.pod('a');
    let seen = Seen::default();
    let done = AtomicBool::new(false);
    // No entry makes way for an older one.
    let stored = Time::from_nanos(now().nanos() - u64::from(AGE) * SECOND);
    let entries: Vec<_> = (0..WRITINGS)
        .flat_map(|writing| (0..names).map(move |number| entry(number, writing, stored)))
        .collect();
    let started = Instant::now();
    let (shared, over) = (&seen, &done);
    thread::scope(|scope| {
        let reader = |reader| {
            scope.spawn(move || {
                harness.inside(pod, |runner| read(runner, pod, reader, shared, over))
            })
        };
        let readers: [_; READERS] = array::from_fn(reader);
        let mut writings = 0u64;
        while !enough(&seen) && !readers.iter().any(|reader| reader.is_finished()) {
            for (key, entry) in &entries {
                harness.cache().put(key.as_bytes(), entry, NEVER);
                writings += 1;
            }
        }
        done.store(true, Relaxed);
        println!(
            "{writings} writings, {seen:?}, {:?}, {:?}",
            harness.cache().usage(),
            started.elapsed()
        );
    });
    seen
}

#[test]
fn what_changes_while_it_is_read_is_never_mixed() {
    let harness = Harness::with_cache(SMALL);
    let reads = repeated(READS);
    let seen = run(&harness, 2 * NAMES, |seen| seen.has_reads(reads));
    let [read, hits, mixtures] = seen.counts();
    assert_eq!(mixtures, 0);
    assert!(hits > read / 100 && hits < read, "{hits} hits of {read}");
    assert!(harness.cache().usage().evicted > 1000);
}

/// The longest writing comes first: all others have room where it is.
#[test]
fn what_is_written_in_its_place_is_never_mixed() {
    let harness = Harness::with_cache(ROOMY);
    let longest = (0..WRITINGS).max_by_key(|writing| records(*writing));
    let stored = Time::from_nanos(now().nanos() - u64::from(AGE + 1) * SECOND);
    for number in 0..NAMES {
        let (key, entry) = entry(number, longest.unwrap(), stored);
        harness.cache().put(key.as_bytes(), &entry, NEVER);
    }
    let (reads, before) = (repeated(READS), harness.cache().usage());
    let seen = run(&harness, NAMES, |seen| seen.has_reads(reads));
    let [read, hits, mixtures] = seen.counts();
    assert_eq!(mixtures, 0);
    assert!(hits > read / 100 && hits < read, "{hits} hits of {read}");
    assert_eq!(harness.cache().usage(), before, "an entry has moved");
}

/// Whether mixtures are seen.
fn without_the_guard(size: Size, names: u32) {
    let harness = Harness::unguarded(size);
    let started = Instant::now();
    let seen = run(&harness, names, |seen| {
        seen.mixtures.load(Relaxed) > 0 || started.elapsed() > PATIENCE
    });
    assert!(seen.mixtures.load(Relaxed) > 0, "{seen:?}");
}

#[test]
fn without_the_guard_it_is() {
    without_the_guard(SMALL, 2 * NAMES);
}

#[test]
fn without_the_guard_it_is_in_its_place_as_well() {
    without_the_guard(ROOMY, NAMES);
}
