//! Where each entry of the log lies: the meaning of the records, in one place for live use and for recovery.
//!
//! What always holds: the entries are `first..next` without a gap, in the order of their places.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Mark;

/// Where a record lies. Ordered as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) payload_bytes: u32,
}

/// The live entries and what was purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    first: u64,
    places: VecDeque<Place>,
    purged: Option<Mark>,
}

impl Index {
    /// An index without entries whose next one is `next`.
    pub(super) fn starting_at(next: u64) -> Self {
        Self { first: next, ..Self::default() }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    pub(super) fn purged(&self) -> Option<&Mark> {
        self.purged.as_ref()
    }

    /// The lowest index that entries may have: the one behind the purged ones.
    pub(super) fn lowest(&self) -> u64 {
        self.purged.as_ref().map_or(0, |mark| mark.index + 1)
    }

    pub(super) fn place(&self, index: u64) -> Option<Place> {
        let nth = index.checked_sub(self.first)?;
        self.places.get(usize::try_from(nth).ok()?).copied()
    }

    /// The segment of the oldest entry.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.places.front().map(|place| place.segment)
    }

    /// Adds the entry [`next`](Self::next).
    pub(super) fn push(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// Forgets `index..`. An index before the first one becomes the next one: in the records of a log whose
    /// oldest segments are gone, entries may be cut whose own records are not there any more.
    pub(super) fn truncate(&mut self, index: u64) {
        let keep = index.saturating_sub(self.first);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.first = self.first.min(index);
    }

    /// Forgets all up to and with `mark.index`, which may lie beyond the last entry.
    pub(super) fn purge(&mut self, index: u64, bytes: Bytes) {
        let next = self.next().max(index + 1);
        let first = self.first.max(index + 1);
        let gone = usize::try_from(first - self.first).unwrap_or(usize::MAX).min(self.places.len());
        self.places.drain(..gone);
        self.first = first;
        debug_assert_eq!(self.next(), next);
        self.purged = Some(Mark { index, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(entries: u64) -> Index {
        let mut index = Index::default();
        for nth in 0..entries {
            index.push(Place { segment: 1, offset: 512 + nth * 40, payload_bytes: 8 });
        }
        index
    }

    #[test]
    fn truncating_and_pushing_again_names_the_new_place() {
        let mut index = filled(3);
        index.truncate(1);
        assert_eq!(index.next(), 1);
        let new = Place { segment: 2, offset: 512, payload_bytes: 1 };
        index.push(new);
        assert_eq!((index.place(1), index.place(2)), (Some(new), None));
    }

    #[test]
    fn purging_beyond_the_end_moves_the_next_index() {
        let mut index = filled(3);
        index.purge(9, Bytes::new());
        assert_eq!((index.first(), index.next(), index.lowest(), index.oldest_segment()), (10, 10, 10, None));
    }

    #[test]
    fn a_purge_that_is_behind_the_first_entry_keeps_all() {
        let mut index = Index::starting_at(10);
        index.push(Place { segment: 1, offset: 512, payload_bytes: 0 });
        index.purge(3, Bytes::new());
        assert_eq!((index.first(), index.next()), (10, 11));
        index.truncate(5);
        assert_eq!((index.first(), index.next()), (5, 5));
    }
}
