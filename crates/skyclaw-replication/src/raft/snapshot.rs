//! Snapshots: places up to which the database holds the state durably, so that the log may forget.
//!
//! A snapshot is no copy. The database *is* the state, and making a snapshot means to bring it up to
//! date on disk.

use std::io;

use openraft::{RaftSnapshotBuilder, Snapshot, SnapshotMeta};

use super::types::{Place, RaftId, StorageError, TypeConfig};
use crate::machine::Machine;

/// What openraft holds in its hands when it has a snapshot: nothing, the database has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checkpointed;

/// Makes snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    pub(super) machine: Machine,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let place = self.checkpoint().await.map_err(|source| {
            StorageError::from_io_error(
                openraft::ErrorSubject::Snapshot(None),
                openraft::ErrorVerb::Write,
                source,
            )
        })?;
        Ok(Snapshot { meta: meta(&place), snapshot: Box::new(Checkpointed) })
    }
}

impl Builder {
    /// Brings the database up to date on disk, and says how far in the log that goes.
    async fn checkpoint(&self) -> io::Result<Place> {
        let written = self.machine.settle().await.map_err(io::Error::other)?;
        self.machine.store().checkpoint().await.map_err(io::Error::other)?;
        Place::of(written.position.as_ref()).map_err(io::Error::other)
    }
}

/// Names the snapshot of a place in the log.
fn meta(place: &Place) -> SnapshotMeta<RaftId, super::types::Member> {
    SnapshotMeta {
        last_log_id: place.log_id,
        last_membership: place.membership.clone(),
        snapshot_id: place.log_id.map_or_else(|| "empty".to_owned(), |id| id.to_string()),
    }
}
