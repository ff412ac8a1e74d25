//! What the next agent finds, whenever the one before it was killed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SIZE: Size = Size {
    entries: 300,
    buckets: 300,
    elements: 1,
};

impl Bench {
    /// The memory in the hands of another agent.
    fn restart(&mut self, contents: u64) {
        let seed = seed_of(self.files[1].as_fd()).unwrap().unwrap();
        self.cache = open(&self.files, self.size, seed, contents);
    }

    fn words(&self) -> [Vec<u64>; 2] {
        [&self.index, &self.arena]
            .map(|memory| memory.iter().map(|word| word.load(Relaxed)).collect())
    }

    fn keys(&self) -> BTreeMap<Box<[u8]>, (u64, u32)> {
        let mut keys = BTreeMap::new();
        self.cache.for_each(|seen, _| {
            keys.insert(seen.key.clone(), (seen.bytes, seen.hits));
        });
        keys
    }

    /// No two entries share a cell, and each is found under its own key.
    fn check(&self) {
        let live = self.live();
        for pair in live.windows(2) {
            assert!(pair[0].cell + pair[0].cells <= pair[1].cell, "{pair:?}");
        }
        let usage = self.cache.usage();
        let cells: u64 = live.iter().map(|entry| u64::from(entry.cells)).sum();
        assert_eq!(usage.entries, live.len() as u64);
        assert_eq!(usage.bytes, cells * CELL as u64);
        for key in self.keys().keys() {
            assert!(self.cache.get(key).is_some());
        }
    }
}

fn named(number: u32) -> Key {
    key(&format!("n{number}.test"))
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut bench = Bench::new(SIZE);
    for number in 0..200 {
        bench.put(&named(number), &new_entry(7, 100));
        if number % 3 == 0 {
            bench.hit(&named(number));
        }
    }
    let (keys, words) = (bench.keys(), bench.words());
    assert_eq!(keys.len(), 200);
    bench.restart(0);
    assert_eq!(bench.keys(), keys);
    assert_eq!(bench.words(), words, "nothing was written");
    bench.check();
    for number in 0..1000 {
        bench.put(&named(number), &new_entry(8, 90));
        bench.check();
    }
}

#[test]
fn answers_of_another_configuration_or_seed_are_not() {
    let mut bench = Bench::new(SIZE);
    bench.put(&named(1), &new_entry(7, 100));
    bench.cache.set_contents(5);
    bench.restart(5);
    assert!(bench.has(&named(1)));
    bench.restart(6);
    assert_eq!(bench.keys().len(), 0);
    bench.put(&named(1), &new_entry(7, 100));
    let seed = random_seed();
    bench.cache = open(&bench.files, SIZE, seed, 6);
    assert_eq!(bench.keys().len(), 0);
    assert_eq!(seed_of(bench.files[1].as_fd()).unwrap().unwrap().0, seed.0);
    let memory = Bench::new(SIZE).files;
    memory[1].set_len(0).unwrap();
    memory[1].set_len(ELEMENT as u64).unwrap();
    assert!(seed_of(memory[1].as_fd()).unwrap().is_none());
}

/// An entry that is found by nobody is none, though its name reads well: here what fills its last word is not zero.
#[test]
fn an_entry_that_nobody_finds_is_not_taken_up() {
    let mut bench = Bench::new(SIZE);
    // A byte more than a word, and that is the root.
    bench.put(&named(1), &new_entry(7, 100));
    let last = bench.live()[0].cell as usize * CELL_WORDS + HEAD_WORDS + 1;
    assert_eq!(bench.arena[last].load(Relaxed), 0);
    bench.arena[last].store(1 << 8, Relaxed);
    bench.restart(0);
    assert_eq!(bench.keys().len(), 0);
    bench.check();
}

/// While another agent has the memory nothing is written there; afterwards this one goes on with what that one left.
#[test]
fn a_successor_may_come_and_go() {
    let mut bench = Bench::new(SIZE);
    bench.put(&named(1), &new_entry(7, 100));
    bench.cache.freeze();
    let words = bench.words();
    bench.put(&named(2), &new_entry(7, 100));
    bench.cache.remove(named(1).as_bytes());
    bench.cache.remove_if(|_, _| true);
    bench.cache.set_contents(9);
    assert_eq!(bench.words(), words);
    let seed = seed_of(bench.files[1].as_fd()).unwrap().unwrap();
    let other = open(&bench.files, bench.size, seed, 0);
    let frozen = std::mem::replace(&mut bench.cache, other);
    bench.put(&named(3), &new_entry(7, 100));
    bench.cache = frozen;
    bench.cache.thaw();
    assert!(bench.has(&named(1)) && bench.has(&named(3)) && !bench.has(&named(2)));
    bench.check();
    bench.put(&named(4), &new_entry(7, 100));
    bench.check();
    // One that did not fit its configuration began anew.
    bench.cache.freeze();
    drop(open(&bench.files, bench.size, seed, 5));
    bench.cache.thaw();
    assert_eq!(bench.keys().len(), 0);
    bench.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Puts, hits and removals with restarts in between: the oldest still leave first, and no entry is written
    /// over another one.
    #[test]
    fn a_cache_goes_on_where_it_was(
        steps in prop::collection::vec((0..400u32, 1..1200u16, 0..20u8), 1..400),
    ) {
        let mut bench = Bench::new(SIZE);
        for (number, len, what) in steps {
            match what {
                0 => {
                    let keys = bench.keys();
                    bench.restart(0);
                    prop_assert_eq!(bench.keys(), keys);
                }
                1 => bench.cache.remove(named(number).as_bytes()),
                2..8 => {
                    bench.hit(&named(number));
                }
                _ => bench.put(&named(number), &new_entry(1, len)),
            }
            bench.check();
        }
    }

    /// Whatever a program with rights or a fault wrote there: nothing panics, and what is taken up is sound.
    #[test]
    fn words_that_make_no_sense_are_not_taken_up(
        faults in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u64>()), 1..50),
    ) {
        let mut bench = Bench::new(SIZE);
        for number in 0..200 {
            bench.put(&named(number), &new_entry(7, 100));
        }
        for (in_index, at, value) in faults {
            let memory = if in_index { &bench.index } else { &bench.arena };
            // What is in use of the arena.
            let at = at.index(memory.len().min(200 * 4 * CELL_WORDS));
            memory[at].store(value, Relaxed);
        }
        let seed = seed_of(bench.files[1].as_fd()).unwrap().unwrap_or_else(random_seed);
        bench.cache = open(&bench.files, SIZE, seed, 0);
        bench.check();
        for number in 0..300 {
            bench.put(&named(number), &new_entry(8, 90));
        }
        bench.check();
    }
}
