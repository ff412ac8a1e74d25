//! Entries that change while they are read: the old answer, the new one, or a miss; never a mixture.
//!
//! Every record of an entry carries the number of its writing, which also decides how many records there are. So
//! entries are written in place and moved, and others keep coming and push them out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dns_cache::kernel_cache::Size;
use dns_cache::resolver::{Entry, Time};
use dns_cache_common::question::{Key, KeyParts};

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
const READS: u64 = 2_000_000;
const READERS: usize = 2;
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
    reads: AtomicU64,
    hits: AtomicU64,
    mixtures: AtomicU64,
}

impl Seen {
    fn counts(&self) -> [u64; 3] {
        [&self.reads, &self.hits, &self.mixtures].map(|count| count.load(Relaxed))
    }
}

fn read(runner: &Runner<'_>, pod: Place, seen: &Seen, done: &AtomicBool) {
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
        seen.reads.fetch_add(1, Relaxed);
        // QR
        if message[2] & 0x80 != 0 {
            seen.hits.fetch_add(1, Relaxed);
            if !is_sound(number, message) {
                seen.mixtures.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Reads and writes until `enough` has been seen.
fn run(harness: &Harness, enough: impl Fn(&Seen) -> bool) -> Seen {
    let pod = harness.pod('a');
    let seen = Seen::default();
    let done = AtomicBool::new(false);
    // No entry makes way for an older one.
    let stored = Time::from_nanos(now().nanos() - u64::from(AGE) * SECOND);
    let entries: Vec<_> = (0..WRITINGS)
        .flat_map(|writing| (0..2 * NAMES).map(move |number| entry(number, writing, stored)))
        .collect();
    let started = Instant::now();
    thread::scope(|scope| {
        let readers = [(); READERS].map(|()| {
            scope.spawn(|| harness.inside(pod, |runner| read(runner, pod, &seen, &done)))
        });
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
    let [read, hits, mixtures] = run(&harness, |seen| seen.reads.load(Relaxed) >= reads).counts();
    assert_eq!(mixtures, 0);
    assert!(hits > read / 100 && hits < read, "{hits} hits of {read}");
    assert!(harness.cache().usage().evicted > 1000);
}

#[test]
fn without_the_guard_it_is() {
    let harness = Harness::unguarded(SMALL);
    let started = Instant::now();
    let seen = run(&harness, |seen| {
        seen.mixtures.load(Relaxed) > 0 || started.elapsed() > PATIENCE
    });
    assert!(seen.mixtures.load(Relaxed) > 0, "{seen:?}");
}
