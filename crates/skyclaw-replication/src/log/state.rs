//! What the log is and will be: a plain value that plans every write before any of it is made.
//!
//! An append is given its places in the prepared segments, or refused, at the moment it is asked for. So a full
//! disk refuses whole requests, later requests build on a state that is certain, and the writer has nothing
//! to decide. Nothing in here does IO.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;
use super::format::{FIRST_RECORD, Kind, cost};
use super::index::{Index, Place};
use super::{Done, Mark, Options, Record, cells};

/// A segment file.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Length of the file in bytes.
    pub(super) size: u64,
    pub(super) file: Arc<dyn DiskFile>,
}

/// What the writer has to do, in this order.
pub(super) enum Op {
    /// Go on in this segment, from its start.
    Begin { segment: Segment, next_index: u64 },
    /// Add a record.
    Write { kind: Kind, index: u64, payload: Bytes },
    /// Replace a small value.
    Save { name: cells::Name, value: Bytes },
    /// Once all before is durable: give away the segments below this number.
    Retire(u64),
    /// Once all before is durable: tell.
    Tell(Done),
}

/// The state behind the lock of [`Shared`](super::shared::Shared).
pub(super) struct State {
    pub(super) options: Options,
    pub(super) index: Index,
    /// Payloads of the newest entries, up to the last.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    /// Segments with records, oldest first; the last is being filled up to `end`.
    pub(super) segments: VecDeque<Segment>,
    end: u64,
    /// Zeroed segments to come.
    pub(super) spares: VecDeque<Segment>,
    /// Segments without a live entry, oldest first.
    pub(super) retired: VecDeque<Segment>,
    pub(super) queue: Vec<Op>,
    pub(super) queued_bytes: u64,
    /// Segment and offset up to which the files hold what was planned.
    written: (u64, u64),
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) closing: bool,
    /// The first failure of the disk; there is no way on from it but opening the log anew.
    fault: Option<(io::ErrorKind, String)>,
}

impl State {
    pub(super) fn new(options: Options, index: Index, segments: VecDeque<Segment>, end: u64) -> Self {
        let written = (segments.back().map_or(0, |last| last.number), end);
        Self {
            options,
            index,
            recent: VecDeque::new(),
            recent_bytes: 0,
            segments,
            end,
            spares: VecDeque::new(),
            retired: VecDeque::new(),
            queue: Vec::new(),
            queued_bytes: 0,
            written,
            vote: None,
            committed: None,
            closing: false,
            fault: None,
        }
    }

    /// Plans an append.
    ///
    /// # Errors
    /// `InvalidInput` for a gap or a record too large, `StorageFull` beyond [`room`](Self::room), and what
    /// [`usable`](Self::usable) says. Nothing has changed then.
    pub(super) fn append(&mut self, records: Vec<Record>) -> io::Result<()> {
        self.usable()?;
        for (record, expected) in records.iter().zip(self.index.next()..) {
            if record.index != expected {
                let text = format!("the log expects index {expected}, not {}", record.index);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            if record.payload.len() > self.options.max_record_bytes {
                let text = format!("a record has at most {} bytes", self.options.max_record_bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        if !records.is_empty() && !self.admits(records.iter().map(|record| cost(record.payload.len()))) {
            return Err(full());
        }
        for Record { index, payload } in records {
            let place = self.write(Kind::Entry, index, payload.clone())?;
            self.index.push(place);
            self.recent_bytes += payload.len();
            self.recent.push_back(payload);
        }
        self.evict();
        Ok(())
    }

    /// Plans the removal of `index..`.
    ///
    /// # Errors
    /// `InvalidInput` for purged entries, `StorageFull` when even the reserve is used up, and what
    /// [`usable`](Self::usable) says.
    pub(super) fn truncate(&mut self, index: u64) -> io::Result<()> {
        self.usable()?;
        if index < self.index.lowest() {
            let text = format!("index {index} is purged and cannot be truncated");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if index >= self.index.next() {
            return Ok(());
        }
        self.write(Kind::Truncate, index, Bytes::new())?;
        for _ in index..self.index.next() {
            let Some(payload) = self.recent.pop_back() else { break };
            self.recent_bytes -= payload.len();
        }
        self.index.truncate(index);
        Ok(())
    }

    /// Plans the removal of all up to and with the mark's index.
    ///
    /// # Errors
    /// As [`truncate`](Self::truncate); `InvalidInput` for a mark that is too large.
    pub(super) fn purge(&mut self, mark: Mark) -> io::Result<()> {
        self.usable()?;
        if mark.bytes.len() > cells::MAX_VALUE_BYTES || mark.index == u64::MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the mark of a purge is too large"));
        }
        if mark.index < self.index.lowest() {
            return Ok(());
        }
        let place = self.write(Kind::Purge, mark.index, mark.bytes.clone())?;
        self.index.purge(mark.index, mark.bytes);
        while self.recent.len() > self.live() {
            let Some(payload) = self.recent.pop_front() else { break };
            self.recent_bytes -= payload.len();
        }
        // The segment with this purge's record, the last one, stays until the next purge has a newer record.
        self.queue.push(Op::Retire(self.index.oldest_segment().unwrap_or(place.segment)));
        Ok(())
    }

    /// # Errors
    /// The failure that has stopped the log, or `BrokenPipe` after its end.
    pub(super) fn usable(&self) -> io::Result<()> {
        self.healthy()?;
        if self.closing {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed"));
        }
        Ok(())
    }

    /// # Errors
    /// The failure that has stopped the log.
    pub(super) fn healthy(&self) -> io::Result<()> {
        match &self.fault {
            Some((kind, text)) => Err(io::Error::new(*kind, format!("the log has failed: {text}"))),
            None => Ok(()),
        }
    }

    /// Bytes, counted by [`cost`], that are certain to be accepted in records of any allowed size.
    pub(super) fn room(&self) -> u64 {
        if self.usable().is_err() {
            return 0;
        }
        let largest = cost(self.options.max_record_bytes);
        let sizes = self.spares.iter().map(|spare| spare.size - FIRST_RECORD);
        let mut rests: Vec<u64> = std::iter::once(self.rest()).chain(sizes).collect();
        // A record that does not fit any more goes to the next segment and leaves up to its size unused.
        let last = rests.pop().unwrap_or(0);
        let before: u64 = rests.iter().map(|rest| rest.saturating_sub(largest)).sum();
        before + last.saturating_sub(self.options.reserve())
    }

    /// The number that the next spare segment gets.
    pub(super) fn next_number(&self) -> u64 {
        self.spares.back().or(self.segments.back()).map_or(1, |last| last.number + 1)
    }

    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let nth = number.checked_sub(self.segments.front()?.number)?;
        self.segments.get(usize::try_from(nth).ok()?)
    }

    /// The payload of an entry, if it is in memory.
    pub(super) fn recent(&self, index: u64) -> Option<&Bytes> {
        let nth = index.checked_sub(self.recent_first())?;
        self.recent.get(usize::try_from(nth).ok()?)
    }

    /// Takes note that the files hold all that was planned up to `written`.
    pub(super) fn set_written(&mut self, written: (u64, u64)) {
        self.written = written;
        self.evict();
    }

    /// Gives away the segments below `keep_from`.
    pub(super) fn retire(&mut self, keep_from: u64) {
        while let Some(oldest) = self.segments.pop_front_if(|oldest| oldest.number < keep_from) {
            self.retired.push_back(oldest);
        }
    }

    /// Stops the log for good: after a failed sync no one knows what is on disk.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.fault.get_or_insert_with(|| (error.kind(), error.to_string()));
    }

    fn live(&self) -> usize {
        usize::try_from(self.index.next() - self.index.first()).unwrap_or(usize::MAX)
    }

    fn recent_first(&self) -> u64 {
        self.index.next().saturating_sub(self.recent.len() as u64)
    }

    fn rest(&self) -> u64 {
        self.segments.back().map_or(0, |last| last.size - self.end)
    }

    /// Whether records of these costs fit and leave the reserve, which is for records that free room.
    fn admits(&self, costs: impl Iterator<Item = u64>) -> bool {
        let mut spares = self.spares.iter();
        let mut rest = self.rest();
        for cost in costs {
            if cost > rest {
                let Some(spare) = spares.next() else { return false };
                rest = spare.size - FIRST_RECORD;
            }
            let Some(less) = rest.checked_sub(cost) else { return false };
            rest = less;
        }
        spares.next().is_some() || rest >= self.options.reserve()
    }

    fn write(&mut self, kind: Kind, index: u64, payload: Bytes) -> io::Result<Place> {
        let cost = cost(payload.len());
        if cost > self.rest() {
            let segment = self.spares.pop_front().ok_or_else(full)?;
            self.end = FIRST_RECORD;
            self.segments.push_back(segment.clone());
            self.queue.push(Op::Begin { segment, next_index: self.index.next() });
        }
        let segment = self.segments.back().map_or(0, |last| last.number);
        let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let place = Place { segment, offset: self.end, payload_bytes };
        self.end += cost;
        self.queued_bytes += cost;
        self.queue.push(Op::Write { kind, index, payload });
        Ok(place)
    }

    /// Keeps the payloads in memory within their bound, but never drops one that no file holds yet.
    fn evict(&mut self) {
        while self.recent_bytes > self.options.cache_bytes {
            let oldest = self.index.place(self.recent_first());
            let in_file = oldest.is_some_and(|place| (place.segment, place.offset) < self.written);
            let Some(payload) = in_file.then(|| self.recent.pop_front()).flatten() else { break };
            self.recent_bytes -= payload.len();
        }
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the log has no prepared room left")
}
