//! The one that writes: carries out what was planned, in order, with one sync for all that was waiting.
//!
//! What always holds:
//! - A callback hears of success only after a sync that covers its request and all before it.
//! - A segment is begun only after a sync of the one before, so the header of a segment is evidence that all of
//!   the one before was on disk.
//! - After a failed write or sync nothing is written any more: the kernel may have dropped what it could not
//!   write, so trying again could report as durable what is not.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::cells::{Anchor, Cells, Name};
use super::format::{Draft, FIRST_RECORD, Frame, Header};
use super::shared::Shared;
use super::state::{Op, Segment};

/// Encoded bytes that are gathered before they are handed to the system.
const BUFFER_BYTES: usize = 4 << 20;

/// Where the log ends.
#[derive(Clone, Default)]
pub(super) struct Tail {
    /// The segment being filled; none in a log without records.
    pub(super) segment: Option<Segment>,
    /// Where its records end, and the checksum of the last.
    pub(super) end: u64,
    pub(super) crc: u32,
}

/// Owns the ends of the files.
pub(super) struct Writer {
    shared: Arc<Shared>,
    cells: Cells,
    tail: Tail,
    /// Offset up to which the segment is known to be on disk.
    durable: u64,
    /// Encoded and not yet written: the bytes before `tail.end`.
    buffer: Vec<u8>,
    /// Whether there are bytes below `tail.end` that no sync has covered.
    dirty: bool,
}

impl Tail {
    pub(super) fn anchor(&self, clean: bool) -> Anchor {
        let segment = self.segment.as_ref().map_or(0, |segment| segment.number);
        Anchor { clean, segment, end: self.end, crc: self.crc }
    }
}

impl Writer {
    /// A writer that goes on at `tail`, all of which is on disk.
    pub(super) fn new(shared: Arc<Shared>, cells: Cells, tail: Tail) -> Self {
        let durable = tail.end;
        Self { shared, cells, tail, durable, buffer: Vec::new(), dirty: false }
    }

    /// Works until the log is closed; then leaves the mark of a clean end.
    pub(super) fn run(mut self) -> io::Result<()> {
        let guard = PanicGuard(self.shared.clone());
        loop {
            let batch = self.shared.wait_for_work();
            if batch.is_empty() {
                break;
            }
            self.turn(batch);
        }
        drop(guard);
        self.close()
    }

    /// Carries out one batch and tells whoever waits for it.
    pub(super) fn turn(&mut self, batch: Vec<Op>) {
        let mut waiting = Vec::new();
        let mut keep_from = 0;
        let mut result = Ok(());
        for op in batch {
            match op {
                Op::Tell(done) => waiting.push(done),
                Op::Retire(number) => keep_from = number,
                op => result = result.and_then(|()| self.carry_out(op)),
            }
        }
        match result.and_then(|()| self.sync()) {
            Ok(()) => {
                let segment = self.tail.segment.as_ref().map_or(0, |segment| segment.number);
                self.shared.written((segment, self.tail.end), keep_from);
                waiting.into_iter().for_each(|done| done(Ok(())));
            }
            Err(error) => {
                tracing::error!(%error, "the log cannot be written any more");
                let rest = self.shared.fail(&error);
                waiting.into_iter().for_each(|done| done(Err(again(&error))));
                refuse(rest, &error);
            }
        }
    }

    /// Leaves the mark of a clean end, unless the log has failed.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.shared.lock().healthy()?;
        self.cells.save(Name::Anchor, self.tail.anchor(true).encode())
    }

    fn carry_out(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Begin { segment, next_index } => self.begin(segment, next_index),
            Op::Write { kind, index, payload } => {
                let Some(segment) = self.tail.segment.as_ref() else { return Err(unplanned()) };
                let frame = Frame { log: self.cells.log(), segment: segment.number };
                let (before, durable) = (self.tail.crc, self.durable);
                let draft = Draft { kind, index, before, durable, payload: &payload };
                let start = self.buffer.len();
                self.tail.crc = draft.encode(frame, self.tail.end, &mut self.buffer);
                self.tail.end += (self.buffer.len() - start) as u64;
                if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
            }
            Op::Save { name, value } => {
                // Whoever sees the value saved sees all before it on disk as well.
                if name != Name::Committed {
                    self.sync()?;
                }
                self.cells.save(name, value)
            }
            Op::Retire(_) | Op::Tell(_) => Err(unplanned()),
        }
    }

    fn begin(&mut self, segment: Segment, next_index: u64) -> io::Result<()> {
        self.sync()?;
        let header = Header {
            frame: Frame { log: self.cells.log(), segment: segment.number },
            size: segment.size,
            next_index,
            before_end: self.tail.end,
            before_crc: self.tail.crc,
        };
        let (bytes, crc) = header.encode();
        segment.file.write_at(&bytes, 0)?;
        self.tail = Tail { segment: Some(segment), end: FIRST_RECORD, crc };
        self.durable = 0;
        self.dirty = true;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(segment) = self.tail.segment.as_ref().filter(|_| !self.buffer.is_empty()) else {
            return Ok(());
        };
        segment.file.write_at(&self.buffer, self.tail.end - self.buffer.len() as u64)?;
        self.buffer.clear();
        self.dirty = true;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        let Some(segment) = self.tail.segment.as_ref().filter(|_| self.dirty) else { return Ok(()) };
        let began = Instant::now();
        segment.file.sync()?;
        self.shared.fsync_seconds.observe(began.elapsed().as_secs_f64());
        self.durable = self.tail.end;
        self.dirty = false;
        Ok(())
    }
}

/// Stops the log when the writer panics, so that no one waits for it for ever.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = io::Error::other("the thread that writes the log has panicked");
            refuse(self.0.fail(&error), &error);
        }
    }
}

fn refuse(ops: Vec<Op>, error: &io::Error) {
    for op in ops {
        if let Op::Tell(done) = op {
            done(Err(again(error)));
        }
    }
}

fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn unplanned() -> io::Error {
    io::Error::other("the log was asked to write where nothing was planned")
}
