//! The targets on stable: each gets its corpus, and then mutations of it, for a second or as long as
//! `cargo xtask fuzz` says. What makes a target panic is kept in its corpus.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::mutation::{Random, mutated};

/// Seconds for each target.
const SECONDS: &str = "DNS_CACHE_FUZZ_SECONDS";

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&folder).unwrap();
    let corpus: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    let check = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
            let file = folder.join(format!("found-{:08x}", checksum(input)));
            fs::write(&file, input).unwrap();
            eprintln!("{name}: the input is {}", file.display());
            std::panic::resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| check(input));
    let seconds = env::var(SECONDS).map_or(1, |seconds| seconds.parse().unwrap());
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let mut random = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = 0u64;
    while Instant::now() < end {
        check(&mutated(&corpus, &mut random));
        inputs += 1;
    }
    println!("{name}: {inputs} inputs in {seconds} s, seed {seed}");
}

/// Enough to tell inputs apart.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        sum.rotate_left(5) ^ u32::from(*byte).wrapping_mul(0x9e37_79b9)
    })
}

#[test]
fn query() {
    run("query", super::query);
}

#[test]
fn response() {
    run("response", super::response);
}

#[test]
fn control() {
    run("control", super::control);
}

#[test]
fn config() {
    run("config", super::config);
}

/// Else nothing would ever be found.
#[test]
fn a_target_that_panics_is_told_with_its_input() {
    let mut random = Random::new(1);
    let corpus = [b"abcdef".to_vec()];
    let found = (0..100_000).map(|_| mutated(&corpus, &mut random));
    let mut found = found.filter(|bytes| bytes.starts_with(b"abc\xff"));
    assert!(
        found.next().is_some(),
        "no mutation in the middle of the input"
    );
}
