//! The durable segment log: indexed bytes in preallocated files, appended with group commit.
//!
//! It knows nothing of what the bytes mean. Its directory belongs to it alone:
//!
//! ```text
//! cells                       small values that are replaced: how far the log reached, vote, committed index
//! 0000000000000001.segment    header, records, zeros
//! 0000000000000002.segment    … the last one with records is being filled
//! 0000000000000003.segment    spare: zeros, ready to be begun
//! ```
//!
//! A log is append-only down to its truncations and purges, which are records themselves, so what a crash
//! leaves is a prefix of what was done and nothing truncated can come back. Two threads own the files: the
//! writer appends and syncs, the preparer keeps zeroed spare segments ahead. Segments being files of zeros,
//! the sync of an append writes no metadata, damage is found record by record, and whether a write has room is
//! known before it is begun: a full disk refuses an append and takes nothing from the log.
//!
//! What always holds:
//! - Success is reported only for what is on disk, together with all that was asked for before it.
//! - A place that was on disk and is not valid is damage and is reported; only what was never acknowledged is
//!   cut off.
//! - A refused request has changed nothing. A failed sync ends the log until it is opened anew.

mod cells;
mod disk;
mod error;
mod format;
mod index;
mod read;
mod recovery;
mod shared;
#[cfg(test)]
pub(crate) mod sim_disk;
mod spares;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;

pub use error::{OpenError, ReadError};

use disk::{Directory, Disk};
use format::FIRST_RECORD;
use read::Plan;
use shared::Shared;
use spares::Preparer;
use state::State;
use writer::Writer;

/// Called once, on a thread of the log or on the caller's own when the request is refused at once. It must not
/// block: all that is written waits for it.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How large things are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a segment file in bytes.
    pub segment_bytes: u64,
    /// Payload bytes of the newest entries that are kept in memory.
    pub cache_bytes: usize,
    /// The largest payload in bytes.
    pub max_record_bytes: usize,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log; indexes have no gaps.
    pub index: u64,
    /// What it says.
    pub payload: Bytes,
}

/// Up to where the log was purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last index that is gone.
    pub index: u64,
    /// What the caller wants to know about it; at most 1024 bytes.
    pub bytes: Bytes,
}

/// A small value that is replaced rather than appended; at most 1024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Durable when its save is reported, and kept twice.
    Vote,
    /// A hint: saving it waits for no sync, and a crash of the machine may take it back or lose it.
    Committed,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The index of the first entry, or of the one to be appended if there is none.
    pub first: u64,
    /// The index of the last entry; none when there are no entries.
    pub last: Option<u64>,
    /// Up to where the log was purged.
    pub purged: Option<Mark>,
    /// Bytes of a write that was never acknowledged and has been cut off.
    pub cut_bytes: u64,
}

/// A handle to an open log. Clones are cheap and mean the same log; it is closed by [`close`](Log::close) or, in
/// the background, when the last handle is dropped.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    log: u64,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<io::Result<()>>,
    preparer: JoinHandle<()>,
}

/// The parts of an open log before they are given threads.
struct Parts {
    shared: Arc<Shared>,
    writer: Writer,
    preparer: Preparer,
    log: u64,
    recovered: Recovered,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, cache_bytes: 4 << 20, max_record_bytes: 8 << 20 }
    }
}

impl Options {
    /// Bytes of the last prepared segment that appends leave to truncations and purges.
    fn reserve(&self) -> u64 {
        (self.segment_bytes / 16).min(64 << 10)
    }

    fn validate(&self) -> Result<(), OpenError> {
        let largest = format::cost(self.max_record_bytes).max(format::cost(cells::MAX_VALUE_BYTES));
        if u32::try_from(self.max_record_bytes).is_err() {
            return Err(OpenError::Options("max_record_bytes must be below 4 GiB"));
        }
        if FIRST_RECORD + largest + self.reserve() > self.segment_bytes {
            return Err(OpenError::Options("segment_bytes is too small for a record of max_record_bytes"));
        }
        Ok(())
    }
}

/// How much of the disk a log takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Segments with entries in them.
    pub(crate) segments: u64,
    /// Segments that are prepared.
    pub(crate) spares: u64,
    /// Length of all segment files.
    pub(crate) bytes: u64,
}

impl Log {
    /// Opens the log in `dir`, or makes one there. `must_reach` is an index that the caller knows to have been
    /// durable: a log that ends before it has been damaged. Blocks for as long as it takes to read all segments.
    ///
    /// A disk too full for a spare segment is no error: [`room`](Self::room) tells.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        options: Options,
        must_reach: Option<u64>,
    ) -> Result<(Self, Recovered), OpenError> {
        let disk = Directory::open(dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
            _ => OpenError::Io { action: "open", path: dir.to_owned(), source },
        })?;
        Self::open_on(Arc::new(disk), options, must_reach)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
        must_reach: Option<u64>,
    ) -> Result<(Self, Recovered), OpenError> {
        let dir = disk.path("");
        let unstarted = |source| OpenError::Io { action: "start threads for", path: dir.clone(), source };
        let Parts { shared, writer, preparer, log, recovered } = Parts::open(disk, options, must_reach)?;
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer = named("log-writer").spawn(move || writer.run()).map_err(unstarted)?;
        let preparer = named("log-preparer").spawn(move || preparer.run()).map_err(|source| {
            shared.close();
            unstarted(source)
        })?;
        let threads = Mutex::new(Some(Threads { writer, preparer }));
        Ok((Self { inner: Arc::new(Inner { shared, log, threads }) }, recovered))
    }

    /// Appends entries, the first of which must have the index behind the last. They can be read at once; `done`
    /// is called when they are on disk. Waits only when 32 MiB are waiting to be written already.
    ///
    /// `done` gets `StorageFull` for more than [`room`](Self::room) and `InvalidInput` for a wrong index or
    /// too large a record: then nothing has changed. Any other error ends the log.
    pub fn append(&self, records: Vec<Record>, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.inner.shared.append(records, Box::new(done));
    }

    /// Removes all entries from `index` on, for readers at once; `done` is called when they are durably gone.
    /// Errors as with [`append`](Self::append); `InvalidInput` for an index that is purged.
    pub fn truncate_from(&self, index: u64, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.inner.shared.truncate(index, Box::new(done));
    }

    /// Removes all entries up to and with the mark's index, which may lie behind the last entry: then the next
    /// append starts behind it. `done` is called when the mark is on disk. Errors as with
    /// [`append`](Self::append).
    pub fn purge_to(&self, mark: Mark, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.inner.shared.purge(mark, Box::new(done));
    }

    /// Replaces a small value; needs no room on the disk. `done` is called when it is as durable as [`Cell`] says.
    pub fn save(&self, cell: Cell, value: Bytes, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.inner.shared.save(cell, value, Box::new(done));
    }

    /// The value that was saved last, if one ever was.
    pub fn load(&self, cell: Cell) -> Option<Bytes> {
        let state = self.inner.shared.lock();
        match cell {
            Cell::Vote => state.vote.clone(),
            Cell::Committed => state.committed.clone(),
        }
    }

    /// The entries of `range` that exist, as many from its start as hold at most `limit_bytes` of payload, but at
    /// least one. What is not in memory is read on a blocking thread of the runtime.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let plan = Plan::new(&self.inner.shared.lock(), range, limit_bytes)?;
        if plan.in_memory() {
            return plan.carry_out(&self.inner.shared, self.inner.log);
        }
        let inner = self.inner.clone();
        let read = tokio::task::spawn_blocking(move || plan.carry_out(&inner.shared, inner.log));
        read.await.unwrap_or(Err(ReadError::Cancelled))
    }

    /// As [`read`](Self::read), on this thread.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_blocking(&self, range: Range<u64>, limit_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let plan = Plan::new(&self.inner.shared.lock(), range, limit_bytes)?;
        plan.carry_out(&self.inner.shared, self.inner.log)
    }

    /// The index of the first entry and that of the next one to be appended.
    pub fn bounds(&self) -> Range<u64> {
        let state = self.inner.shared.lock();
        state.index.first()..state.index.next()
    }

    /// Up to where the log is purged.
    pub fn purged(&self) -> Option<Mark> {
        self.inner.shared.lock().index.purged().cloned()
    }

    /// How much is certain to be accepted now: records whose [`cost`](Self::cost)s add up to no more than this
    /// will not be refused for want of room. Grows again as segments are prepared, which on a full disk is
    /// tried twice a second.
    pub fn room(&self) -> u64 {
        self.inner.shared.lock().room()
    }

    /// How long each sync of entries took, in seconds.
    pub(crate) fn fsync_seconds(&self) -> &Histogram {
        &self.inner.shared.fsync_seconds
    }

    /// How much of the disk is taken.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.inner.shared.lock();
        let bytes = state.segments.iter().chain(&state.spares).chain(&state.retired).map(|s| s.size).sum();
        Usage { segments: state.segments.len() as u64, spares: state.spares.len() as u64, bytes }
    }

    /// Bytes that a record with so long a payload takes of [`room`](Self::room).
    pub const fn cost(payload_bytes: usize) -> u64 {
        format::cost(payload_bytes)
    }

    /// Does what is still queued, notes that the log ends there, ends the threads and frees the directory. Requests from now on are
    /// refused with `BrokenPipe`. Blocks; must not be called from a callback of the log.
    ///
    /// # Errors
    /// The failure that had ended the log before, or that of the last write.
    pub fn close(&self) -> io::Result<()> {
        self.inner.shared.close();
        let threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { writer, preparer }) = threads else { return Ok(()) };
        let panicked = || io::Error::other("a thread of the log has panicked");
        let prepared = preparer.join().map_err(|_| panicked());
        writer.join().map_err(|_| panicked())??;
        prepared.and_then(|()| self.inner.shared.disk.release())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Log").field("bounds", &self.bounds()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The threads end by themselves; joining could be a thread waiting for itself.
        self.shared.close();
    }
}

impl Parts {
    fn open(disk: Arc<dyn Disk>, options: Options, must_reach: Option<u64>) -> Result<Self, OpenError> {
        options.validate()?;
        let opened = recovery::open(disk.as_ref(), options.segment_bytes, must_reach)?;
        let recovered = Recovered {
            first: opened.index.first(),
            last: (opened.index.next() > opened.index.first()).then(|| opened.index.next() - 1),
            purged: opened.index.purged().cloned(),
            cut_bytes: opened.cut_bytes,
        };
        let mut state = State::new(options, opened.index, opened.segments, opened.tail.end);
        state.spares = opened.spares;
        state.vote = opened.cells.value(cells::Name::Vote);
        state.committed = opened.cells.value(cells::Name::Committed);
        let log = opened.cells.log();
        let shared = Arc::new(Shared::new(disk, state));
        let preparer = Preparer::new(shared.clone());
        if shared.lock().spares.is_empty() {
            // So that a new log has room from the start; on a full disk the preparer tries again.
            if let Err(error) = preparer.turn() {
                tracing::warn!(%error, "no segment of the log can be prepared");
            }
        }
        let writer = Writer::new(shared.clone(), opened.cells, opened.tail);
        Ok(Self { shared, writer, preparer, log, recovered })
    }
}
