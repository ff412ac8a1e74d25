//! Addresses take turns at the first place.

use std::collections::BTreeMap;

use super::super::harness::{Harness, LONGEST};
use super::super::packet::udp;
use super::message::{QUESTION, Record, Response};
use super::{NAME, NEVER, SIZE, key, now, put, repeated};

/// Hoeffding's bound: of `runs` independent draws a share is farther than this from what is expected with a
/// chance of 1e-9.
fn deviation(runs: u64) -> f64 {
    ((2e9f64).ln() / 2.0 * runs as f64).sqrt()
}

#[test]
fn every_address_is_first_in_its_share_of_replies() {
    let harness = Harness::with_cache(SIZE);
    let pod = harness.pod('a');
    let runs = repeated(20_000);
    for count in [1, 2, 3, 7] {
        for aliases in [0, 2] {
            let alias = |i| {
                let owner = [&[1, b'a' + i][..], QUESTION].concat();
                let owner = if i == 0 { QUESTION } else { &owner };
                let target = [&[1, b'b' + i][..], QUESTION].concat();
                Record::new(owner, 5, 300, &target)
            };
            let last = if aliases == 0 {
                QUESTION.to_vec()
            } else {
                [&[1, b'a' + aliases][..], QUESTION].concat()
            };
            let address = |i| Record::new(&last, 1, 300, &[10, 0, 0, i]);
            let answers = (0..aliases).map(alias).chain((0..count).map(address));
            let response = Response::new(NAME, 1, answers.collect());
            put(&harness, &key(NAME, 1, 0), &response, now(), NEVER);

            let mut firsts = BTreeMap::new();
            harness.inside(pod, |runner| {
                let query = udp(pod, true).bytes();
                let mut out = [0; LONGEST];
                for _ in 0..runs {
                    let (_, frame) = runner.run(&query, &mut out);
                    // Behind the headers and the question; an alias takes 16 bytes with its name's four.
                    let body = &frame[14 + 20 + 8 + 12 + NAME.len() + 4..];
                    let (chain, set) = body.split_at(16 * usize::from(aliases));
                    assert!(chain.chunks(16).all(|record| record[2..4] == [0, 5]));
                    let order: Vec<_> = set.chunks(16).map(|record| record[15]).collect();
                    let first = order[0];
                    let turned: Vec<_> = (0..count).map(|i| (first + i) % count).collect();
                    assert_eq!(order, turned);
                    *firsts.entry(first).or_insert(0) += 1;
                }
            });
            let share = runs as f64 / f64::from(count);
            for first in 0..count {
                let seen: u64 = firsts.get(&first).copied().unwrap_or(0);
                let off = (seen as f64 - share).abs();
                assert!(
                    off <= deviation(runs),
                    "{first} of {count}: {seen} of {runs}"
                );
            }
        }
    }
}
