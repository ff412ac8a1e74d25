//! Entries in their places: put in, replaced, moved from queue to queue, and taken out.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use dns_cache_common::cached::{
    self, CELL, Counts, ELEMENT_CELLS, HEAD_WORDS, Refresh, Shape, WORD, unpack_rotation, word,
};
use dns_cache_common::hash::Seed;
use dns_cache_common::name;
use dns_cache_common::question::{Key, KeyParts};
use dns_cache_common::types::class;

use super::entry::{self, Answer, Encoded, Seen};
use super::ghosts::Ghosts;
use super::header;
use super::index::{Index, Way};
use super::ring::{Place, Ring, Span};
use super::{Size, Usage, hash};
use crate::resolver::Time;
use crate::sys::SharedWords;

const CELL_WORDS: usize = CELL / WORD;
/// One part in so many of the arena is the small queue.
const SMALL_SHARE: u32 = 10;
/// The small queue has at least so many cells: some entries of the largest size.
const SMALL_MIN: u32 = 4 * 32;
/// At most so many entries get another round for one insertion; it must end soon even if all were hit.
const MAX_ROUNDS: usize = 64;

/// All that the lock holds.
#[derive(Debug)]
pub(super) struct Store {
    index: Index,
    arena: SharedWords,
    small: Ring,
    main: Ring,
    ghosts: Ghosts,
    generation: u64,
    size: Size,
    /// What the answers depend on.
    contents: u64,
    entries: u32,
    cells: u64,
    evicted: u64,
    flushes: u64,
    /// Another agent writes this memory.
    frozen: bool,
}

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

impl Store {
    /// What is in this memory, if it has this seed and these contents; else an empty store.
    pub(super) fn open(
        index: SharedWords,
        arena: SharedWords,
        size: Size,
        seed: &Seed,
        contents: u64,
    ) -> Self {
        let cells = size.elements * ELEMENT_CELLS;
        let small_end = (cells / SMALL_SHARE).max(SMALL_MIN);
        let mut store = Self {
            index: Index::new(index, size.buckets),
            arena,
            // Cell 0 is the header's: a way that leads to it would look like none.
            small: Ring::new(header::CELLS, small_end),
            main: Ring::new(small_end, cells),
            ghosts: Ghosts::new(size.entries),
            // Not the number of an entry from before, should a program still read one.
            generation: RandomState::new().hash_one(0),
            size,
            contents,
            entries: 0,
            cells: 0,
            evicted: 0,
            flushes: 0,
            frozen: false,
        };
        store.take_up(seed);
        store
    }

    /// Leaves the memory to another agent.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Goes on with what is in the memory now, as another agent that had it left it.
    pub(super) fn take_up(&mut self, seed: &Seed) {
        self.frozen = false;
        self.set_cut_zone_len(0);
        let found = header::seed(&self.arena);
        if found.is_some_and(|found| found.0 == seed.0)
            && header::contents(&self.arena) == self.contents
        {
            self.restore(seed);
        } else {
            let index = &self.index;
            index.all().for_each(|way| index.clear(way));
            self.small.clear();
            self.main.clear();
            (self.entries, self.cells) = (0, 0);
            header::begin(&self.arena, seed, self.contents);
        }
        self.note_heads();
    }

    /// Takes up what an earlier agent left, wherever it was when it ended. It may have been killed while it wrote:
    /// ways that do not lead to a whole entry are cleared.
    fn restore(&mut self, seed: &Seed) {
        let mut found: Vec<_> = self
            .index
            .all()
            .filter(|way| self.index.get(*way) != 0)
            .filter_map(|way| {
                let span = self.sound(way, seed);
                if span.is_none() {
                    self.index.clear(way);
                }
                Some((span?, way))
            })
            .collect();
        found.sort_unstable_by_key(|(span, _)| span.cell);
        let (small, main) = header::heads(&self.arena);
        let mut end = 0;
        found.retain(|(span, way)| {
            // What comes next is written at the heads.
            let free = [small, main]
                .iter()
                .all(|head| span.end() <= *head || *head <= span.cell);
            let apart = free && span.cell >= end;
            if apart {
                end = span.end();
            } else {
                self.index.clear(*way);
            }
            apart
        });
        let spans: Vec<_> = found.into_iter().map(|(span, _)| span).collect();
        self.small.restore(small, &spans);
        self.main.restore(main, &spans);
        self.entries = spans.len() as u32;
        self.cells = spans.iter().map(|span| u64::from(span.cells)).sum();
    }

    /// The place of a way's entry, if the entry is whole and the way its own.
    fn sound(&self, way: Way, seed: &Seed) -> Option<Span> {
        let cell = cached::cell(self.index.get(way));
        let ring = [&self.small, &self.main]
            .into_iter()
            .find(|ring| ring.has(cell))?;
        let span = self.span(cell);
        let written = self.word(cell, word::GENERATION) != 0;
        if !written || !ring.allows(span) || self.len(cell) > span.cells as usize * CELL_WORDS {
            return None;
        }
        let key = self.key(cell)?;
        let key = KeyParts::read(key.as_bytes())?;
        let hash = hash(seed, &key);
        let is_own = self.word(cell, word::HASH) == hash && self.index.leads(way, hash);
        // Word for word, the filling behind the name too: who looks it up compares those.
        (is_own && self.has_key(cell, &key)).then_some(span)
    }

    /// Lets the next agent know where the queues stand.
    fn note_heads(&self) {
        header::set_heads(&self.arena, self.small.head(), self.main.head());
    }

    pub(super) fn set_contents(&mut self, contents: u64) {
        self.contents = contents;
        header::set_contents(&self.arena, contents);
    }

    /// How often entries were taken out by what they answer.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Puts an entry in, in place of the one with its key.
    pub(super) fn put(&mut self, key: &KeyParts<'_>, mut entry: Encoded, now: Time) {
        let hash = entry.hash();
        let mut queue = Queue::Small;
        if let Some(way) = self.find_key(hash, key) {
            let old = self.span(cached::cell(self.index.get(way)));
            if self.word(old.cell, word::STORED) > entry.words[word::STORED] {
                return;
            }
            if entry.cells() <= old.cells {
                entry.set_cells(old.cells);
                self.write(old.cell, &entry);
                return;
            }
            if self.main.has(old.cell) || self.index.hits(way) > 0 {
                queue = Queue::Main;
            }
            self.unlink(way, old);
        } else if self.ghosts.take(hash) {
            queue = Queue::Main;
        }
        self.insert(entry, queue, now);
    }

    /// Tells the programs how long the name of the zone with cuts is; 0: there is none.
    pub(super) fn set_cut_zone_len(&mut self, len: usize) {
        self.arena[cached::CUT_ZONE_LEN].store(len as u64, Relaxed);
    }

    pub(super) fn remove(&mut self, hash: u64, key: &KeyParts<'_>) {
        if let Some(way) = self.find_key(hash, key) {
            let span = self.span(cached::cell(self.index.get(way)));
            self.unlink(way, span);
        }
    }

    pub(super) fn remove_cut(&mut self, hash: u64, key: &KeyParts<'_>) {
        let found = self.find_key(hash, key);
        if found.is_some_and(|way| self.shape(cached::cell(self.index.get(way))).covers_below) {
            self.remove(hash, key);
        }
    }

    pub(super) fn remove_if(&mut self, chosen: impl Fn(&KeyParts<'_>, bool) -> bool) -> u64 {
        self.flushes += 1;
        let mut removed = 0;
        for way in self.index.all() {
            let cell = cached::cell(self.index.get(way));
            let Some(key) = (cell != 0).then(|| self.key(cell)).flatten() else {
                continue;
            };
            let covers_below = self.shape(cell).covers_below;
            if KeyParts::read(key.as_bytes()).is_some_and(|key| chosen(&key, covers_below)) {
                let span = self.span(cell);
                self.unlink(way, span);
                removed += 1;
            }
        }
        if self.entries == 0 {
            self.small.clear();
            self.main.clear();
        }
        removed
    }

    pub(super) fn get(&self, hash: u64, key: &KeyParts<'_>) -> Option<Seen> {
        self.seen(self.find_key(hash, key)?)
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(&Seen, &dyn Fn() -> Option<Answer>)) {
        for way in self.index.all() {
            if let Some(seen) = self.seen(way) {
                let cell = cached::cell(self.index.get(way));
                look(&seen, &|| entry::decode(&self.read(cell)));
            }
        }
    }

    pub(super) fn asked(&self, refresh: Refresh) -> Option<Seen> {
        let cell = cached::cell(refresh.way);
        let in_arena = self.small.has(cell) || self.main.has(cell);
        if !in_arena || self.word(cell, word::GENERATION) != refresh.generation {
            return None;
        }
        let hash = self.word(cell, word::HASH);
        self.seen(self.find(hash, |_, found| found == cell)?)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.entries.into(),
            max_entries: self.size.entries.into(),
            bytes: self.cells * CELL as u64,
            capacity: self.size.bytes(),
            evicted: self.evicted,
        }
    }

    /// Writes an entry where there is room, and leads a way to it.
    fn insert(&mut self, entry: Encoded, queue: Queue, now: Time) {
        let mut moving = Moving::default();
        while self.is_full(&moving) {
            if !self.make_room(&mut moving, now) {
                // All were hit. The one that has been there longest goes.
                if moving.entries.pop().is_none() {
                    break;
                }
                self.evicted += 1;
            }
        }
        match queue {
            Queue::Main => moving.entries.push(entry),
            Queue::Small => loop {
                match self.small.place(entry.cells()) {
                    Place::At(span) => break self.link(entry, span),
                    Place::Oldest(span) => self.leave_small(span, &mut moving, now),
                }
            },
        }
        while let Some(entry) = moving.entries.pop() {
            match self.main.place(entry.cells()) {
                Place::At(span) => self.link(entry, span),
                Place::Oldest(span) => {
                    moving.entries.push(entry);
                    self.leave_main(span, &mut moving, now);
                }
            }
        }
    }

    /// Whether there are as many entries as may be, those on their way included.
    fn is_full(&self, moving: &Moving) -> bool {
        self.entries as usize + moving.entries.len() >= self.size.entries as usize
    }

    /// The oldest entry of one of the queues leaves it; `false` if both are empty.
    fn make_room(&mut self, moving: &mut Moving, now: Time) -> bool {
        let small_is_large = self.small.len() >= (self.size.entries / SMALL_SHARE) as usize;
        if (small_is_large || self.main.len() == 0)
            && let Some(span) = self.small.pop()
        {
            self.leave_small(span, moving, now);
            return true;
        }
        let Some(span) = self.main.pop() else {
            return false;
        };
        self.leave_main(span, moving, now);
        true
    }

    /// An entry leaves the small queue: for the main one if it was hit, or if there is room.
    fn leave_small(&mut self, span: Span, moving: &mut Moving, now: Time) {
        let hash = self.word(span.cell, word::HASH);
        let full = self.is_full(moving) || !self.main.has_room(span.cells);
        match self.leave(span, now, |hits| hits > 0 || !full) {
            Left::Kept(entry) => moving.entries.insert(0, entry),
            Left::Evicted => self.ghosts.add(hash),
            Left::Gone => {}
        }
    }

    /// An entry leaves its place in the main queue: for another round there if it was hit.
    fn leave_main(&mut self, span: Span, moving: &mut Moving, now: Time) {
        let more = moving.rounds < MAX_ROUNDS;
        if let Left::Kept(entry) = self.leave(span, now, |hits| more && hits > 0) {
            moving.rounds += 1;
            moving.entries.insert(0, entry);
        }
    }

    /// Takes the entry out of its place, and gives it back if it is worth keeping by its hits.
    fn leave(&mut self, span: Span, now: Time, worth: impl FnOnce(u32) -> bool) -> Left {
        let hash = self.word(span.cell, word::HASH);
        let Some(way) = self.find(hash, |_, cell| cell == span.cell) else {
            return Left::Gone;
        };
        let expired = self.word(span.cell, word::UNTIL) <= now.nanos();
        let kept = (!expired && worth(self.index.hits(way))).then(|| self.read(span.cell));
        self.unlink(way, span);
        match kept {
            Some(entry) => Left::Kept(entry),
            None if expired => Left::Gone,
            None => {
                self.evicted += 1;
                Left::Evicted
            }
        }
    }

    /// Writes an entry into its place and leads a way to it. If its bucket is full, the way hit least is taken.
    fn link(&mut self, mut entry: Encoded, span: Span) {
        let hash = entry.hash();
        entry.set_cells(span.cells);
        let free = self.index.of(hash).find(|way| self.index.get(*way) == 0);
        let way = free.or_else(|| {
            // Of those without a hit, one that has never had any.
            let coldest = self.index.of(hash).min_by_key(|way| {
                let proven = self.main.has(cached::cell(self.index.get(*way)));
                (self.index.hits(*way), proven)
            })?;
            self.unlink(coldest, self.span(cached::cell(self.index.get(coldest))));
            self.evicted += 1;
            Some(coldest)
        });
        self.note_heads();
        self.write(span.cell, &entry);
        // A bucket has ways.
        if let Some(way) = way {
            self.index.set(way, hash, span.cell);
            self.entries += 1;
            self.cells += u64::from(span.cells);
        }
    }

    /// Leads the way to an entry nowhere. Its cells are free when its queue comes round.
    fn unlink(&mut self, way: Way, span: Span) {
        self.index.clear(way);
        self.entries -= 1;
        self.cells -= u64::from(span.cells);
    }

    /// Writes an entry's words; whoever reads them meanwhile sees that they change.
    fn write(&mut self, cell: u32, entry: &Encoded) {
        self.generation = self.generation.wrapping_add(1).max(1);
        let place = &self.arena[cell as usize * CELL_WORDS..];
        place[word::GENERATION].store(0, Relaxed);
        fence(Release);
        for (to, from) in place.iter().zip(&entry.words).skip(1) {
            to.store(*from, Relaxed);
        }
        place[word::GENERATION].store(self.generation, Release);
    }

    /// The entry's words as they stand.
    fn read(&self, cell: u32) -> Encoded {
        Encoded {
            words: (0..self.len(cell)).map(|i| self.word(cell, i)).collect(),
        }
    }

    /// Words of an entry.
    fn len(&self, cell: u32) -> usize {
        let shape = self.shape(cell);
        let counts = Counts::unpack(self.word(cell, word::COUNTS));
        let name_words = usize::from(shape.name_words);
        HEAD_WORDS + name_words + shape.body_words() + counts.table_words()
    }

    fn shape(&self, cell: u32) -> Shape {
        Shape::unpack(self.word(cell, word::SHAPE))
    }

    fn word(&self, cell: u32, word: usize) -> u64 {
        self.arena[cell as usize * CELL_WORDS + word].load(Relaxed)
    }

    fn span(&self, cell: u32) -> Span {
        let (_, cells) = unpack_rotation(self.word(cell, word::ROTATION));
        Span {
            cell,
            cells: cells.into(),
        }
    }

    /// The way of a hash whose cell is the one meant.
    fn find(&self, hash: u64, meant: impl Fn(&Self, u32) -> bool) -> Option<Way> {
        self.index.of(hash).find(|way| {
            let way = self.index.get(*way);
            way != 0 && cached::may_lead(way, hash) && meant(self, cached::cell(way))
        })
    }

    /// The way to the entry of a key.
    fn find_key(&self, hash: u64, key: &KeyParts<'_>) -> Option<Way> {
        self.find(hash, |store, cell| store.has_key(cell, key))
    }

    fn has_key(&self, cell: u32, key: &KeyParts<'_>) -> bool {
        let shape = self.shape(cell);
        let mut words = key.name.chunks(WORD).map(name::word);
        (shape.rtype, class::IN, shape.bits) == (key.rtype, key.class, key.bits())
            && usize::from(shape.name_words) == words.len()
            && (HEAD_WORDS..)
                .zip(&mut words)
                .all(|(i, word)| self.word(cell, i) == word)
    }

    fn key(&self, cell: u32) -> Option<Key> {
        let shape = self.shape(cell);
        let name = (0..usize::from(shape.name_words)).map(|i| self.word(cell, HEAD_WORDS + i));
        entry::key(shape, name)
    }

    fn seen(&self, way: Way) -> Option<Seen> {
        let cell = match self.index.get(way) {
            0 => return None,
            way => cached::cell(way),
        };
        let shape = self.shape(cell);
        Some(Seen {
            key: self.key(cell)?.as_bytes().into(),
            stored: Time::from_nanos(self.word(cell, word::STORED)),
            until: Time::from_nanos(self.word(cell, word::UNTIL)),
            rcode: shape.flags.rcode(),
            records: Counts::unpack(self.word(cell, word::COUNTS)).records,
            covers_below: shape.covers_below,
            bytes: u64::from(self.span(cell).cells) * CELL as u64,
            hits: self.index.hits(way),
        })
    }
}

/// What became of an entry that had to leave its place.
enum Left {
    /// It shall have another one.
    Kept(Encoded),
    /// It is out, for want of room.
    Evicted,
    /// It was not there any more, or had expired.
    Gone,
}

/// Entries on their way to the main queue, and how many of them were there before.
#[derive(Default)]
struct Moving {
    entries: Vec<Encoded>,
    rounds: usize,
}
