//! The newest entries of the log as values, so that what was just appended need not be decoded to be sent
//! on or applied.
//!
//! What always holds: entries lie next to each other and are those that the log itself would return; what
//! is not here is read from the log.

use std::collections::VecDeque;
use std::ops::Range;

use super::types::Entry;

/// Bytes of entries, as they are in the log, that are kept.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The newest entries of the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// With the length of each in the log.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    /// Takes in an entry that is appended.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        let follows = self.entries.back().is_none_or(|(last, _)| last.log_id.index + 1 == entry.log_id.index);
        if !follows {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    /// Everything from an index on is gone.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|(last, _)| last.log_id.index >= from) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Everything up to and with an index is gone.
    pub(super) fn purge(&mut self, to: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.log_id.index <= to) {
            self.drop_oldest();
        }
    }

    /// The entries of a range, as many from its start as hold at most `limit` bytes, but at least one.
    /// `None` when the first is not here; it may be in the log.
    pub(super) fn read(&self, range: &Range<u64>, limit: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.0.log_id.index;
        let skip = usize::try_from(range.start.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let within = self.entries.iter().skip(skip).take_while(|(entry, size)| {
            let is_first = bytes == 0;
            bytes += size;
            entry.log_id.index < range.end && (is_first || bytes <= limit)
        });
        let entries: Vec<Entry> = within.map(|(entry, _)| entry.clone()).collect();
        (!entries.is_empty()).then_some(entries)
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::LogId;
    use openraft::{EntryPayload, LeaderId};

    fn entry(index: u64) -> Entry {
        Entry { log_id: LogId::new(LeaderId::new(1, 1), index), payload: EntryPayload::Blank }
    }

    fn recent(indexes: Range<u64>) -> Recent {
        let mut recent = Recent::default();
        indexes.for_each(|index| recent.push(entry(index), 10));
        recent
    }

    fn read(recent: &Recent, range: Range<u64>, limit: usize) -> Option<Vec<u64>> {
        Some(recent.read(&range, limit)?.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn what_was_appended_is_read_within_the_limit_and_at_least_one() {
        let recent = recent(5..9);
        assert_eq!(read(&recent, 5..9, 1000), Some(vec![5, 6, 7, 8]));
        assert_eq!(read(&recent, 6..8, 1000), Some(vec![6, 7]));
        assert_eq!(read(&recent, 6..9, 25), Some(vec![6, 7]));
        assert_eq!(read(&recent, 6..9, 1), Some(vec![6]));
    }

    #[test]
    fn what_is_not_here_is_left_to_the_log() {
        let recent = recent(5..9);
        assert_eq!(read(&recent, 4..9, 1000), None);
        assert_eq!(read(&recent, 9..12, 1000), None);
        assert_eq!(read(&Recent::default(), 0..3, 1000), None);
    }

    #[test]
    fn what_was_truncated_or_purged_is_gone_and_can_be_replaced() {
        let mut recent = recent(5..9);
        recent.truncate(7);
        assert_eq!(read(&recent, 5..9, 1000), Some(vec![5, 6]));
        recent.push(entry(7), 10);
        recent.purge(5);
        assert_eq!((read(&recent, 5..9, 1000), read(&recent, 6..9, 1000)), (None, Some(vec![6, 7])));
        recent.truncate(0);
        assert_eq!((recent.entries.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn a_gap_leaves_only_what_is_behind_it() {
        let mut recent = recent(5..7);
        recent.push(entry(20), 10);
        assert_eq!((read(&recent, 5..21, 1000), read(&recent, 20..21, 1000)), (None, Some(vec![20])));
        assert_eq!(recent.bytes, 10);
    }

    #[test]
    fn the_oldest_make_way_for_the_newest() {
        let mut recent = Recent::default();
        (0..4).for_each(|index| recent.push(entry(index), MAX_BYTES / 3));
        assert_eq!(recent.entries.front().map(|(first, _)| first.log_id.index), Some(1));
        assert!(recent.bytes <= MAX_BYTES);
    }
}
