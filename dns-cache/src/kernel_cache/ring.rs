//! A queue of entries in a part of the arena: the newest is written behind the one before it, and when the end is
//! reached, over the oldest.

use std::collections::VecDeque;

use dns_cache_common::cached::{CELL, ELEMENT_CELLS, WINDOW};

/// No entry begins in an element's last cells: the programs read so far from its beginning.
const LAST_START: u32 = ELEMENT_CELLS - (WINDOW / CELL) as u32;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) cell: u32,
    pub(super) cells: u32,
}

impl Span {
    pub(super) fn end(self) -> u32 {
        self.cell + self.cells
    }
}

/// Cells from `first` to `end`, written in turn.
#[derive(Debug)]
pub(super) struct Ring {
    first: u32,
    end: u32,
    head: u32,
    /// From the oldest to the newest, those included that were removed since.
    spans: VecDeque<Span>,
}

/// What a ring says to a request for room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Here; the span is the newest now.
    At(Span),
    /// The oldest entry is in the way. It is out of the queue now; what is in it can still be read.
    Oldest(Span),
}

impl Ring {
    /// A ring over cells `first..end`, which must hold at least one entry of the largest size.
    pub(super) fn new(first: u32, end: u32) -> Self {
        Self {
            first,
            end,
            head: first,
            spans: VecDeque::new(),
        }
    }

    /// Looks for room behind the newest entry.
    pub(super) fn place(&mut self, cells: u32) -> Place {
        loop {
            let at = self.head % ELEMENT_CELLS;
            if at > LAST_START {
                self.head += ELEMENT_CELLS - at;
            }
            let span = Span {
                cell: self.head,
                cells,
            };
            let wraps = span.end() > self.end;
            // Ahead of the head lie the oldest entries, if the ring was gone round.
            let blocked = self.spans.front().is_some_and(|oldest| {
                oldest.cell >= self.head && (wraps || oldest.cell < span.end())
            });
            if blocked && let Some(oldest) = self.spans.pop_front() {
                return Place::Oldest(oldest);
            }
            if wraps {
                self.head = self.first;
                continue;
            }
            self.head = span.end();
            self.spans.push_back(span);
            return Place::At(span);
        }
    }

    /// Where the next entry goes, if there is room.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// Takes up a queue whose head is known, with those of the entries that are its own. They come in the order of
    /// their cells, and do not overlap.
    pub(super) fn restore(&mut self, head: u32, entries: &[Span]) {
        self.head = head.clamp(self.first, self.end);
        let own = entries.iter().filter(|span| self.has(span.cell));
        let (newer, older): (Vec<_>, Vec<_>) = own.partition(|span| span.cell < self.head);
        self.spans = older.into_iter().chain(newer).copied().collect();
    }

    /// Whether a place is one that an entry may have.
    pub(super) fn allows(&self, span: Span) -> bool {
        self.has(span.cell) && span.end() <= self.end && span.cell % ELEMENT_CELLS <= LAST_START
    }

    /// Takes the oldest entry out of the queue.
    pub(super) fn pop(&mut self) -> Option<Span> {
        self.spans.pop_front()
    }

    /// Entries in the queue, those included that were removed since.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether `cell` is one of its.
    pub(super) fn has(&self, cell: u32) -> bool {
        (self.first..self.end).contains(&cell)
    }

    /// Forgets all entries.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.head = self.first;
    }

    /// Whether `cells` more fit without an entry's leaving.
    pub(super) fn has_room(&self, cells: u32) -> bool {
        match self.spans.front() {
            None => true,
            // Not gone round yet, and well away from the end.
            Some(oldest) => {
                oldest.cell < self.head && self.head + cells + LAST_START_GAP <= self.end
            }
        }
    }
}

/// Cells that may have to be passed over at an element's end.
const LAST_START_GAP: u32 = ELEMENT_CELLS - LAST_START;
