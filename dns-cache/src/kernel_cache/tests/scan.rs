//! A scan of random names does not push out what is in use.

use super::*;

const ENTRIES: u32 = 10_000;
const IN_USE: u32 = 1_000;
const SCAN: u32 = 1_000_000;
/// One half of the names in use is asked for once in so many random names, the other half once in so many: ten
/// times while the cache is gone through a hundred times.
const OFTEN: u32 = 1_000;
const SELDOM: u32 = 100_000;

#[test]
fn a_million_random_names_push_out_less_than_one_in_a_hundred() {
    let bench = Bench::new(Size {
        entries: ENTRIES,
        buckets: ENTRIES / 2,
        elements: 10,
    });
    let answer = new_entry(1, 100);
    let name = |i| key(&format!("svc-{i}.ns.test"));
    let in_use: Vec<_> = (0..IN_USE).map(name).collect();
    for key in &in_use {
        bench.put(key, &answer);
        bench.hit(key);
    }
    let (often, seldom) = in_use.split_at(in_use.len() / 2);
    let mut misses = 0;
    for i in 0..SCAN {
        bench.put(&random_name(i), &answer);
        for (keys, interval) in [(often, OFTEN), (seldom, SELDOM)] {
            let step = interval / keys.len() as u32;
            let key = &keys[(i / step) as usize % keys.len()];
            // What is gone comes back from the resolver.
            if i % step == 0 && !bench.hit(key) {
                misses += 1;
                bench.put(key, &answer);
            }
        }
    }
    assert!(bench.cache.usage().entries <= ENTRIES.into());
    let kept = in_use.iter().filter(|key| bench.has(key)).count();
    let asked = (SCAN / OFTEN + SCAN / SELDOM) * IN_USE / 2;
    println!("{kept} of {IN_USE} kept, {misses} of {asked} queries were misses meanwhile");
    assert!(kept >= 990, "{kept} of {IN_USE}");
    assert!(misses <= asked / 1000, "{misses} of {asked}");
}

/// Names that have nothing in common, and that nobody asks for again.
fn random_name(number: u32) -> Key {
    let number = dns_cache_common::hash::finish(u64::from(number) + 1);
    key(&format!("{number:016x}.test"))
}
