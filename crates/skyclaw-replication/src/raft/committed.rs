//! How far the log is known to be committed: a hint that spares a restarted node to wait for a leader.
//!
//! After a crash the database lies behind what was applied: by milliseconds when the process died, by all
//! since the last checkpoint when the power went. What the log has committed is applied again by the first
//! leader that is heard of; with the hint the node does so by itself when it starts, and answers reads from
//! a state no older than what it has shown, also while it is cut off.
//!
//! The hint may be old or lost, never ahead: an index is noted only once it was committed, and what is
//! committed here is on this node's disk. It costs no write of its own, as it goes with the next append.

use crate::log::{Cell, Log};

use super::types::LogId;

/// The committed place, and whether it is written down.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    unsaved: Option<LogId>,
}

impl Committed {
    /// Notes a place to be written down with the next append.
    pub(super) fn note(&mut self, committed: Option<LogId>) {
        self.unsaved = committed.or(self.unsaved);
    }

    /// Has the log write down what was noted, together with what is appended next. Nobody waits for a hint.
    pub(super) fn save(&mut self, log: &Log) {
        let Some(encoded) = self.unsaved.take().and_then(|id| rmp_serde::to_vec(&id).ok()) else { return };
        log.save(Cell::Committed, encoded.into(), |_| ());
    }

    /// The newest place that is known, as far as the log really has it.
    pub(super) fn known(&self, log: &Log) -> Option<LogId> {
        // A hint that cannot be read is none.
        let saved = || log.load(Cell::Committed).and_then(|bytes| rmp_serde::from_slice(&bytes).ok());
        self.unsaved.or_else(saved).filter(|committed: &LogId| committed.index < log.bounds().end)
    }
}
