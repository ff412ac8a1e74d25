//! What this machine takes for a read whose place depends on the read before it.

use std::hint::black_box;
use std::time::Instant;

use dns_cache_tests::random::Random;

/// Numbers in a line of the caches.
const LINE: usize = 16;
/// What an entry takes of the kernel cache: a typical one, and its share of a bucket.
const BYTES_AN_ENTRY: usize = 256;
/// How many reads are timed.
const READS: u32 = 1 << 19;

/// Nanoseconds a read, among as much memory as the kernel cache takes for so many entries, in an order in which each line
/// comes once and names the next one.
pub(super) fn dependent_read(entries: u32, random: &mut Random) -> f64 {
    let lines = lines(entries as usize * BYTES_AN_ENTRY / (LINE * 4), random);
    let mut at = 0;
    let mut read = |count| {
        let start = Instant::now();
        for _ in 0..count {
            at = lines[at][0] as usize;
        }
        black_box(at);
        start.elapsed()
    };
    read(READS / 4);
    read(READS).as_nanos() as f64 / f64::from(READS)
}

/// Lines that lead to each other in one circle (Sattolo, 1986).
fn lines(count: usize, random: &mut Random) -> Vec<[u32; LINE]> {
    let mut lines: Vec<_> = (0..count as u32).map(|line| [line; LINE]).collect();
    for last in (1..count).rev() {
        lines.swap(last, random.below(last as u64) as usize);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_once_before_one_is_again() {
        let lines = lines(1000, &mut Random::new(1));
        let circle = |mut at: usize| {
            let mut steps = 0;
            loop {
                at = lines[at][0] as usize;
                steps += 1;
                if at == 0 {
                    return steps;
                }
            }
        };
        assert_eq!(circle(0), 1000);
    }

    #[test]
    fn a_read_takes_time() {
        assert!(dependent_read(1000, &mut Random::new(1)) > 0.0);
    }
}
