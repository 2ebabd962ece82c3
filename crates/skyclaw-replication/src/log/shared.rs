//! The monitor that the handles and the two threads of a log meet in.
//!
//! One lock around [`State`], held for planning and bookkeeping and never across IO: so an append is visible
//! to readers at once and a read of what is in memory does not wait for a sync in progress, which a queue to
//! the writer could not give. The lock is private to this module.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;

use super::disk::Disk;
use super::state::{Op, Segment, State};
use super::{Cell, Done, Mark, Record, cells};

/// Bytes that may wait for the writer before an append waits as well. Bounds memory and a batch.
const MAX_QUEUED_BYTES: u64 = 32 << 20;
/// Spare segments to keep ahead.
const SPARES: usize = 2;

/// The state of a log, its disk, and who waits for what.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    /// How long each sync of a segment took.
    pub(super) fsync_seconds: Histogram,
    state: Mutex<State>,
    /// The writer waits here for operations.
    work: Condvar,
    /// The preparer of spares waits here.
    chores: Condvar,
    /// Appends wait here for the writer to take what is queued.
    taken: Condvar,
}

/// What the preparer of spares has to do next.
pub(super) struct Chore {
    /// A segment that is not needed any more.
    pub(super) retired: Option<Segment>,
    /// The number of a spare that is wanted.
    pub(super) wanted: Option<u64>,
    /// How long a segment is.
    pub(super) segment_bytes: u64,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, state: State) -> Self {
        let (work, chores, taken) = Default::default();
        Self { disk, fsync_seconds: crate::metrics::seconds(), state: Mutex::new(state), work, chores, taken }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug in planning; the writer's guard stops the log on its own panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, records: Vec<Record>, done: Done) {
        let mut state = self.lock();
        while state.queued_bytes > MAX_QUEUED_BYTES && state.usable().is_ok() {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let planned = state.append(records);
        self.submit(state, planned, done);
    }

    pub(super) fn truncate(&self, index: u64, done: Done) {
        let mut state = self.lock();
        let planned = state.truncate(index);
        self.submit(state, planned, done);
    }

    pub(super) fn purge(&self, mark: Mark, done: Done) {
        let mut state = self.lock();
        let planned = state.purge(mark);
        self.submit(state, planned, done);
    }

    pub(super) fn save(&self, cell: Cell, value: Bytes, done: Done) {
        let mut state = self.lock();
        let mut planned = state.usable();
        if value.len() > cells::MAX_VALUE_BYTES {
            planned = Err(io::Error::new(io::ErrorKind::InvalidInput, "the value of a cell is too large"));
        }
        if planned.is_ok() {
            let name = match cell {
                Cell::Vote => {
                    state.vote = Some(value.clone());
                    cells::Name::Vote
                }
                Cell::Committed => {
                    state.committed = Some(value.clone());
                    cells::Name::Committed
                }
            };
            state.queue.push(Op::Save { name, value });
        }
        self.submit(state, planned, done);
    }

    /// Hands what was planned to the writer, or tells of the refusal on this thread.
    fn submit(&self, mut state: MutexGuard<'_, State>, planned: io::Result<()>, done: Done) {
        match planned {
            Ok(()) => {
                state.queue.push(Op::Tell(done));
                let short = state.spares.len() < SPARES;
                drop(state);
                self.work.notify_one();
                if short {
                    self.chores.notify_one();
                }
            }
            Err(error) => {
                drop(state);
                done(Err(error));
            }
        }
    }

    /// Ends the log: what is queued is still done.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_all();
        self.chores.notify_all();
        self.taken.notify_all();
    }

    /// All that is queued, without waiting.
    pub(super) fn take(&self) -> Vec<Op> {
        let mut state = self.lock();
        // To wake is a call to the system, whether someone waits or not.
        if state.queued_bytes > MAX_QUEUED_BYTES {
            self.taken.notify_all();
        }
        state.queued_bytes = 0;
        std::mem::take(&mut state.queue)
    }

    /// All that is queued, once something is; nothing when the log is closed.
    pub(super) fn wait_for_work(&self) -> Vec<Op> {
        let state = self.lock();
        let idle = |state: &mut State| state.queue.is_empty() && !state.closing;
        drop(self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner));
        self.take()
    }

    /// Takes note of a batch that is durable up to `written`.
    pub(super) fn written(&self, written: (u64, u64), keep_from: u64) {
        let mut state = self.lock();
        state.set_written(written);
        state.retire(keep_from);
        let is_due = chore(&state).is_some();
        drop(state);
        if is_due {
            self.chores.notify_one();
        }
    }

    /// Stops the log for good and returns what will not be done any more.
    pub(super) fn fail(&self, error: &io::Error) -> Vec<Op> {
        self.lock().fail(error);
        self.take()
    }

    pub(super) fn chore(&self) -> Option<Chore> {
        chore(&self.lock())
    }

    /// Waits for something to do, at least `pause`; false when the log is closed.
    pub(super) fn wait_for_chore(&self, pause: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .chores
            .wait_timeout_while(state, pause, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| chore(state).is_none() && !state.closing;
        let state = self.chores.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        !state.closing
    }

    /// The oldest retired segment has lost its name.
    pub(super) fn forget_retired(&self) {
        self.lock().retired.pop_front();
    }

    pub(super) fn add_spare(&self, spare: Segment) {
        self.lock().spares.push_back(spare);
    }
}

fn chore(state: &State) -> Option<Chore> {
    let retired = state.retired.front().cloned();
    let wanted = (state.spares.len() < SPARES).then(|| state.next_number());
    (retired.is_some() || wanted.is_some()).then_some(Chore {
        retired,
        wanted,
        segment_bytes: state.options.segment_bytes,
    })
}
