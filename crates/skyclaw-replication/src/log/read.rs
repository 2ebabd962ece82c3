//! Reading entries back: from memory where they are recent, else from the files.
//!
//! What to read is decided under the lock, the files are read without it. A segment can be retired and zeroed
//! meanwhile; a record that is not valid is therefore damage only if it is still wanted after the read.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::Record;
use super::error::ReadError;
use super::format::{Found, Frame, Kind, cost};
use super::index::Place;
use super::shared::Shared;
use super::spares::segment_name;
use super::state::{Segment, State};

/// What a read will return, and where from.
pub(super) struct Plan {
    /// Index of the first entry.
    first: u64,
    /// Entries that are on disk only, in runs that lie next to each other.
    runs: Vec<Run>,
    /// The entries behind them, from memory.
    recent: Vec<Record>,
}

/// Entries next to each other in one segment.
struct Run {
    segment: Segment,
    places: Vec<Place>,
}

impl Plan {
    /// Plans to read as many entries of `range` as hold at most `limit_bytes` of payload, but at least one.
    pub(super) fn new(state: &State, range: Range<u64>, limit_bytes: usize) -> Result<Self, ReadError> {
        let first = range.start;
        let mut plan = Self { first, runs: Vec::new(), recent: Vec::new() };
        if first < state.index.first() && !range.is_empty() {
            return Err(ReadError::Purged { first: state.index.first() });
        }
        let mut bytes = 0;
        for index in first..range.end.min(state.index.next()) {
            let Some(place) = state.index.place(index) else { break };
            bytes += place.payload_bytes as usize;
            if bytes > limit_bytes && index > first {
                break;
            }
            match state.recent(index) {
                Some(payload) => plan.recent.push(Record { index, payload: payload.clone() }),
                None => plan.add(state, place),
            }
        }
        Ok(plan)
    }

    /// Whether nothing has to be read from files.
    pub(super) fn in_memory(&self) -> bool {
        self.runs.is_empty()
    }

    /// Reads the files.
    pub(super) fn carry_out(self, shared: &Shared, log: u64) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let mut index = self.first;
        for run in &self.runs {
            if let Err(error) = run.read(shared, log, &mut index, &mut records) {
                // Purged while we were reading: that is the better answer.
                let first = shared.lock().index.first();
                return Err(if first > index { ReadError::Purged { first } } else { error });
            }
        }
        records.extend(self.recent);
        Ok(records)
    }

    fn add(&mut self, state: &State, place: Place) {
        if let Some(run) = self.runs.last_mut()
            && let Some(last) = run.places.last()
            && last.segment == place.segment
            && last.offset + cost(last.payload_bytes as usize) == place.offset
        {
            run.places.push(place);
        } else if let Some(segment) = state.segment(place.segment) {
            self.runs.push(Run { segment: segment.clone(), places: vec![place] });
        }
    }
}

impl Run {
    fn read(
        &self,
        shared: &Shared,
        log: u64,
        index: &mut u64,
        records: &mut Vec<Record>,
    ) -> Result<(), ReadError> {
        let path = || shared.disk.path(&segment_name(self.segment.number));
        let start = self.places.first().map_or(0, |place| place.offset);
        let total: u64 = self.places.iter().map(|place| cost(place.payload_bytes as usize)).sum();
        let mut bytes = vec![0; usize::try_from(total).unwrap_or(usize::MAX)];
        let read: io::Result<()> = self.segment.file.read_at(&mut bytes, start);
        read.map_err(|source| ReadError::Io { path: path(), source })?;
        let bytes = Bytes::from(bytes);
        let frame = Frame { log, segment: self.segment.number };
        for place in &self.places {
            let at = usize::try_from(place.offset - start).unwrap_or(usize::MAX);
            let found = Found::decode(&bytes[at..], frame, place.offset)
                .filter(|found| found.kind == Kind::Entry && found.index == *index)
                .ok_or_else(|| ReadError::Damaged { path: path(), offset: place.offset })?;
            records.push(Record { index: *index, payload: bytes.slice_ref(found.payload) });
            *index += 1;
        }
        Ok(())
    }
}
