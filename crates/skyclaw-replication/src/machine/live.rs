//! Telling those who follow all changes as they are applied.
//!
//! The machine puts what is told of the entries that it applies together at once into a channel that keeps the
//! newest only and never waits. Who reads too slowly is told so, and finds the rest in the database. While nobody
//! follows, nothing is put together at all.

use std::sync::Arc;

use skyclaw_core::Notice;
use skyclaw_proto::{EventId, record};
use tokio::sync::broadcast;

/// How many parts are kept for those who read more slowly.
const PARTS: usize = 256;
/// Most changes in one part.
const PART: usize = 256;
/// About how many bytes a part is bounded to.
const PART_BYTES: usize = 64 * 1024;

/// Changes in their order. Without any it says that the database is to be read: the whole state is another.
pub(crate) type Part = Arc<Vec<record::Notice>>;

/// What the machine tells.
#[derive(Debug)]
pub(crate) struct Live {
    parts: broadcast::Sender<Part>,
    unsent: Vec<record::Notice>,
    unsent_bytes: usize,
}

impl Default for Live {
    fn default() -> Self {
        Self { parts: broadcast::Sender::new(PARTS), unsent: Vec::new(), unsent_bytes: 0 }
    }
}

impl Live {
    /// Follows what is applied from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Part> {
        self.parts.subscribe()
    }

    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.parts.receiver_count() > 0
    }

    /// Adds what is told of a change.
    pub(crate) fn add(&mut self, id: EventId, notice: &Notice) {
        self.unsent_bytes += notice.approx_bytes();
        self.unsent.push(notice.told(id));
        if self.unsent.len() >= PART || self.unsent_bytes >= PART_BYTES {
            self.tell();
        }
    }

    /// Sends what was added: it is applied.
    pub(crate) fn tell(&mut self) {
        self.unsent_bytes = 0;
        if !self.unsent.is_empty() {
            // Nobody to hear it is no fault.
            let _ = self.parts.send(Arc::new(std::mem::take(&mut self.unsent)));
        }
    }

    /// Has everyone look at the database.
    pub(crate) fn refresh(&mut self) {
        self.unsent.clear();
        self.unsent_bytes = 0;
        let _ = self.parts.send(Part::default());
    }
}
