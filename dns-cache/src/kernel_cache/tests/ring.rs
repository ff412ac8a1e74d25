//! A queue in memory that is written in turn.

use std::collections::VecDeque;

use dns_cache_common::cached::{ELEMENT_CELLS, WINDOW};
use proptest::prelude::*;

use super::super::ring::{Place, Ring, Span};
use super::CELL;

/// The largest entry's.
const MOST: u32 = (WINDOW / CELL) as u32 - 1;

fn place(ring: &mut Ring, queue: &mut VecDeque<Span>, cells: u32) -> Span {
    loop {
        match ring.place(cells) {
            Place::At(span) => {
                queue.push_back(span);
                return span;
            }
            Place::Oldest(span) => assert_eq!(Some(span), queue.pop_front(), "the oldest first"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_never_overlap_nor_leave_their_element(
        first in 0..ELEMENT_CELLS,
        size in 128..3 * ELEMENT_CELLS,
        // 0 takes the oldest out.
        steps in proptest::collection::vec(0..=MOST, 1..2000),
    ) {
        let end = first + size;
        let (mut ring, mut queue) = (Ring::new(first, end), VecDeque::new());
        for cells in steps {
            if cells == 0 {
                prop_assert_eq!(ring.pop(), queue.pop_front());
                continue;
            }
            let roomy = ring.has_room(cells);
            let before = queue.len();
            let span = place(&mut ring, &mut queue, cells);
            prop_assert!(!roomy || queue.len() == before + 1, "there was room");
            prop_assert_eq!(ring.len(), queue.len());
            prop_assert_eq!(span.cells, cells);
            prop_assert!(first <= span.cell && span.cell + cells <= end);
            let last_start = ELEMENT_CELLS - (WINDOW / CELL) as u32;
            prop_assert!(span.cell % ELEMENT_CELLS <= last_start);
            let others = queue.iter().take(queue.len() - 1);
            for other in others {
                let apart = other.cell + other.cells <= span.cell || span.cell + cells <= other.cell;
                prop_assert!(apart, "{:?} {:?}", other, span);
            }
        }
    }
}

/// No more is thrown out than must be: what is lost is an entry's length at the end, and the ends of elements.
#[test]
fn it_is_filled() {
    for (cells, elements) in [(1, 1), (3, 1), (7, 2), (MOST, 3)] {
        let end = elements * ELEMENT_CELLS;
        let (mut ring, mut queue) = (Ring::new(1, end), VecDeque::new());
        for _ in 0..3 * end / cells {
            place(&mut ring, &mut queue, cells);
        }
        let used = queue.len() as u32 * cells;
        let lost = (elements + 1) * (MOST + 1) + 2 * cells;
        assert!(used >= end - lost, "{used} of {end} cells, by {cells}");
    }
    let mut ring = Ring::new(1, 1000);
    ring.place(5);
    ring.clear();
    assert_eq!((ring.len(), ring.pop()), (0, None));
    assert!(ring.has(1) && ring.has(999) && !ring.has(0) && !ring.has(1000));
}
