//! What is put in, replaced, moved and taken out.

use std::collections::{BTreeMap, BTreeSet};

use dns_cache_common::cached::ELEMENT_CELLS;
use dns_cache_common::reply::Stored;
use proptest::prelude::*;

use super::*;

/// No bucket is ever full.
const SMALL: Size = Size {
    entries: 100,
    buckets: 1000,
    elements: 1,
};

fn named(number: u32) -> Key {
    key(&format!(
        "n{number}.{}.test",
        if number.is_multiple_of(3) { "a" } else { "b" }
    ))
}

#[test]
fn the_number_of_entries_is_bounded() {
    let bench = Bench::new(SMALL);
    for number in 0..1000 {
        bench.put(&named(number), &new_entry(1, 20));
        assert_eq!(bench.cache.usage().entries, bench.live().len() as u64);
        assert_eq!(bench.live().len() as u32, (number + 1).min(SMALL.entries));
    }
    assert_eq!(bench.cache.usage().evicted, 900);
}

#[test]
fn an_entry_is_replaced_in_its_place_with_its_hits() {
    let bench = Bench::new(SMALL);
    let key = named(1);
    bench.put(&key, &new_entry(1, 200));
    for _ in 0..3 {
        assert!(bench.hit(&key));
    }
    let [old] = bench.live()[..] else { panic!() };
    for (filling, len) in [(2, 200), (3, 1), (4, 200)] {
        bench.put(&key, &new_entry(filling, len));
        let [new] = bench.live()[..] else { panic!() };
        assert_eq!((new.cell, new.cells), (old.cell, old.cells));
        assert_ne!(new.generation, old.generation);
        assert_eq!(bench.filling(&key, new), filling);
        assert_eq!(bench.cache.get(key.as_bytes()).unwrap().hits, 3);
    }
}

#[test]
fn a_larger_one_gets_a_place_of_its_own() {
    let bench = Bench::new(SMALL);
    let key = named(1);
    bench.put(&key, &new_entry(1, 20));
    let [old] = bench.live()[..] else { panic!() };
    bench.put(&key, &new_entry(2, 1000));
    let [new] = bench.live()[..] else { panic!() };
    assert!(new.cell >= old.cell + old.cells && new.cells > old.cells);
    assert_eq!(bench.filling(&key, new), 2);
    let usage = bench.cache.usage();
    assert_eq!((usage.entries, usage.bytes), (1, u64::from(new.cells) * 64));
    assert_eq!(usage.evicted, 0);
}

#[test]
fn what_cannot_be_kept_takes_the_old_one_out() {
    let bench = Bench::new(SMALL);
    let key = named(1);
    for (what, bad) in [
        ("a TTL of 0", entry(1, 20, 0, Time::from_nanos(0))),
        ("too long for UDP", new_entry(1, 1204)),
    ] {
        bench.put(&key, &new_entry(1, 1203));
        assert!(bench.has(&key));
        bench.put(&key, &bad);
        assert!(!bench.has(&key) && bench.live().is_empty(), "{what}");
    }
}

#[test]
fn entries_are_taken_out_one_by_one_or_by_zone() {
    let bench = Bench::new(SMALL);
    for number in 0..30 {
        bench.put(&named(number), &new_entry(1, 20));
    }
    bench.cache.remove(named(0).as_bytes());
    bench.cache.remove(named(99).as_bytes());
    bench.cache.remove(b"no key");
    assert_eq!(bench.live().len(), 29);
    let in_a = |key: &KeyParts<'_>, _| key.name.ends_with(b"\x01a\x04test\0");
    assert_eq!(bench.cache.remove_if(in_a), 9);
    assert_eq!(bench.cache.remove_if(in_a), 0);
    let mut left = BTreeSet::new();
    bench.cache.for_each(|seen, _| {
        left.insert(seen.key.clone());
    });
    let expected = (0..30).filter(|number| number % 3 != 0);
    assert_eq!(
        left,
        expected
            .map(|number| named(number).as_bytes().into())
            .collect()
    );
    assert_eq!(bench.cache.remove_if(|_, _| true), 20);
    assert_eq!(bench.cache.usage().entries, 0);
    assert_eq!(bench.cache.usage().bytes, 0);
}

/// What `cache get` shows of an answer that only the kernel has.
#[test]
fn an_answer_is_read_as_it_was_put_in() {
    let bench = Bench::new(SMALL);
    // Two addresses, which are turned, and a record of odd length behind them.
    let addresses = answer(
        [2, 0, 1],
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01\
          \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x02\
          \xc0\x0c\xff\x01\0\x01\0\0\0\x3c\0\x03abc",
    );
    assert!(addresses.stored().rotation.is_some());
    for (number, put) in [
        (1, addresses),
        (2, new_entry(7, 1)),
        (3, new_entry(8, 1_000)),
    ] {
        let key = named(number);
        bench.put(&key, &put);
        let mut found = None;
        bench.cache.for_each(|seen, answer| {
            if *seen.key == *key.as_bytes() {
                found = answer();
            }
        });
        let found = found.unwrap();
        let parts = |stored: Stored<'_>| {
            let Stored {
                flags,
                counts,
                records,
                body,
                rotation,
            } = stored;
            (flags, counts, records.to_vec(), body.to_vec(), rotation)
        };
        assert_eq!(parts(found.stored()), parts(put.stored()), "{number}");
    }
}

#[test]
fn a_newer_answer_stays_and_what_was_flushed_does_not_come_back() {
    let bench = Bench::new(SMALL);
    let key = named(1);
    let at =
        |second: u64, filling| entry(filling, 20, 60, Time::from_nanos(second * 1_000_000_000));
    bench.put(&key, &at(5, 1));
    for (second, filling, there) in [(4, 2, 1), (5, 3, 3), (6, 4, 4), (1, 5, 4)] {
        bench.put(&key, &at(second, filling));
        let [live] = bench.live()[..] else { panic!() };
        assert_eq!(bench.filling(&key, live), there, "of second {second}");
    }
    let ticket = bench.cache.ticket();
    assert_eq!(bench.cache.remove_if(|_, _| false), 0);
    bench
        .cache
        .put_since(ticket, key.as_bytes(), &at(9, 6), NEVER);
    let [live] = bench.live()[..] else { panic!() };
    assert_eq!(bench.filling(&key, live), 4);
}

/// Once the cache is full, the small queue is the way into the main one for what is hit there, and for nothing
/// else: an entry that was hit does not take its neighbours along.
#[test]
fn only_what_is_hit_outlives_a_scan() {
    let bench = Bench::new(SMALL);
    for number in 0..SMALL.entries {
        bench.put(&named(number), &new_entry(1, 20));
        if number % 10 == 0 {
            bench.hit(&named(number));
        }
    }
    for number in 1000..1000 + 5 * SMALL.entries {
        bench.put(&named(number), &new_entry(1, 20));
    }
    for number in 0..SMALL.entries {
        assert_eq!(bench.has(&named(number)), number % 10 == 0, "{number}");
    }
}

/// Not even then are there more than there may be.
#[test]
fn one_goes_though_all_were_hit() {
    for entries in [1, 2, 7, SMALL.entries] {
        let bench = Bench::new(Size { entries, ..SMALL });
        for number in 0..3 * entries {
            bench.put(&named(number), &new_entry(1, 20));
            assert!(bench.has(&named(number)));
            assert!(bench.cache.usage().entries <= entries.into());
            for number in 0..=number {
                bench.hit(&named(number));
            }
        }
    }
}

#[test]
fn an_old_entry_makes_room_though_it_was_hit() {
    let bench = Bench::new(SMALL);
    let ends = Time::from_nanos(10_000_000_000);
    for number in 0..SMALL.entries {
        bench.put(&named(number), &entry(1, 20, 10, Time::from_nanos(0)));
        bench.hit(&named(number));
    }
    for number in 1000..1000 + SMALL.entries {
        bench.put(&named(number), &entry(1, 20, 10, ends));
    }
    let young = (1000..1000 + SMALL.entries).filter(|number| bench.has(&named(*number)));
    assert_eq!(young.count() as u32, SMALL.entries);
    assert_eq!(
        bench.cache.usage().evicted,
        0,
        "what has expired is no loss"
    );
}

/// What a test does, and to which name.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u32, u8, u16),
    Hit(u32),
    Remove(u32),
    RemoveZone,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..60u32;
    let len = prop_oneof![4 => 1..200u16, 1 => 200..=1203u16];
    prop_oneof![
        20 => (number.clone(), any::<u8>(), len).prop_map(|(n, filling, len)| Step::Put(n, filling, len)),
        10 => number.clone().prop_map(Step::Hit),
        3 => number.prop_map(Step::Remove),
        1 => Just(Step::RemoveZone),
    ]
}

/// Checks the memory against what was put in last.
fn check(bench: &Bench, model: &BTreeMap<u32, u8>) {
    let live = bench.live();
    let usage = bench.cache.usage();
    assert_eq!(usage.entries, live.len() as u64);
    assert!(live.len() as u32 <= bench.size.entries);
    let cells: u32 = live.iter().map(|live| live.cells).sum();
    assert_eq!(usage.bytes, u64::from(cells) * CELL as u64);
    for pair in live.windows(2) {
        assert!(pair[0].cell + pair[0].cells <= pair[1].cell, "{pair:?}");
    }
    let generations: BTreeSet<_> = live.iter().map(|live| live.generation).collect();
    assert_eq!(generations.len(), live.len());
    assert!(!generations.contains(&0));
    for live in &live {
        assert!(live.cell > 0 && live.cell + live.cells <= bench.size.elements * ELEMENT_CELLS);
        assert!(live.cell % ELEMENT_CELLS + live.cells <= ELEMENT_CELLS);
    }
    let mut there = 0;
    for (number, filling) in model {
        let key = named(*number);
        let hash = bench.cache.hash(&KeyParts::read(key.as_bytes()).unwrap());
        let found = live.iter().find(|live| live.hash == hash);
        assert_eq!(found.is_some(), bench.has(&key));
        if let Some(live) = found {
            assert_eq!(bench.filling(&key, *live), *filling, "the last writing");
            there += 1;
        }
    }
    assert_eq!(there, live.len(), "nothing that was taken out");
    assert!(model.len() - there <= usage.evicted as usize);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_memory_is_what_was_put_in(
        entries in 1..60u32,
        buckets in 1..30u32,
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let bench = Bench::new(Size { entries, buckets, elements: 1 });
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(number, filling, len) => {
                    let evicted = bench.cache.usage().evicted;
                    bench.put(&named(number), &new_entry(filling, len));
                    model.insert(number, filling);
                    // One in use may need the last way of the bucket that it came to.
                    let displaced = bench.cache.usage().evicted > evicted;
                    prop_assert!(bench.has(&named(number)) || displaced);
                }
                Step::Hit(number) => {
                    prop_assert_eq!(bench.hit(&named(number)), bench.has(&named(number)));
                }
                Step::Remove(number) => {
                    bench.cache.remove(named(number).as_bytes());
                    model.remove(&number);
                }
                Step::RemoveZone => {
                    bench.cache.remove_if(|key, _| key.name.ends_with(b"\x01a\x04test\0"));
                    model.retain(|number, _| number % 3 != 0);
                }
            }
            check(&bench, &model);
        }
    }
}
